/* Disk images: what is taken for one and with which geometry, what is refused and how that is told,
 * and that the locks keep two disks off one image, in this process and between processes. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/num.h"
#include "host/image.h"

#define O_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static char dir[] = "/tmp/mayfly-image-XXXXXX";

/* A path in the directory of this run; good until the fourth call from now. */
static const char *at(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static const char *a_file(const char *name, uint64_t size)
{
    const char *path = at(name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
    return path;
}

static void taken(struct image *im, const char *path, bool ro, bool direct)
{
    struct err e = { 0 };

    if (image_open(im, path, ro, direct, &e) != 0)
        fail_msg("%s", e.msg);
    assert_true(im->fd >= 0);
    assert_ptr_equal(im->path, path);
    assert_int_equal(im->read_only, ro);
    assert_int_equal(im->direct, direct);
    assert_true(is_pow2(im->block) && im->block >= IMAGE_SECTOR);
    assert_true(is_pow2(im->physical) && im->physical >= im->block);
    assert_true(im->physical <= 64 * KIB);
    assert_true(im->size > 0 && im->size % im->block == 0);
    int flags = fcntl(im->fd, F_GETFL);

    assert_int_equal(flags & O_ACCMODE, ro ? O_RDONLY : O_RDWR);
    assert_int_equal(flags & O_DIRECT, direct ? O_DIRECT : 0);
    assert_int_equal(flags & O_NONBLOCK, 0);
    assert_int_equal(fcntl(im->fd, F_GETFD), FD_CLOEXEC);
}

/* --- system calls that fail as on another host ------------------------------------------------ */

/* Runs fn(arg) on a thread whose calls of nr fail with `code` where argument i, masked, has that
 * value. A filter stays with its thread. */
struct elsewhere {
    unsigned nr, arg;
    uint32_t mask, value;
    int code;
    void (*fn)(void *arg);
    void *fn_arg;
    bool ready;
};

static void *elsewhere_thread(void *arg)
{
    struct elsewhere *w = arg;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->nr, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 (uint32_t)(offsetof(struct seccomp_data, args) + 8 * w->arg)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, w->mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, w->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)w->code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { ARRAY_LEN(code), code };

    w->ready = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
    if (w->ready)
        w->fn(w->fn_arg);
    return NULL;
}

static void elsewhere(struct elsewhere w)
{
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, elsewhere_thread, &w), 0);
    pthread_join(t, NULL);
    assert_true(w.ready);
}

struct opening {
    const char *path;
    bool ro, direct;
    struct image im;
    struct err e;
    int ret;
};

static void opening_do(void *arg)
{
    struct opening *o = arg;

    o->ret = image_open(&o->im, o->path, o->ro, o->direct, &o->e);
}

/* It is refused with this code, names itself, and says all of the words. */
static void refused(const char *path, bool ro, bool direct, int code, const char *const words[3])
{
    struct opening o = { .path = path, .ro = ro, .direct = direct };
    const struct err *e = &o.e;
    char head[160];

    /* Where time flies: an image in use is waited for, in vain here. */
    elsewhere((struct elsewhere){ .nr = SYS_clock_nanosleep, .fn = opening_do, .fn_arg = &o });
    if (o.ret != -code)
        fail_msg("%s: %d, not %d: %s", path, o.ret, -code, e->msg);
    assert_int_equal(e->code, code);
    assert_int_equal(o.im.fd, -1);
    snprintf(head, sizeof head, "disk %s: ", path);
    if (strncmp(e->msg, head, strlen(head)) != 0)
        fail_msg("%s: it says %s", path, e->msg);
    for (int i = 0; i < 3 && words[i]; i++)
        if (!strstr(e->msg + strlen(head), words[i]))
            fail_msg("%s: \"%s\" is not in: %s", path, words[i], e->msg);
}
#define REFUSED(path, ro, direct, code, ...)                                                       \
    refused(path, ro, direct, code, (const char *const[3]){ __VA_ARGS__ })

struct privately {
    const char *dir;
    uint64_t size;
    struct err e;
    int ret;
};

static void privately_do(void *arg)
{
    struct privately *p = arg;

    p->ret = image_private(p->dir, p->size, &p->e);
}

/* --- what is an image ----------------------------------------------------------------------- */

static void a_file_is_measured(void **state)
{
    static const uint64_t sizes[] = { 512, 4096, 5 * 512, MIB, 64 * GIB + 512 };
    struct image im;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        const char *path = a_file("sized", sizes[i]);

        for (int ro = 0; ro < 2; ro++) {
            taken(&im, path, ro, false);
            assert_int_equal(im.size, sizes[i]);
            assert_int_equal(im.block, 512);
            assert_false(im.device);
            image_close(&im);
            assert_int_equal(im.fd, -1);
            image_close(&im); /* once more is harmless */
        }
    }
}

static void odd_sizes_say_how_to_pad(void **state)
{
    char want[64], whole[400];
    struct image im;
    struct err e = { 0 };

    (void)state;
    REFUSED(a_file("none", 0), false, false, EINVAL, "is empty", "truncate");
    REFUSED(a_file("odd", 1), false, false, EINVAL, "size 1 is", "truncate -s 512 ");
    const char *path = a_file("odd", 1000001);

    snprintf(whole, sizeof whole,
             "disk %s: size 1000001 is not a multiple of 512: pad it with truncate -s 1000448 %s",
             path, path);
    assert_int_equal(image_open(&im, path, true, false, &e), -EINVAL);
    assert_string_equal(e.msg, whole);
    for (uint64_t size = 511; size < 1500; size += 123) {
        snprintf(want, sizeof want, "truncate -s %ju ", (uintmax_t)(size / 512 + 1) * 512);
        REFUSED(a_file("odd", size), false, false, EINVAL, "multiple of 512", want);
    }
}

static void other_things_are_refused_by_name(void **state)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(mkfifo(at("pipe"), 0600), 0);
    snprintf(un.sun_path, sizeof un.sun_path, "%s", at("socket"));
    assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof un), 0);
    alarm(10); /* a pipe must not be waited for */
    for (int ro = 0; ro < 2; ro++) {
        REFUSED(dir, ro, false, EINVAL, "is a directory", "raw image or a block device");
        REFUSED(at("pipe"), ro, false, EINVAL, "is a pipe", "raw image or a block device");
        REFUSED(at("socket"), ro, false, EINVAL, "is a socket", "raw image or a block device");
        REFUSED("/dev/null", ro, true, EINVAL, "is a character device", "raw image or a block");
        REFUSED(at("absent"), ro, false, ENOENT, "No such file", "give the path of a raw image");
        REFUSED(at("pipe/x"), ro, false, ENOTDIR, "Not a directory", "give the path");
    }
    alarm(0);
    close(s);
}

static void no_right_says_which(void **state)
{
    const char *path = a_file("guarded", MIB);
    bool root = geteuid() == 0;
    struct image im;

    (void)state;
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(path, 0444), 0);
    if (root)
        assert_int_equal(seteuid(65534), 0);
    REFUSED(path, false, false, EACCES, "Permission denied", "writable", "ro or overlay");
    taken(&im, path, true, false);
    image_close(&im);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(path, 0200), 0);
    if (root)
        assert_int_equal(seteuid(65534), 0);
    REFUSED(path, true, false, EACCES, "Permission denied", "make it readable");
    if (root)
        assert_int_equal(seteuid(0), 0);
}

static void no_descriptor_leaks(void **state)
{
    int before = dup(0);
    struct err e;

    (void)state;
    close(before);
    REFUSED(a_file("odd", 100), false, false, EINVAL, "multiple");
    REFUSED(a_file("none", 0), true, false, EINVAL, "empty");
    REFUSED(at("absent"), true, false, ENOENT, "No such");
    assert_int_equal(image_private(dir, INT64_MAX / 512 * 512, &e), -EFBIG);
    int after = dup(0);

    close(after);
    assert_int_equal(before, after);
}

/* --- locks ---------------------------------------------------------------------------------- */

static void in_use(const char *path, bool ro)
{
    REFUSED(path, ro, false, EBUSY, "in use by another", ro ? "writes to it" : "VM",
            "ro or overlay");
}

static void one_writer_or_many_readers(void **state)
{
    const char *path = a_file("shared", MIB);
    struct image a, b, c;

    (void)state;
    taken(&a, path, false, false);
    in_use(path, false);
    in_use(path, true);
    image_close(&a);
    taken(&a, path, true, false);
    taken(&b, path, true, false);
    in_use(path, false);
    image_close(&a);
    in_use(path, false);
    taken(&c, path, true, false);
    image_close(&b);
    image_close(&c);
    taken(&a, path, false, false);
    /* Another descriptor of the file, closed: a lock of the old kind would go with it. */
    close(open(path, O_RDONLY | O_CLOEXEC));
    in_use(path, false);
    image_close(&a);
    /* By another of its names. */
    assert_int_equal(link(path, at("alias")), 0);
    taken(&a, path, false, false);
    in_use(at("alias"), true);
    image_close(&a);
}

/* Another process with a lock of its own on [start, start + len), until its end. */
static pid_t a_holder(const char *path, int cmd, short type, off_t start, off_t len)
{
    int ready[2];
    char byte;

    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct flock l = { .l_type = type, .l_start = start, .l_len = len };
        int fd = open(path, O_RDWR | O_CLOEXEC);

        prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test fail */
        if (fd >= 0 && fcntl(fd, cmd, &l) == 0 && write(ready[1], "!", 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void holder_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void other_processes_are_met(void **state)
{
    const char *path = a_file("elsewhere", MIB);
    struct image im;
    /* A whole monitor, then what QEMU holds of an image it reads: bytes from 100 on. */
    static const struct {
        int cmd;
        short type;
        off_t start, len;
        bool readers_pass;
    } of[] = {
        { F_OFD_SETLK, F_WRLCK, 0, 0, false },     { F_OFD_SETLK, F_RDLCK, 0, 0, true },
        { F_OFD_SETLK, F_RDLCK, 100, 1, true },    { F_OFD_SETLK, F_RDLCK, 203, 1, true },
        { F_SETLK, F_WRLCK, INT32_MAX, 1, false }, { F_SETLK, F_RDLCK, 0, 1, true },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(of); i++) {
        pid_t pid = a_holder(path, of[i].cmd, of[i].type, of[i].start, of[i].len);

        in_use(path, false);
        if (of[i].readers_pass) {
            taken(&im, path, true, false);
            image_close(&im);
        } else {
            in_use(path, true);
        }
        holder_kill(pid); /* no stale lock stays behind */
        taken(&im, path, false, false);
        image_close(&im);
    }
    /* And ours is met by them, and by a child that inherited nothing but the name. */
    taken(&im, path, false, false);
    pid_t pid = fork();

    if (pid == 0) {
        struct image other;
        struct err e;

        _exit(image_open(&other, path, true, false, &e) == -EBUSY ? 0 : 1);
    }
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    image_close(&im);
}

static void *let_go(void *arg)
{
    sleep_ms(100);
    image_close(arg);
    return NULL;
}

/* A monitor that was killed lets go of its image a moment behind its end. */
static void the_last_one_is_waited_for(void **state)
{
    const char *path = a_file("held", MIB);
    struct image held, im;
    pthread_t t;

    (void)state;
    taken(&held, path, false, false);
    assert_int_equal(pthread_create(&t, NULL, let_go, &held), 0);
    taken(&im, path, false, false);
    pthread_join(t, NULL);
    image_close(&im);
    /* A lock that a ring's reference to the file would keep. */
    taken(&im, path, false, false);
    int ring = dup(im.fd);

    image_close(&im);
    taken(&im, path, false, false);
    image_close(&im);
    close(ring);
}

static void no_locks_no_disk(void **state)
{
    static const int codes[] = { ENOLCK, EOPNOTSUPP, EINVAL };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
        struct opening o = { .path = a_file("lockless", MIB) };

        elsewhere((struct elsewhere){ .nr = SYS_fcntl,
                                      .arg = 1,
                                      .mask = UINT32_MAX,
                                      .value = F_OFD_SETLK,
                                      .code = codes[i],
                                      .fn = opening_do,
                                      .fn_arg = &o });
        assert_int_equal(o.ret, -codes[i]);
        assert_non_null(strstr(o.e.msg, "can't be locked"));
        assert_non_null(strstr(o.e.msg, "keep it on a file system with locks"));
        assert_int_equal(o.im.fd, -1);
    }
}

/* --- direct ----------------------------------------------------------------------------------- */

/* Whether this file system has direct I/O at all. */
static bool direct_here(void)
{
    int fd = open(a_file("try", MIB), O_RDWR | O_DIRECT | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    else
        print_message("skip: no O_DIRECT in %s\n", dir);
    return fd >= 0;
}

/* A block can be read and written at every multiple of itself. */
static void blocks_work(const struct image *im)
{
    void *buf;

    assert_int_equal(posix_memalign(&buf, 4096, im->block), 0);
    for (unsigned i = 0; i < 5; i++) {
        memset(buf, (int)i, im->block);
        if (!im->read_only)
            assert_int_equal(pwrite(im->fd, buf, im->block, (off_t)i * im->block), im->block);
        assert_int_equal(pread(im->fd, buf, im->block, (off_t)i * im->block), im->block);
    }
    free(buf);
}

static void direct_tells_its_block(void **state)
{
    struct image im, probed;

    (void)state;
    if (!direct_here())
        skip();
    taken(&im, a_file("direct", MIB), false, true);
    blocks_work(&im);
    image_close(&im);
    /* A kernel that doesn't tell is asked by reading: the same, or less that works. */
    struct opening o = { .path = a_file("direct", MIB), .direct = true };
    struct elsewhere old = { .nr = SYS_statx,
                             .arg = 3,
                             .mask = 0x2000,
                             .value = 0x2000,
                             .code = ENOSYS,
                             .fn = opening_do,
                             .fn_arg = &o };

    elsewhere(old);
    if (o.ret)
        fail_msg("%s", o.e.msg);
    probed = o.im;
    assert_true(probed.block <= im.block);
    blocks_work(&probed);
    image_close(&probed);
    if (im.block > 512) {
        REFUSED(a_file("direct", MIB + 512), false, true, EINVAL, "direct I/O", "leave out direct");
        o.path = a_file("direct", 512);
        elsewhere(old);
        assert_int_equal(o.ret, probed.block > 512 ? -EINVAL : 0);
        image_close(&o.im);
    }
}

/* On a kernel that doesn't tell: what is shorter than `least`, a power of two, is refused. */
static uint32_t least;

static void opening_large(void *arg)
{
    elsewhere((struct elsewhere){ .nr = SYS_pread64,
                                  .arg = 2,
                                  .mask = ~(least - 1),
                                  .value = 0,
                                  .code = EINVAL,
                                  .fn = opening_do,
                                  .fn_arg = arg });
}

static struct opening opened_large(const char *path, uint32_t block)
{
    struct opening o = { .path = path, .direct = true };

    least = block;
    elsewhere((struct elsewhere){ .nr = SYS_statx,
                                  .code = ENOSYS,
                                  .arg = 3,
                                  .mask = 0x2000,
                                  .value = 0x2000,
                                  .fn = opening_large,
                                  .fn_arg = &o });
    return o;
}

static void a_block_is_found_by_reading(void **state)
{
    struct opening o;

    (void)state;
    if (!direct_here())
        skip();
    for (uint32_t block = 1024; block <= 4096; block *= 2) {
        o = opened_large(a_file("direct", MIB), block);
        assert_int_equal(o.ret, 0);
        assert_true(o.im.block == block || (o.im.block > block && least < 4096));
        assert_true(o.im.physical >= o.im.block);
        image_close(&o.im);
        o = opened_large(a_file("direct", MIB + 512), block);
        assert_int_equal(o.ret, -EINVAL);
        assert_non_null(strstr(o.e.msg, "the block of direct I/O there"));
        assert_non_null(strstr(o.e.msg, "or leave out direct"));
    }
    o = opened_large(a_file("direct", MIB), 8192);
    assert_int_equal(o.ret, -EINVAL);
    assert_non_null(strstr(o.e.msg, "blocks of 8192 bytes"));
    assert_non_null(strstr(o.e.msg, "leave out direct"));
}

static void no_direct_says_so(void **state)
{
    struct opening o = { .path = a_file("indirect", MIB), .direct = true };

    (void)state;
    elsewhere((struct elsewhere){ .nr = SYS_openat,
                                  .arg = 2,
                                  .mask = O_DIRECT,
                                  .value = O_DIRECT,
                                  .code = EINVAL,
                                  .fn = opening_do,
                                  .fn_arg = &o });
    assert_int_equal(o.ret, -EINVAL);
    assert_non_null(strstr(o.e.msg, "no direct I/O: leave out direct"));
    /* No read of any size works. */
    if (!direct_here())
        return;
    o = (struct opening){ .path = a_file("indirect", MIB), .direct = true };
    elsewhere((struct elsewhere){ .nr = SYS_pread64,
                                  .arg = 3,
                                  .mask = UINT32_MAX,
                                  .value = 0,
                                  .code = EINVAL,
                                  .fn = opening_do,
                                  .fn_arg = &o });
    if (o.ret == 0) /* it was told by statx, and did not have to read */
        image_close(&o.im);
    else
        assert_non_null(strstr(o.e.msg, "leave out direct"));
}

/* --- block devices ------------------------------------------------------------------------------
 */

/* A loop device on a file, with blocks of that size; it goes away with the last descriptor. *keep
 * is one. false: not to be had here. */
static bool a_loop(const char *file, uint32_t block, char path[32], int *keep)
{
    int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), back = open(file, O_RDWR | O_CLOEXEC);
    struct loop_config c = { .fd = (uint32_t)back, .block_size = block };
    bool ok = false;

    c.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    /* Others look for a free one as well. */
    for (int try = 0; ctl >= 0 && try < 20 && !ok; try++) {
        int n = ioctl(ctl, LOOP_CTL_GET_FREE);

        if (n < 0)
            break;
        snprintf(path, 32, "/dev/loop%d", n);
        *keep = open(path, O_RDWR | O_CLOEXEC);
        ok = *keep >= 0 && ioctl(*keep, LOOP_CONFIGURE, &c) == 0;
        if (!ok && *keep >= 0)
            close(*keep);
    }
    if (ctl >= 0)
        close(ctl);
    close(back);
    return ok;
}

static void block_devices(void **state)
{
    static const uint32_t blocks[] = { 512, 4096 };
    char path[32];
    struct image im, other;
    int keep, mount;

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(blocks); i++) {
        if (!a_loop(a_file("backing", MIB), blocks[i], path, &keep)) {
            print_message("skip: no loop device to be had\n");
            skip();
        }
        for (int direct = 0; direct < 2; direct++) {
            taken(&im, path, false, direct);
            assert_true(im.device);
            assert_int_equal(im.size, MIB);
            assert_int_equal(im.block, blocks[i]);
            blocks_work(&im);
            REFUSED(path, false, false, EBUSY, "in use on this host", "mounted", "another VM");
            in_use(path, true);
            image_close(&im);
        }
        taken(&im, path, true, false);
        taken(&other, path, true, false);
        in_use(path, false);
        image_close(&im);
        image_close(&other);
        pthread_t t;

        taken(&other, path, false, false);
        assert_int_equal(pthread_create(&t, NULL, let_go, &other), 0);
        taken(&im, path, false, false);
        pthread_join(t, NULL);
        image_close(&im);
        mount = open(path, O_RDONLY | O_EXCL | O_CLOEXEC); /* which is what mounting does */
        assert_true(mount >= 0);
        REFUSED(path, false, false, EBUSY, "mounted", "unmount it");
        taken(&im, path, true, false);
        image_close(&im);
        close(mount);
        close(keep);
    }
}

/* --- the private file ------------------------------------------------------------------------- */

static void private_is_good(int fd, uint64_t size)
{
    struct stat st;
    char byte = 'x';

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, size);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)size - 1), 1);
    assert_int_equal(byte, 0);
    assert_int_equal(pwrite(fd, "y", 1, (off_t)size - 1), 1);
    close(fd);
    /* A directory that still has something in it can't be removed. */
    assert_int_equal(rmdir(at("private")), 0);
    assert_int_equal(mkdir(at("private"), 0700), 0);
}

static void a_private_file_has_no_name(void **state)
{
    static const uint64_t sizes[] = { 512, 5 * MIB + 512, 1024 * GIB };
    struct err e = { 0 };

    (void)state;
    assert_int_equal(mkdir(at("private"), 0700), 0);
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct privately p = { .dir = at("private"), .size = sizes[i] };

        private_is_good(image_private(p.dir, p.size, &e), p.size);
        /* A file system that has no O_TMPFILE. */
        elsewhere((struct elsewhere){ .nr = SYS_openat,
                                      .arg = 2,
                                      .mask = O_TMPFILE_BIT,
                                      .value = O_TMPFILE_BIT,
                                      .code = i % 2 ? EISDIR : EOPNOTSUPP,
                                      .fn = privately_do,
                                      .fn_arg = &p });
        private_is_good(p.ret, p.size);
    }
}

/* Where it lies when nobody says: seen by that directory's absence. */
static void private_files_have_a_usual_place(void **state)
{
    char *old = getenv("TMPDIR");
    struct err e = { 0 };
    char saved[256];

    (void)state;
    snprintf(saved, sizeof saved, "%s", old ? old : "");
    setenv("TMPDIR", at("nowhere"), 1);
    assert_int_equal(image_private(NULL, 512, &e), -ENOENT);
    assert_non_null(strstr(e.msg, at("nowhere")));
    int fd = image_private(dir, 512, &e); /* a directory of the caller's goes first */

    assert_true(fd >= 0);
    close(fd);
    setenv("TMPDIR", "", 1);
    fd = image_private(NULL, 512, &e);
    assert_true(fd >= 0);
    close(fd);
    unsetenv("TMPDIR");
    fd = image_private(NULL, 512, &e);
    assert_true(fd >= 0);
    close(fd);
    if (old)
        setenv("TMPDIR", saved, 1);
}

static void private_refused(const char *where, uint64_t size, int code)
{
    struct err e = { 0 };

    assert_int_equal(image_private(where, size, &e), -code);
    assert_int_equal(e.code, code);
    if (!strstr(e.msg, where) || !strstr(e.msg, "overlay=DIR") || !strstr(e.msg, strerror(code)))
        fail_msg("it says: %s", e.msg);
}

static void a_private_file_that_cannot_be(void **state)
{
    struct rlimit old, small = { MIB, RLIM_INFINITY };

    (void)state;
    private_refused(at("nowhere"), 512, ENOENT);
    private_refused(a_file("file", 512), 512, ENOTDIR);
    private_refused(dir, INT64_MAX / 512 * 512, EFBIG);
    private_refused(dir, UINT64_C(1) << 63, EFBIG);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    private_refused(dir, 2 * MIB, EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
    /* No room: of the directory, whichever way the file is made. */
    struct privately p = { .dir = dir, .size = 512 };

    elsewhere((struct elsewhere){ .nr = SYS_openat,
                                  .arg = 2,
                                  .mask = O_RDWR,
                                  .value = O_RDWR,
                                  .code = ENOSPC,
                                  .fn = privately_do,
                                  .fn_arg = &p });
    assert_int_equal(p.ret, -ENOSPC);
    assert_non_null(strstr(p.e.msg, "overlay=DIR"));
    p = (struct privately){ .dir = dir, .size = 512 };
    elsewhere((struct elsewhere){
        .nr = SYS_ftruncate, .code = ENOSPC, .fn = privately_do, .fn_arg = &p });
    assert_int_equal(p.ret, -ENOSPC);
    assert_non_null(strstr(p.e.msg, "overlay=DIR"));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static int group_end(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_measured),
        cmocka_unit_test(odd_sizes_say_how_to_pad),
        cmocka_unit_test(other_things_are_refused_by_name),
        cmocka_unit_test(no_right_says_which),
        cmocka_unit_test(no_descriptor_leaks),
        cmocka_unit_test(one_writer_or_many_readers),
        cmocka_unit_test(other_processes_are_met),
        cmocka_unit_test(the_last_one_is_waited_for),
        cmocka_unit_test(no_locks_no_disk),
        cmocka_unit_test(direct_tells_its_block),
        cmocka_unit_test(a_block_is_found_by_reading),
        cmocka_unit_test(no_direct_says_so),
        cmocka_unit_test(block_devices),
        cmocka_unit_test(a_private_file_has_no_name),
        cmocka_unit_test(private_files_have_a_usual_place),
        cmocka_unit_test(a_private_file_that_cannot_be),
    };

    signal(SIGXFSZ, SIG_IGN); /* as main does */
    if (!mkdtemp(dir))
        return 1;
    return cmocka_run_group_tests(tests, NULL, group_end);
}
