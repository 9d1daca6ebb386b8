/* The disk over its real engines, on real files: random requests against a model, and the file read
 * behind its back at the end; an overlay's base stays as it was to the byte; a file that shrinks,
 * and one that may not grow, fail their requests alone. The fake engine: test_host_disk.c. */
#include "tests/unit/disk_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BASE_ID 1

static char dir[] = "/tmp/mayfly-disk-XXXXXX";
static char path[64];
static bool no_uring;

/* A disk of ours. */
struct real {
    struct loop loop;
    struct disk *d;
    struct rig rig;
};

static struct real one, two;

static void write_image(uint32_t sectors)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    uint8_t buf[IMAGE_SECTOR];

    assert_true(fd >= 0);
    for (uint32_t i = 0; i < sectors; i++) {
        stamp(BASE_ID, i, buf);
        assert_int_equal(write(fd, buf, sizeof buf), sizeof buf);
    }
    close(fd);
}

/* What file fd has, against the model; everywhere BASE_ID for the base of an overlay. */
static void check_file(const struct rig *r, int fd, bool pristine)
{
    uint8_t buf[IMAGE_SECTOR];

    for (uint32_t i = 0; i < r->sectors; i++) {
        assert_int_equal(pread(fd, buf, sizeof buf, (off_t)i * IMAGE_SECTOR), sizeof buf);
        uint32_t got = stamp_read(buf, i), want = pristine ? BASE_ID : r->now[i];

        if (got != want)
            fail_msg("sector %u of the file: %#x, not %#x", i, got, want);
    }
}

static struct disk_opts options(enum disk_engine_choice engine)
{
    return (
        struct disk_opts){ .path = path, .overlay_dir = dir, .engine = engine, .depth = RIG_SLOTS };
}

/* false: the engine is not to be had here. */
static bool real_open(struct real *t, const struct disk_opts *o, uint32_t sectors, uint64_t seed)
{
    struct err e = { 0 };

    memset(&t->loop, 0, sizeof t->loop);
    assert_int_equal(loop_init(&t->loop, &e), 0);
    t->d = disk_open(o, &t->loop, &e);
    if (!t->d && o->engine == DISK_ENGINE_URING &&
        (e.code == EPERM || e.code == ENOSYS || e.code == EACCES)) {
        if (!no_uring)
            print_message("skip: %s\n", e.msg);
        no_uring = true;
        loop_fini(&t->loop);
        return false;
    }
    if (!t->d)
        fail_msg("%s", e.msg);
    rig_init(&t->rig, t->d, sectors, BASE_ID, seed);
    if (t->d->engine->enter)
        assert_int_equal(t->d->engine->enter(t->d), 0);
    return true;
}

static void real_close(struct real *t)
{
    disk_drain(t->d);
    assert_int_equal(t->rig.busy, 0);
    disk_free(t->d);
    loop_fini(&t->loop);
}

static void stop_loop(void *arg)
{
    loop_stop(&((struct real *)arg)->loop);
}

/* As a device has it: told that a batch is done. */
static void real_batch(void *arg)
{
    struct rig *r = arg;

    r->batches++;
    stop_loop(r->arg);
}

/* Runs the loop on this thread until some request has ended. */
static void real_wait(struct real *t)
{
    if (t->rig.busy == 0)
        return;
    t->rig.arg = t;
    t->d->batch = real_batch;
    t->loop.stop = false;
    loop_run(&t->loop);
}

static void wait_all(struct real *t)
{
    while (t->rig.busy)
        real_wait(t);
}

static void real_run(struct real *t, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        if (rng_chance(&t->rig.rng, 2))
            disk_drain(t->d);
        else if (t->rig.busy < RIG_SLOTS && rng_chance(&t->rig.rng, 75))
            rig_submit_any(&t->rig);
        else
            real_wait(t);
        assert_int_equal(t->d->in_flight, t->rig.busy);
    }
    wait_all(t);
}

static void read_all_of(struct real *t)
{
    for (uint32_t i = 0; i < t->rig.sectors; i += 64) {
        assert_non_null(rig_submit(&t->rig, DISK_READ, i, 64, false, false));
        if (t->rig.busy == RIG_SLOTS)
            wait_all(t);
    }
    wait_all(t);
}

/* --- random requests -------------------------------------------------------------------------- */

static void any_run(const struct disk_opts *o, uint64_t seed, unsigned steps)
{
    struct stat before, after;

    write_image(RIG_SECTORS);
    if (o->overlay)
        assert_int_equal(chmod(path, 0444), 0);
    if (!real_open(&one, o, RIG_SECTORS, seed))
        return;
    one.rig.stable = 2; /* it takes its time */
    if (o->direct)
        one.rig.block = one.d->image.physical / IMAGE_SECTOR;
    assert_int_equal(fstat(one.d->image.fd, &before), 0);
    real_run(&one, steps);
    for (enum disk_op op = DISK_READ; op <= DISK_ZERO; op++)
        assert_true(one.rig.done[op] > 0);
    assert_true(one.rig.batches > 0 || one.d->engine->drain == NULL);
    read_all_of(&one);
    assert_int_equal(one.rig.failed, 0);
    assert_int_equal(fstat(one.d->image.fd, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    if (o->overlay) {
        assert_int_equal(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
        assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    check_file(&one.rig, fd, o->overlay);
    close(fd);
    real_close(&one);
    assert_int_equal(unlink(path), 0);
}

/* Whether the file system here has direct I/O. */
static bool direct_here(void)
{
    write_image(8);
    int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    else
        print_message("skip: no O_DIRECT in %s\n", dir);
    return fd >= 0;
}

static void any_runs(enum disk_engine_choice engine)
{
    bool direct = direct_here();

    for (uint64_t seed = 0; seed < 4 && !(no_uring && engine == DISK_ENGINE_URING); seed++) {
        struct disk_opts o = options(engine);

        o.overlay = seed % 2;
        any_run(&o, seed, 1500);
        o.direct = true;
        if (direct)
            any_run(&o, 100 + seed, 1500);
    }
}

static void the_sync_engine_is_right(void **state)
{
    (void)state;
    any_runs(DISK_ENGINE_SYNC);
}

static void the_ring_is_right(void **state)
{
    (void)state;
    any_runs(DISK_ENGINE_URING);
    if (no_uring)
        skip();
}

/* Any number of disks on one base, each with a private file. */
static void overlays_share_a_base(void **state)
{
    (void)state;
    for (enum disk_engine_choice e = DISK_ENGINE_URING; e <= DISK_ENGINE_SYNC; e++) {
        struct disk_opts o = options(e);
        struct err err;

        o.overlay = true;
        write_image(1024);
        if (!real_open(&one, &o, 1024, 1))
            continue;
        assert_true(real_open(&two, &o, 1024, 2));
        for (int i = 0; i < 20; i++) {
            real_run(&one, 40);
            real_run(&two, 40);
        }
        read_all_of(&one);
        read_all_of(&two);
        check_file(&one.rig, one.d->image.fd, true);
        /* And a disk that would write to it is kept away. */
        o.overlay = false;
        assert_null(disk_open(&o, &one.loop, &err));
        assert_int_equal(err.code, EBUSY);
        real_close(&one);
        real_close(&two);
    }
}

/* --- room ------------------------------------------------------------------------------------- */

static uint64_t room_of(int fd)
{
    struct stat st;

    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* What the file system here can do to a range, by our own try. */
static bool can(int mode)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int ret = fallocate(fd, FALLOC_FL_KEEP_SIZE | mode, 0, 4096);

    close(fd);
    return ret == 0;
}

/* A discard gives the room back, so do zeros that may; others keep it. An overlay has no use for
 * room of zeros. */
static void room_is_given_back(void **state)
{
    const uint64_t all = RIG_SECTORS * IMAGE_SECTOR, part = all / 4;

    (void)state;
    write_image(RIG_SECTORS);
    if (!can(FALLOC_FL_PUNCH_HOLE) || !can(FALLOC_FL_ZERO_RANGE))
        skip();
    for (enum disk_engine_choice e = DISK_ENGINE_URING; e <= DISK_ENGINE_SYNC; e++) {
        for (int overlay = 0; overlay < 2; overlay++) {
            struct disk_opts o = options(e);
            uint64_t kept = overlay ? 0 : part;

            o.overlay = overlay;
            write_image(RIG_SECTORS);
            if (!real_open(&one, &o, RIG_SECTORS, 1))
                continue;
            int fd = one.d->fd[overlay ? DISK_PRIVATE : DISK_BASE];

            assert_non_null(rig_submit(&one.rig, DISK_WRITE, 0, RIG_SECTORS, false, false));
            wait_all(&one);
            uint64_t room = room_of(fd); /* with what the file system needs itself */

            assert_true(room >= all);
            rig_submit(&one.rig, DISK_DISCARD, 0, RIG_SECTORS / 4, false, false);
            wait_all(&one);
            assert_in_range(room_of(fd), room - part - 65536, room - part + 65536);
            rig_submit(&one.rig, DISK_ZERO, RIG_SECTORS / 4, RIG_SECTORS / 4, false, true);
            wait_all(&one);
            assert_in_range(room_of(fd), room - 2 * part - 65536, room - 2 * part + 65536);
            rig_submit(&one.rig, DISK_ZERO, RIG_SECTORS / 2, RIG_SECTORS / 4, false, false);
            wait_all(&one);
            assert_in_range(room_of(fd), room - 3 * part + kept - 65536,
                            room - 3 * part + kept + 65536);
            assert_false(one.d->no_punch || one.d->no_zero);
            read_all_of(&one);
            real_close(&one);
        }
    }
}

/* --- bad days --------------------------------------------------------------------------------- */

static unsigned results[2 * RIG_SLOTS];

/* Requests that may fail: whether each did, in the order of the slots that they got. */
static void note_result(struct rig *r, struct rig_slot *s)
{
    results[s - r->slot] = (unsigned)-s->req.result;
}

static unsigned slot_number(const struct rig *r, const struct rig_slot *s)
{
    assert_non_null(s);
    return (unsigned)(s - r->slot);
}

/* One of its own, told apart from the next by waiting. */
static unsigned result_of(struct real *t, enum disk_op op, uint32_t first, uint32_t n)
{
    unsigned i = slot_number(&t->rig, rig_submit(&t->rig, op, first, n, false, false));

    wait_all(t);
    return results[i];
}

static void a_file_that_shrinks(void **state)
{
    (void)state;
    for (enum disk_engine_choice e = DISK_ENGINE_URING; e <= DISK_ENGINE_SYNC; e++) {
        for (int overlay = 0; overlay < 2; overlay++) {
            struct disk_opts o = options(e);

            o.overlay = overlay;
            write_image(1024);
            if (!real_open(&one, &o, 1024, 1))
                continue;
            one.rig.judge = note_result;
            /* Inside sector 512; should it grow again, there are zeros. */
            assert_int_equal(truncate(path, 512 * 512 + 100), 0);
            memset(one.rig.now + 513, 0, sizeof(uint32_t) * (1024 - 513));
            one.rig.now[512] = RIG_ANY;
            assert_int_equal(result_of(&one, DISK_READ, 0, 512), 0);
            assert_int_equal(result_of(&one, DISK_READ, 512, 1), EIO);
            assert_int_equal(result_of(&one, DISK_READ, 500, 20), EIO);
            assert_int_equal(result_of(&one, DISK_READ, 1023, 1), EIO);
            assert_int_equal(result_of(&one, DISK_READ, 511, 1), 0);
            /* Many at once: each has its own fate. */
            for (uint32_t i = 0; i < RIG_SLOTS; i++)
                rig_submit(&one.rig, DISK_READ, i * 32, 32, false, false);
            wait_all(&one);
            assert_int_equal(result_of(&one, DISK_FLUSH, 0, 0), 0);
            /* A write makes the file long enough again, or goes to the private one. */
            assert_int_equal(result_of(&one, DISK_WRITE, 1000, 24), 0);
            assert_int_equal(result_of(&one, DISK_READ, 1000, 24), 0);
            assert_int_equal(result_of(&one, DISK_READ, 700, 1), overlay ? EIO : 0);
            real_close(&one);
        }
    }
}

/* As a full disk does, but for the number: writes end short, then fail, and all else goes on. */
static void a_file_that_may_not_grow(void **state)
{
    struct rlimit old, small = { 600 * 512, RLIM_INFINITY };

    (void)state;
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    for (enum disk_engine_choice e = DISK_ENGINE_URING; e <= DISK_ENGINE_SYNC; e++) {
        for (int overlay = 0; overlay < 2; overlay++) {
            struct disk_opts o = options(e);

            o.overlay = overlay;
            write_image(1024);
            if (!real_open(&one, &o, 1024, 1))
                continue;
            one.rig.judge = note_result;
            setrlimit(RLIMIT_FSIZE, &small);
            assert_int_equal(result_of(&one, DISK_WRITE, 0, 600), 0);
            assert_int_equal(result_of(&one, DISK_WRITE, 600, 1), EFBIG);
            assert_int_equal(result_of(&one, DISK_WRITE, 590, 20), EFBIG);
            assert_int_equal(result_of(&one, DISK_READ, 0, 590), 0);
            assert_int_equal(result_of(&one, DISK_READ, 610, 1024 - 610), 0);
            /* Half of it is in the private file now; nothing of it is torn. */
            assert_int_equal(result_of(&one, DISK_READ, 580, 40), 0);
            assert_int_equal(result_of(&one, DISK_WRITE, 599, 1), 0);
            assert_int_equal(result_of(&one, DISK_READ, 599, 1), 0);
            assert_int_equal(result_of(&one, DISK_FLUSH, 0, 0), 0);
            setrlimit(RLIMIT_FSIZE, &old);
            assert_int_equal(result_of(&one, DISK_WRITE, 590, 20), 0);
            read_all_of(&one);
            real_close(&one);
        }
    }
}

static void what_cannot_be_opened(void **state)
{
    struct err e = { 0 };
    struct loop loop = { 0 };

    (void)state;
    assert_int_equal(loop_init(&loop, &e), 0);
    for (enum disk_engine_choice c = DISK_ENGINE_AUTO; c <= DISK_ENGINE_SYNC; c++) {
        struct disk_opts o = options(c);

        unlink(path);
        assert_null(disk_open(&o, &loop, &e));
        assert_int_equal(e.code, ENOENT);
        write_image(8);
        o.overlay = true;
        o.overlay_dir = "/nowhere/at/all";
        assert_null(disk_open(&o, &loop, &e));
        assert_int_equal(e.code, ENOENT);
        assert_non_null(strstr(e.msg, "/nowhere/at/all"));
        /* The failed ones hold no lock. */
        o = options(c);
        if (c == DISK_ENGINE_URING && no_uring)
            continue;
        struct disk *d = disk_open(&o, &loop, &e);

        assert_non_null(d);
        disk_free(d);
    }
    loop_fini(&loop);
}

/* The kernel takes a dead process's ring apart behind its end, and only then lets go of the image:
 * who starts again at once must not be told that it is in use. */
static void a_killed_one_is_waited_for(void **state)
{
    (void)state;
    for (enum disk_engine_choice e = DISK_ENGINE_URING; e <= DISK_ENGINE_SYNC; e++) {
        struct disk_opts o = options(e);
        int ready[2];
        char byte;

        if (e == DISK_ENGINE_URING && no_uring)
            continue;
        write_image(1024);
        assert_int_equal(pipe(ready), 0);
        pid_t pid = fork();

        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test fail */
            bool there = real_open(&one, &o, 1024, 1);

            if (there && write(ready[1], "!", 1) == 1)
                loop_run(&one.loop);
            _exit(1);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(real_open(&one, &o, 1024, 1));
        real_close(&one);
    }
}

/* --- what the ring hears ------------------------------------------------------------------------
 */

struct ear {
    struct real *t;
    unsigned heard[3];
};

static void on_heard(void *arg, unsigned i)
{
    struct ear *ear = arg;

    ear->heard[i]++;
    stop_loop(ear->t);
}

static void on_watch(struct watch *w, uint32_t revents)
{
    uint64_t n;

    (void)revents;
    assert_int_equal(read(w->fd, &n, sizeof n), sizeof n);
    on_heard(w->arg, 2);
}

static void loop_once(struct real *t)
{
    t->loop.stop = false;
    loop_run(&t->loop);
}

static void ring(int fd)
{
    uint64_t add = 1;

    assert_int_equal(write(fd, &add, sizeof add), sizeof add);
}

/* A ring by hand, since the eventfds must be named before it is entered. false: none here. */
static bool ear_open(struct ear *ear, struct real *t, int kick[2], int out)
{
    struct disk_opts o = options(DISK_ENGINE_URING);
    struct err e = { 0 };

    *ear = (struct ear){ .t = t };
    memset(&t->loop, 0, sizeof t->loop);
    assert_int_equal(loop_init(&t->loop, &e), 0);
    t->d = disk_open(&o, &t->loop, &e);
    assert_non_null(t->d);
    rig_init(&t->rig, t->d, 1024, BASE_ID, 1);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(t->d->engine->listen(t->d, kick[i], on_heard, ear, i), 0);
    assert_int_equal(t->d->engine->reach(t->d, out), 0);
    assert_int_equal(t->d->engine->enter(t->d), 0);
    return true;
}

static void the_ring_listens(void **state)
{
    int kick[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
    int door = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int out = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct ear ear;
    uint64_t n;

    (void)state;
    if (no_uring)
        skip();
    write_image(1024);
    ear_open(&ear, &one, kick, out);
    struct watch w = { .fd = door, .events = 1, .fn = on_watch, .arg = &ear };

    assert_int_equal(loop_add(&one.loop, &w), 0);
    for (unsigned round = 1; round <= 5; round++) {
        for (unsigned i = 0; i < 3; i++) {
            ring(i < 2 ? kick[i] : door);
            loop_once(&one);
            for (unsigned k = 0; k < 3; k++)
                assert_int_equal(ear.heard[k], round - (k > i));
        }
        /* A drain hears nothing, and nothing is lost in it. */
        for (uint32_t i = 0; i < RIG_SLOTS; i++)
            rig_submit(&one.rig, DISK_WRITE, i * 32, 32, true, false);
        ring(kick[1]);
        disk_drain(one.d);
        assert_int_equal(one.rig.busy, 0);
        assert_int_equal(ear.heard[1], round);
        loop_once(&one);
        assert_int_equal(ear.heard[1]--, round + 1);
        one.d->engine->signal(one.d);
        one.d->engine->signal(one.d);
        ring(door); /* some reason for a round to end */
        loop_once(&one);
        ear.heard[2]--;
        assert_int_equal(read(out, &n, sizeof n), sizeof n);
        assert_in_range(n, 1, 2);
        assert_int_equal(read(door, &n, sizeof n), -1);
    }
    loop_del(&one.loop, &w);
    real_close(&one);
    for (unsigned i = 0; i < 2; i++)
        close(kick[i]);
    close(door);
    close(out);
}

static int group_end(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sync_engine_is_right), cmocka_unit_test(the_ring_is_right),
        cmocka_unit_test(overlays_share_a_base),    cmocka_unit_test(room_is_given_back),
        cmocka_unit_test(a_file_that_shrinks),      cmocka_unit_test(a_file_that_may_not_grow),
        cmocka_unit_test(what_cannot_be_opened),    cmocka_unit_test(a_killed_one_is_waited_for),
        cmocka_unit_test(the_ring_listens),
    };

    signal(SIGXFSZ, SIG_IGN); /* as main does */
    alarm(120);
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof path, "%s/image", dir);
    return cmocka_run_group_tests(tests, NULL, group_end);
}
