/* Counts the system calls of Mayfly's threads and compares them with the policy, both ways:
 * census POLICY RECORD...
 *
 * POLICY is what `seccomp/policy.c --table` wrote. A RECORD is the text of a tracefs instance's
 * `trace` with the per-CPU `stats` behind it (census.bash makes it). Of its events three are read:
 * task_newtask and task_rename, which tell what process a thread belongs to and what it is called
 * when (the name that stands before each event is the last one the thread had), and sys_enter.
 *
 * A thread's name up to its first digit is its role: mayfly is main, vcpu3 is vcpu, net0q1 is net.
 * What it calls counts from its own seccomp(2) on. Each call is one of every line of its role that
 * allows it.
 *
 * Prints a table of all lines, and a line "BAD ..." for each thing that is wrong; exits 1 then:
 *
 *   - a line that is not rare and was never used
 *   - a call that no line allows
 *   - a thread that put on a filter and has no role's name, or has the process's memory and made
 *     calls without a filter
 *   - events that were lost, or no word on whether any were: then nothing is known
 *
 * Rare lines that were met are listed; that is news, and not wrong.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/num.h"
#include "seccomp/enter.h"

enum {
    LINES_MAX = 256,
    CONDS_MAX = 4,
    FIELDS = 6,
    ARGS = 6,
    FORBIDDEN_MAX = 64,
    PIDS = 1 << 22, /* the kernel's PID_MAX_LIMIT */
    COMM_LEN = 16,
};

struct cond {
    unsigned arg;
    uint32_t mask, value;
};

struct line {
    char *field[FIELDS]; /* role, call, number, conditions, where, rare */
    long nr;
    unsigned n_conds;
    struct cond cond[CONDS_MAX];
    uint64_t count;
    unsigned threads;
};

/* A thread, by its id. */
struct task {
    char name[COMM_LEN]; /* its comm */
    int process;         /* 0: not known, so it is one by itself */
    bool thread;         /* has another's memory */
    bool calls, confined;
    uint64_t made[LINES_MAX / 64]; /* lines it was counted in */
};

/* Calls that no line allows; those that differ in what a policy would look at are kept apart. */
struct forbidden {
    char name[COMM_LEN];
    long nr;
    uint64_t arg[ARGS];
    uint64_t count;
};

static struct line lines[LINES_MAX];
static size_t n_lines;
static struct task *tasks; /* PIDS of them; pages that no thread needs stay untouched */
static int last_tid;       /* the highest seen */
static struct forbidden forbidden[FORBIDDEN_MAX];
static size_t n_forbidden;
static unsigned bad;

__attribute__((format(printf, 1, 2))) static void complain(const char *fmt, ...)
{
    va_list ap;

    bad++;
    printf("BAD ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "census: %s: %s\n", what, why);
    exit(2);
}

/* --- the policy --------------------------------------------------------------------------- */

/* "aN&MASK=VALUE TEXT; ...", or "-". */
static bool line_conds(struct line *l)
{
    const char *s = l->field[3];

    while (s && strcmp(s, "-") != 0) {
        struct cond *c = &l->cond[l->n_conds++];

        if (l->n_conds > CONDS_MAX ||
            sscanf(s, "a%u&%" SCNx32 "=%" SCNx32, &c->arg, &c->mask, &c->value) != 3 ||
            c->arg >= ARGS)
            return false;
        s = strchr(s, ';');
        s = s ? s + 2 : NULL;
    }
    return true;
}

static void read_policy(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;

    if (!f)
        die(path, strerror(errno));
    while (getline(&text, &room, f) > 0) {
        struct line *l = &lines[n_lines++];

        if (n_lines > LINES_MAX)
            die(path, "too many lines");
        text[strcspn(text, "\n")] = 0;
        char *rest = strdup(text);

        for (size_t i = 0; i < FIELDS; i++)
            l->field[i] = strsep(&rest, "\t");
        if (!l->field[FIELDS - 1] || !line_conds(l))
            die(path, text);
        l->nr = strtol(l->field[2], NULL, 10);
    }
    if (!n_lines)
        die(path, "it is empty");
    free(text);
    fclose(f);
}

/* --- calls -------------------------------------------------------------------------------- */

/* The role that a thread's name stands for, as the policy calls it; NULL: none of its. */
static const char *role_of(const struct task *t)
{
    char name[COMM_LEN];

    snprintf(name, sizeof name, "%s", strcmp(t->name, "mayfly") == 0 ? "main" : t->name);
    name[strcspn(name, "0123456789")] = 0;
    for (size_t i = 0; i < n_lines; i++)
        if (strcmp(lines[i].field[0], name) == 0)
            return lines[i].field[0];
    return NULL;
}

/* As the filters do it, by the low 32 bits. */
static bool line_allows(const struct line *l, const char *role, int tid, long nr,
                        const uint64_t arg[ARGS])
{
    const struct task *t = &tasks[tid];

    if (l->nr != nr || strcmp(l->field[0], role) != 0)
        return false;
    for (unsigned i = 0; i < l->n_conds; i++) {
        const struct cond *c = &l->cond[i];
        uint32_t want = c->value == SECCOMP_OWN_TID   ? (uint32_t)tid
                        : c->value == SECCOMP_OWN_PID ? (uint32_t)(t->process ? t->process : tid)
                                                      : c->value;

        if (((uint32_t)arg[c->arg] & c->mask) != want)
            return false;
    }
    return true;
}

static void count_forbidden(const struct task *t, long nr, const uint64_t arg[ARGS])
{
    struct forbidden *f = forbidden;
    struct forbidden *end = f + n_forbidden;

    while (f < end && !(f->nr == nr && strcmp(f->name, t->name) == 0 &&
                        (uint32_t)f->arg[1] == (uint32_t)arg[1]))
        f++;
    if (f == forbidden + FORBIDDEN_MAX)
        f--; /* enough of them to see what is wrong */
    else if (f == end) {
        n_forbidden++;
        f->nr = nr;
        memcpy(f->name, t->name, sizeof f->name);
        memcpy(f->arg, arg, sizeof f->arg);
    }
    f->count++;
}

static void count_call(int tid, long nr, const uint64_t arg[ARGS])
{
    struct task *t = &tasks[tid];
    const char *role = role_of(t);
    bool allowed = false;

    t->calls = true;
    if (nr == SYS_seccomp && (uint32_t)arg[0] == SECCOMP_SET_MODE_FILTER && !t->confined) {
        t->confined = true;
        if (!role)
            complain("a thread named '%s' put on a filter: no role has that name", t->name);
        return;
    }
    if (!t->confined || !role)
        return;
    for (size_t i = 0; i < n_lines; i++) {
        struct line *l = &lines[i];
        uint64_t bit = UINT64_C(1) << i % 64;

        if (!line_allows(l, role, tid, nr, arg))
            continue;
        allowed = true;
        l->count++;
        l->threads += !(t->made[i / 64] & bit);
        t->made[i / 64] |= bit;
    }
    if (!allowed)
        count_forbidden(t, nr, arg);
}

/* --- the record --------------------------------------------------------------------------- */

static void set_name(struct task *t, const char *text, const char *end)
{
    if (end)
        snprintf(t->name, sizeof t->name, "%.*s", (int)(end - text), text);
}

/* Whoever had this id before is gone. */
static void leave(struct task *t)
{
    if (t->thread && t->calls && !t->confined)
        complain("a thread named '%s' made calls and put on no filter", t->name);
    *t = (struct task){ 0 };
}

static struct task *task_at(const char *text, int *tid)
{
    long id = strtol(text, NULL, 10);

    if (id <= 0 || id >= PIDS)
        die("not a thread's id", text);
    *tid = (int)id;
    last_tid = *tid > last_tid ? *tid : last_tid;
    return &tasks[id];
}

static void on_newtask(int parent, const char *text)
{
    int tid;
    struct task *t = task_at(text + strlen("pid="), &tid);
    const char *name = strstr(text, " comm="), *flags = strstr(text, " clone_flags=");
    const struct task *p = &tasks[parent];

    if (!name || !flags)
        die("not an event of task_newtask", text);
    uint64_t clone = strtoull(flags + strlen(" clone_flags="), NULL, 16);

    leave(t);
    set_name(t, name + strlen(" comm="), flags);
    t->process = !(clone & CLONE_THREAD) ? tid : p->process ? p->process : parent;
    t->thread = clone & CLONE_VM && !(clone & CLONE_VFORK);
    t->confined = p->confined; /* filters are inherited */
}

static void on_rename(const char *text)
{
    int tid;
    struct task *t = task_at(text + strlen("pid="), &tid);
    const char *name = strstr(text, " newcomm=");

    if (!name)
        die("not an event of task_rename", text);
    set_name(t, name + strlen(" newcomm="), strstr(name, " oom_score_adj="));
}

static void on_enter(int tid, const char *text)
{
    uint64_t a[ARGS];
    long nr;

    if (sscanf(text,
               "NR %ld (%" SCNx64 ", %" SCNx64 ", %" SCNx64 ", %" SCNx64 ", %" SCNx64 ", %" SCNx64,
               &nr, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5]) != 1 + ARGS)
        die("not an event of sys_enter", text);
    count_call(tid, nr, a);
}

/* The name has 16 columns, then come "-", the id and other things, then ": EVENT: ...". */
static void read_event(const char *text)
{
    const char *p;
    int tid;

    if (text[0] == '#' || strlen(text) <= COMM_LEN || text[COMM_LEN] != '-')
        return;
    task_at(text + COMM_LEN + 1, &tid);
    if ((p = strstr(text, ": sys_enter: ")))
        on_enter(tid, p + strlen(": sys_enter: "));
    else if ((p = strstr(text, ": task_newtask: ")))
        on_newtask(tid, p + strlen(": task_newtask: "));
    else if ((p = strstr(text, ": task_rename: ")))
        on_rename(p + strlen(": task_rename: "));
}

/* Whether a line of a CPU's stats, or of the trace itself, says that events were lost. */
static bool is_loss(const char *text)
{
    static const char *const counts[] = { "overrun: ", "commit overrun: ", "dropped events: " };

    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (strncmp(text, counts[i], strlen(counts[i])) == 0)
            return strtoull(text + strlen(counts[i]), NULL, 10) > 0;
    return strncmp(text, "CPU:", 4) == 0 && strstr(text, "LOST");
}

static void read_record(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    unsigned cpus = 0;
    bool lost = false;

    if (!f)
        die(path, strerror(errno));
    while (getline(&text, &room, f) > 0) {
        text[strcspn(text, "\n")] = 0;
        cpus += strncmp(text, "overrun: ", 9) == 0;
        if (is_loss(text) && !lost) {
            complain("%s: events were lost (%s): the buffer is too small", path, text);
            lost = true;
        }
        read_event(text);
    }
    if (!cpus)
        complain("%s: it does not say whether events were lost", path);
    for (int tid = 0; tid <= last_tid; tid++)
        leave(&tasks[tid]);
    free(text);
    fclose(f);
}

/* --- the verdict -------------------------------------------------------------------------- */

static const char *call_name(long nr)
{
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)nr);

    return name ? name : "no known call"; /* a few names, kept to the end */
}

/* What the filter sees of a request, without the number that it stands for. */
static const char *conds_text(const struct line *l)
{
    static char text[256];
    const char *s = l->field[3];

    text[0] = 0;
    while (s && strcmp(s, "-") != 0) {
        const char *word = strchr(s, ' '), *end = strchr(s, ';');
        size_t n = strlen(text);

        if (!word)
            break;
        word++;
        snprintf(text + n, sizeof text - n, "%s%.*s", n ? ", " : "",
                 (int)(end ? (size_t)(end - word) : strlen(word)), word);
        s = end ? end + 2 : NULL;
    }
    return text[0] ? text : "-";
}

static bool is_rare(const struct line *l)
{
    return strcmp(l->field[5], "-") != 0;
}

static void print_table(void)
{
    printf("%-8s %-16s %-38s %9s %7s  %-4s  %s\n", "role", "call", "only", "count", "threads", "",
           "where");
    for (size_t i = 0; i < n_lines; i++) {
        const struct line *l = &lines[i];

        if (i == 0 || strcmp(l->field[0], lines[i - 1].field[0]) != 0)
            putchar('\n');
        printf("%-8s %-16s %-38s %9" PRIu64 " %7u  %-4s  %s\n", l->field[0], l->field[1],
               conds_text(l), l->count, l->threads, is_rare(l) ? "rare" : "", l->field[4]);
    }
    putchar('\n');
}

/* One line for each role, from its first line in the table on. */
static void print_sums(void)
{
    for (size_t i = 0, end; i < n_lines; i = end) {
        const char *role = lines[i].field[0];
        size_t all[2] = { 0 }, used[2] = { 0 };
        uint64_t calls = 0;

        for (end = i; end < n_lines && strcmp(lines[end].field[0], role) == 0; end++) {
            bool rare = is_rare(&lines[end]);

            all[rare]++;
            used[rare] += lines[end].count > 0;
            calls += lines[end].count;
        }
        printf("census: %s: %" PRIu64 " calls, %zu of %zu lines used, and %zu of %zu rare ones\n",
               role, calls, used[false], all[false], used[true], all[true]);
    }
}

static void judge(void)
{
    for (size_t i = 0; i < n_lines; i++) {
        const struct line *l = &lines[i];

        if (is_rare(l) && l->count)
            printf("rare, and met: %s %s (%s), %" PRIu64 " times: %s\n", l->field[0], l->field[1],
                   conds_text(l), l->count, l->field[5]);
        else if (!is_rare(l) && !l->count)
            complain("never made: %s %s (%s): %s", l->field[0], l->field[1], conds_text(l),
                     l->field[4]);
    }
    for (size_t i = 0; i < n_forbidden; i++) {
        const struct forbidden *f = &forbidden[i];

        complain("not allowed: thread %s made %s(0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64
                 ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64 "), %" PRIu64 " times",
                 f->name, call_name(f->nr), f->arg[0], f->arg[1], f->arg[2], f->arg[3], f->arg[4],
                 f->arg[5], f->count);
    }
}

int main(int argc, char **argv)
{
    tasks = calloc(PIDS, sizeof *tasks);
    if (argc < 3 || !tasks) {
        fprintf(stderr, "usage: census POLICY RECORD...\n");
        return 2;
    }
    read_policy(argv[1]);
    for (int i = 2; i < argc; i++)
        read_record(argv[i]);
    print_table();
    judge();
    print_sums();
    return bad != 0;
}
