/* What is left on a disk after a power failure, at any moment of its life.
 *
 *   powerlog mark NAME OUT         copies a guest's console from standard input to OUT; "ack N" in
 * it becomes a mark in the log of the dm-log-writes target NAME, and a line on standard output, on
 * which the guest waits powerlog replay LOG IMAGE DIR [all] IMAGE is what the disk held at first;
 * works in DIR powerlog check IMAGE N DIR     one image, where records up to N were acknowledged
 *
 * dm-log-writes keeps a write back until a flush comes that began after the write was complete, and
 * logs both when the flush is. So what the log holds up to any entry is what a disk with a volatile
 * cache owes us there, and no more: the worst power failure of that moment. A mark is logged at
 * once, behind the acknowledgement and before anything that the guest does next.
 *
 * So the log is replayed to each flush, each write with FUA and each mark, and there
 *
 *   - the file system must be without fault once its journal is recovered,
 *   - each record that a mark before this point acknowledged must be whole,
 *   - where there is any part of record n all before it must be whole, since it was begun after
 * them.
 *
 * A cache may also have written any of what came after the flush: at every second flush, with `all`
 * at each point a second time, a random part of the writes up to the next flush is there, too.
 *
 * The log: a superblock, then for each entry a sector that tells, and the data behind it
 * (drivers/md/dm-log-writes.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/dm-ioctl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/system/record.h"

enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8, SECTOR = 512, SHOWN = 5 };

struct super {
    uint64_t magic, version, entries;
    uint32_t sector_size;
};
struct entry {
    uint64_t sector, sectors, flags, data_len; /* data_len: of a mark's text, behind the entry */
};

static const uint64_t log_magic = 0x6a736677736872;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("powerlog: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, " (%s)\n", strerror(errno));
    exit(2);
}

/* Heads or tails, the same in every run. */
static bool chance(void)
{
    static uint32_t x = 1;

    x = x * 1664525 + 1013904223;
    return x >> 31;
}

/* --- one image ------------------------------------------------------------------------------ */

/* Runs a command, its output in the file "said"; returns its status. */
static int run(const char *const *argv)
{
    posix_spawn_file_actions_t fa;
    int status;
    pid_t pid;

    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, "said", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    errno = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)argv, environ);
    if (errno || waitpid(pid, &status, 0) != pid)
        die("%s", argv[0]);
    posix_spawn_file_actions_destroy(&fa);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

enum state { ABSENT, TORN, WHOLE };

/* Of record n in an open file, where it has len bytes at off. */
static enum state find_in(int fd, int n, size_t len, off_t off, int empty)
{
    uint8_t want[RECORD_LEN], got[RECORD_LEN];
    ssize_t have = fd < 0 ? 0 : pread(fd, got, len, off);
    size_t blank = 0;

    record_fill(want, n);
    if (have == (ssize_t)len && memcmp(want, got, len) == 0)
        return WHOLE;
    while (have > 0 && blank < (size_t)have && got[blank] == empty)
        blank++;
    return have <= 0 || (empty >= 0 && blank == len) ? ABSENT : TORN;
}

static enum state find_record(int n, int append, int slots)
{
    char name[32];
    enum state s;

    if (n % 4 == 0)
        return find_in(append, n, APPEND_LEN, (off_t)(n / 4 - 1) * APPEND_LEN, -1);
    if (n % 4 < 3)
        return find_in(slots, n, SLOT_LEN, (off_t)n * SLOT_LEN, SLOT_EMPTY);
    snprintf(name, sizeof name, "tree/files/%d", n);
    int fd = open(name, O_RDONLY);

    s = find_in(fd, n, FILE_LEN, 0, -1);
    if (fd >= 0)
        close(fd);
    /* It got its name when it was whole. */
    return fd >= 0 && s == ABSENT ? TORN : s;
}

/* Looks for the records in "tree"; why[] says what is wrong. Returns the last that is there, or -1.
 */
static int find_records(int acked, char *why, size_t size)
{
    int append = open("tree/append", O_RDONLY), slots = open("tree/slots", O_RDONLY), last = 0;
    int bad = 0;

    for (int n = 1; n < RECORD_MAX; n++) {
        enum state s = find_record(n, append, slots);

        if (s != ABSENT)
            last = n;
        if (s != WHOLE && !bad)
            bad = n;
        if (s != WHOLE && n <= acked) {
            snprintf(why, size, "record %d was acknowledged and is %s", n,
                     s == TORN ? "torn" : "not there");
            last = -1;
            break;
        }
        if (s != ABSENT && bad && bad < n) {
            snprintf(why, size, "record %d is there and %d before it is not whole", n, bad);
            last = -1;
            break;
        }
    }
    if (append >= 0)
        close(append);
    if (slots >= 0)
        close(slots);
    return last;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* Judges the image "trial". Returns the last record that is there, or -1 and says in why[]. */
static int check_image(int acked, char *why, size_t size)
{
    /* -n does not recover the journal. */
    static const char *const recover[] = { "e2fsck", "-y", "-E", "journal_only", "trial", NULL };
    static const char *const fsck[] = { "e2fsck", "-fn", "trial", NULL };
    static const char *const dump[] = { "debugfs", "-R", "rdump / tree", "trial", NULL };
    int status;

    if ((status = run(recover)) != 0)
        snprintf(why, size, "e2fsck can't recover the journal: status %d", status);
    else if ((status = run(fsck)) != 0)
        snprintf(why, size, "e2fsck -fn finds faults: status %d", status);
    else if (nftw("tree", remove_one, 8, FTW_DEPTH | FTW_PHYS), mkdir("tree", 0755) < 0)
        die("tree");
    else if ((status = run(dump)) != 0)
        snprintf(why, size, "debugfs can't copy the files: status %d", status);
    else
        return find_records(acked, why, size);
    return -1;
}

static void show_said(void)
{
    char line[256];
    FILE *f = fopen("said", "re");

    while (f && fgets(line, sizeof line, f))
        printf("    %s", line);
    if (f)
        fclose(f);
}

/* --- the log -------------------------------------------------------------------------------- */

struct replay {
    int log;
    uint64_t entries, at; /* how many there are, how many are in the disk */
    uint64_t where;       /* the next one's place in the log, in bytes */
    uint8_t *disk, *trial;
    size_t size;
    int acked, points, failed, last;
    bool same; /* the disk is what the tree was taken from, and was found without fault */
};

static uint8_t *map_file(const char *path, int flags, size_t *size)
{
    struct stat st;
    int fd = open(path, flags, 0644);

    if (fd < 0 || fstat(fd, &st) < 0)
        die("%s", path);
    if (flags & O_CREAT) {
        if (ftruncate(fd, (off_t)*size) < 0)
            die("%s", path);
    } else {
        *size = (size_t)st.st_size;
    }
    void *p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        die("%s: mmap", path);
    close(fd);
    return p;
}

/* The entry at *where, and *where behind it. text: of a mark. */
static struct entry entry_next(const struct replay *r, uint64_t *where, char text[SECTOR])
{
    union {
        struct entry e;
        char raw[SECTOR];
    } u;

    if (pread(r->log, &u, sizeof u, (off_t)*where) != sizeof u)
        die("the log ends at %llu", (unsigned long long)*where);
    memset(text, 0, SECTOR);
    if (u.e.flags & MARK)
        memcpy(text, u.raw + sizeof u.e,
               u.e.data_len < SECTOR - sizeof u.e ? u.e.data_len : SECTOR - sizeof u.e - 1);
    *where += SECTOR;
    if (!(u.e.flags & DISCARD))
        *where += u.e.sectors * SECTOR;
    return u.e;
}

/* What the entry whose data ends at `end` did to a disk. */
static void entry_apply(const struct replay *r, const struct entry *e, uint64_t end, uint8_t *disk)
{
    uint64_t off = e->sector * SECTOR, len = e->sectors * SECTOR;

    if (len == 0)
        return;
    if (off > r->size || len > r->size - off)
        die("entry past the disk: %llu+%llu", (unsigned long long)off, (unsigned long long)len);
    if (e->flags & DISCARD)
        memset(disk + off, 0, len);
    else if (pread(r->log, disk + off, len, (off_t)(end - len)) != (ssize_t)len)
        die("the log ends in the data of an entry");
}

/* A random half of what the next thing in the log found written, which may have come, too. */
static int apply_some(const struct replay *r)
{
    uint64_t where = r->where;
    char text[SECTOR];
    int n = 0;

    for (uint64_t i = r->at; i < r->entries; i++) {
        struct entry e = entry_next(r, &where, text);

        if (!(e.flags & MARK) && e.sectors && chance()) {
            entry_apply(r, &e, where, r->trial);
            n++;
        }
        if (e.flags & (FLUSH | FUA | MARK))
            break;
    }
    return n;
}

static void point_check(struct replay *r, const char *what, bool some)
{
    char why[200] = "";
    int more = 0, found;

    r->points++;
    if (r->same && !some) {
        /* Only what is owed has changed. */
        found = find_records(r->acked, why, sizeof why);
    } else {
        memcpy(r->trial, r->disk, r->size);
        if (some)
            more = apply_some(r);
        found = check_image(r->acked, why, sizeof why);
        r->same = !some && found >= 0;
    }
    if (found >= 0) {
        r->last = found;
        return;
    }
    if (r->failed++ >= SHOWN)
        return;
    printf("power failure after entry %llu of %llu (%s) and %d writes behind it: %s\n",
           (unsigned long long)r->at, (unsigned long long)r->entries, what, more, why);
    if (strstr(why, "e2fsck") || strstr(why, "debugfs"))
        show_said();
}

static int replay(const char *log, const char *image, bool all)
{
    struct replay r = { .where = SECTOR };
    struct super super;
    char text[SECTOR];
    unsigned flushes = 0;

    r.log = open(log, O_RDONLY);
    if (r.log < 0 || pread(r.log, &super, sizeof super, 0) != sizeof super)
        die("%s", log);
    if (super.magic != log_magic || super.version != 1 || super.sector_size != SECTOR)
        die("%s: no log of 512-byte sectors", log);
    r.entries = super.entries;
    r.disk = map_file(image, O_RDWR, &r.size);
    r.trial = map_file("trial", O_RDWR | O_CREAT | O_TRUNC, &r.size);
    while (r.at < r.entries) {
        struct entry e = entry_next(&r, &r.where, text);

        entry_apply(&r, &e, r.where, r.disk);
        r.same = r.same && e.sectors == 0;
        r.at++;
        if (e.flags & MARK)
            sscanf(text, "ack-%d", &r.acked);
        if (!(e.flags & (FLUSH | FUA | MARK)) && r.at < r.entries)
            continue;
        const char *what = e.flags & MARK ? text : e.flags & FLUSH ? "a flush" : "a write with FUA";

        bool some = !(e.flags & MARK) && flushes++ % 2;

        if (all || !some)
            point_check(&r, what, false);
        if (all || some)
            point_check(&r, what, true);
    }
    printf("%llu entries, %d power failures tried, %d records acknowledged, %d there at the end, "
           "%d bad\n",
           (unsigned long long)r.entries, r.points, r.acked, r.last, r.failed);
    return r.failed != 0;
}

static int check(const char *image, int acked)
{
    const char *const copy[] = { "cp", image, "trial", NULL };
    char why[200] = "";

    if (run(copy) != 0)
        die("%s", image);
    int last = check_image(acked, why, sizeof why);

    if (last < 0) {
        printf("%s\n", why);
        show_said();
        return 1;
    }
    printf("%d records acknowledged, %d there\n", acked, last);
    return 0;
}

/* --- marks ---------------------------------------------------------------------------------- */

static void mark(int control, const char *name, int n)
{
    struct {
        struct dm_ioctl dm;
        struct dm_target_msg msg;
        char text[64];
    } m = { .dm = { .version = { DM_VERSION_MAJOR, 0, 0 },
                    .data_size = sizeof m,
                    .data_start = sizeof m.dm } };

    snprintf(m.dm.name, sizeof m.dm.name, "%s", name);
    /* Two words: all that the target takes. The message begins in the padding of dm_target_msg. */
    snprintf((char *)&m + offsetof(typeof(m), msg) + offsetof(struct dm_target_msg, message),
             sizeof m.text, "mark ack-%d", n);
    if (ioctl(control, DM_TARGET_MSG, &m) < 0)
        die("mark in %s", name);
}

static int mark_all(const char *name, const char *out)
{
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC), n;
    FILE *f = fopen(out, "we");
    char line[512];

    if (control < 0 || !f)
        die("%s or /dev/mapper/control", out);
    while (fgets(line, sizeof line, stdin)) {
        fputs(line, f);
        fflush(f);
        if (sscanf(line, "ack %d", &n) != 1)
            continue;
        mark(control, name, n);
        if (write(STDOUT_FILENO, "\n", 1) != 1 && errno != EPIPE)
            die("the guest's input");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *path = getenv("PATH");
    char more[4096];
    bool replays = argc >= 5 && strcmp(argv[1], "replay") == 0;

    snprintf(more, sizeof more, "%s:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
    setenv("PATH", more, 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4 && strcmp(argv[1], "mark") == 0)
        return mark_all(argv[2], argv[3]);
    if (!replays && !(argc == 5 && strcmp(argv[1], "check") == 0)) {
        fputs("usage: powerlog mark NAME OUT | replay LOG IMAGE DIR [all] | check IMAGE N DIR\n",
              stderr);
        return 2;
    }
    if (chdir(argv[4]) < 0)
        die("%s", argv[4]);
    if (replays)
        return replay(argv[2], argv[3], argc > 5);
    return check(argv[2], atoi(argv[3]));
}
