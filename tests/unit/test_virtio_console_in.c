/* The console's input: it waits for the guest, ends with the pipe, knocks at a Linux that is not
 * listening yet, and survives a reset. */
#include "tests/unit/console_rig.h"

#include <pty.h>
#include <sys/socket.h>

#define INPUT (100 * KIB)

struct typist {
    int fd;
    bool hang_up;
};

static void *typist_main(void *arg)
{
    struct typist *t = arg;
    uint8_t text[1000];

    for (size_t done = 0; done < INPUT; done += sizeof text) {
        size_t n = min_size(sizeof text, INPUT - done);

        text_fill(text, done, n);
        if (write(t->fd, text, n) != (ssize_t)n) /* a pipe: it waits */
            break;
    }
    if (t->hang_up)
        close(t->fd);
    return NULL;
}

/* The guest takes nothing for a while, then slowly: the sender waits, and all arrives in order. */
static void input_waits_for_the_guest(void **state)
{
    (void)state;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        struct rig g;
        pthread_t thread;
        uint8_t *got = malloc(INPUT + 1);

        assert_non_null(got);
        rig_init(&g);
        rig_run(&g);
        rig_up(&g, PLAIN | (event_idx ? VIRTIO_F_EVENT_IDX : 0));
        struct typist t = { .fd = g.keys, .hang_up = true };

        g.keys = -1;
        assert_int_equal(pthread_create(&thread, NULL, typist_main, &t), 0);
        rig_sleeps(&g); /* full, and not spinning on it */
        rig_receive(&g, got, 10000, 100);
        rig_receive(&g, got + 10000, INPUT + 1 - 10000, 4000);
        pthread_join(thread, NULL);
        for (size_t i = 0; i < INPUT; i++)
            if (got[i] != text_at(i))
                fail_msg("byte %zu of the input", i);
        assert_int_equal(got[INPUT], 4); /* Ctrl-D for the end */
        rig_receive_nothing(&g);
        rig_sleeps(&g);
        free(got);
        rig_fini(&g);
    }
}

/* Buffers are there before the input is. */
static void input_finds_waiting_buffers(void **state)
{
    (void)state;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        struct rig g;
        uint32_t id, len;

        rig_init(&g);
        rig_run(&g);
        rig_up(&g, PLAIN | (event_idx ? VIRTIO_F_EVENT_IDX : 0));
        for (unsigned i = 0; i < 8; i++)
            rig_offer(&g, RX, i, 10);
        rig_sleeps(&g);
        assert_int_equal(write(g.keys, "0123456789abcde", 15), 15);
        for (unsigned i = 0; i < 2; i++) {
            assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
            assert_int_equal(id, i);
            assert_int_equal(len, i ? 5 : 10);
        }
        assert_memory_equal(ram(&g.mem, RIG_RX, 10), "0123456789", 10);
        assert_memory_equal(ram(&g.mem, RIG_RX + RIG_SLOT, 6), "abcde\0", 6);
        assert_false(rig_used(&g, RX, 30, &id, &len));
        rig_fini(&g);
    }
}

/* However input ends, the guest gets what came before it and one Ctrl-D, once. */
static void the_end_of_input(void **state)
{
    static const char *const kinds[] = { "pipe", "socket", "file", "/dev/null", "full" };

    (void)state;
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        struct rig g;
        uint8_t text[6000], got[6001];
        size_t n = kind == 4 ? sizeof text : kind == 3 ? 0 : 5;
        int fds[2] = { -1, -1 };
        char path[] = "/tmp/mayfly-unit-XXXXXX";

        text_fill(text, 0, sizeof text);
        if (kind == 0 || kind == 4)
            assert_int_equal(pipe(fds), 0);
        else if (kind == 1)
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        else if (kind == 2)
            fds[1] = mkstemp(path);
        if (kind != 3)
            assert_int_equal(write(fds[1], text, n), n);
        if (kind == 2) {
            fds[0] = open(path, O_RDONLY | O_CLOEXEC);
            unlink(path);
        }
        if (kind == 3)
            fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        rig_close(&fds[1]);
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        rig_init_fds(&g, fds[0], -1);
        rig_run(&g);
        rig_sleeps(&g);
        rig_up(&g, PLAIN);
        rig_receive(&g, got, n + 1, 512);
        assert_memory_equal(got, text, n);
        if (got[n] != 4)
            fail_msg("%s ended with 0x%x", kinds[kind], got[n]);
        rig_receive_nothing(&g);
        rig_sleeps(&g);
        rig_fini(&g);
    }
}

/* A terminal that hangs up is no end of input: nobody typed Ctrl-D. */
static void a_terminal_that_hangs_up(void **state)
{
    struct rig g;
    int main_fd, side_fd;
    uint8_t got[2];
    struct termios raw;

    (void)state;
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, NULL), 0);
    tcgetattr(side_fd, &raw);
    cfmakeraw(&raw);
    tcsetattr(side_fd, TCSANOW, &raw);
    fcntl(side_fd, F_SETFL, O_NONBLOCK);
    rig_init_fds(&g, side_fd, -1);
    g.stream.in_tty = true;
    rig_run(&g);
    rig_up(&g, PLAIN);
    assert_int_equal(write(main_fd, "ab", 2), 2);
    rig_receive(&g, got, 2, 16);
    assert_memory_equal(got, "ab", 2);
    close(main_fd);
    rig_receive_nothing(&g);
    rig_sleeps(&g);
    rig_fini(&g);
}

/* Ctrl-] three times counts on a terminal, and goes to the guest all the same. */
static void the_escape_sequence(void **state)
{
    (void)state;
    for (int tty = 0; tty < 2; tty++) {
        struct rig g;
        uint8_t got[5];

        rig_init(&g);
        g.stream.in_tty = tty;
        rig_run(&g);
        rig_up(&g, PLAIN);
        assert_int_equal(write(g.keys,
                               "a\x1d\x1d\x1d"
                               "b",
                               5),
                         5);
        rig_receive(&g, got, 5, 16);
        assert_memory_equal(got,
                            "a\x1d\x1d\x1d"
                            "b",
                            5);
        assert_int_equal(__atomic_load_n(&g.escapes, __ATOMIC_RELAXED), tty);
        rig_fini(&g);
    }
}

/* It works on a guest that hangs and takes nothing. */
static void the_escape_sequence_on_a_dead_guest(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g);
    g.stream.in_tty = true;
    rig_run(&g);
    assert_int_equal(write(g.keys, "hello?\r\x1d\x1d\x1d", 10), 10);
    for (int i = 0; i < 500 && !__atomic_load_n(&g.escapes, __ATOMIC_RELAXED); i++)
        sleep_ms(10);
    assert_int_equal(__atomic_load_n(&g.escapes, __ATOMIC_RELAXED), 1);
    rig_fini(&g);
}

/* --- knocking ----------------------------------------------------------------------------- */

/* Offers every receive buffer, 16 bytes each, before DRIVER_OK, as Linux does, then transmits. */
static void up_with_a_full_ring(struct rig *g, uint64_t features)
{
    rig_rings(g, features);
    for (unsigned i = 0; i < RIG_SLOTS; i++) {
        ring_desc(&g->ring[RX], i,
                  (struct ring_desc){ RIG_RX + (uint64_t)i * RIG_SLOT, 16, D_WRITE, 0 });
        ring_put(&g->ring[RX], (uint16_t)i);
    }
    ring_publish(&g->ring[RX]);
    assert_int_equal(drive_up(&g->t, features, g->ring, 2), 0xf);
    rig_print(g, "boot", 4);
}

/* Takes n bytes of input from buffers that are offered already, in order from next on, skipping
 * empty ones. How many those were. */
static unsigned take_input(struct rig *g, uint8_t *got, size_t n, unsigned next)
{
    unsigned empty = 0;
    uint32_t id, len;

    for (size_t done = 0; done < n; next++) {
        if (!rig_used(g, RX, RIG_WAIT, &id, &len))
            fail_msg("%zu of %zu bytes of input came", done, n);
        assert_int_equal(id, next % RIG_SLOTS);
        assert_true(len <= n - done);
        memcpy(got + done, ram(&g->mem, RIG_RX + (uint64_t)id * RIG_SLOT, 16), len);
        done += len;
        empty += len == 0;
    }
    return empty;
}

/* A driver that has offered all its buffers and is not listening yet: it gets empty ones, and no
 * byte of input before it returned one. */
static void input_waits_until_a_knock_is_answered(void **state)
{
    struct rig g;
    uint32_t id, len;
    uint8_t got[26];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    up_with_a_full_ring(&g, PLAIN | VIRTIO_F_EVENT_IDX);
    assert_false(rig_used(&g, RX, 40, &id, &len)); /* nothing to tell: no knock */
    assert_int_equal(write(g.keys, "precious words typed early", 26), 26);
    for (unsigned i = 0; i < 3; i++) { /* thrown away as they come */
        assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
        assert_int_equal(id, i);
        assert_int_equal(len, 0);
    }
    rig_sleeps(&g);
    /* Now somebody listens: takes what is there and gives each back. */
    rig_offer(&g, RX, 0, 16);
    unsigned knocks = take_input(&g, got, 26, 3);

    assert_in_range(knocks, 0, 1);
    assert_memory_equal(got, "precious words typed early", 26);
    /* From now on it comes at once, and there is no more knocking. */
    assert_int_equal(write(g.keys, "!", 1), 1);
    assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
    assert_int_equal(len, 1);
    assert_false(rig_used(&g, RX, 100, &id, &len));
    rig_fini(&g);
}

/* Nobody takes what is used: one knock is enough. */
static void nobody_knocks_twice_at_a_closed_door(void **state)
{
    struct rig g;
    uint8_t got[4];
    uint32_t id, len;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    up_with_a_full_ring(&g, PLAIN | VIRTIO_F_EVENT_IDX);
    assert_int_equal(write(g.keys, "open", 4), 4);
    sleep_ms(20);
    uint64_t irqs;

    assert_int_equal(read(g.dev->irqfd, &irqs, sizeof irqs), sizeof irqs);
    rig_sleeps(&g);
    sleep_ms(500);
    assert_in_range(__atomic_load_n(ring_used(&g.ring[RX], 1), __ATOMIC_ACQUIRE), 1, 2);
    /* A guest that never opens the port is left in peace: pauses grow all the same. */
    assert_int_equal(read(g.dev->irqfd, &irqs, sizeof irqs), sizeof irqs);
    assert_in_range(irqs, 1, 8);
    /* It opens: takes what lies there and gives it back. */
    assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
    assert_int_equal(len, 0);
    rig_offer(&g, RX, id, 16);
    take_input(&g, got, 4, id + 1);
    assert_memory_equal(got, "open", 4);
    rig_fini(&g);
}

/* Without EVENT_IDX it is no Linux, and gets its input at once. */
static void a_full_ring_of_another_driver(void **state)
{
    struct rig g;
    uint8_t got[5];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    up_with_a_full_ring(&g, PLAIN);
    assert_int_equal(write(g.keys, "hello", 5), 5);
    assert_int_equal(take_input(&g, got, 5, 0), 0);
    assert_memory_equal(got, "hello", 5);
    rig_fini(&g);
}

/* Another reset, another driver: knocking begins anew. */
static void a_reset_forgets_the_knocking(void **state)
{
    struct rig g;
    uint32_t id, len;
    uint8_t got[5];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    assert_int_equal(write(g.keys, "hello", 5), 5);
    for (int round = 0; round < 3; round++) {
        up_with_a_full_ring(&g, PLAIN | VIRTIO_F_EVENT_IDX);
        assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
        assert_int_equal(len, 0);
    }
    rig_up(&g, PLAIN);
    rig_receive(&g, got, 5, 16);
    assert_memory_equal(got, "hello", 5);
    rig_fini(&g);
}

/* A driver that might be Linux but offers few buffers and never transmits gets its input too, only
 * later; one that can't be Linux gets it at once. */
static void a_driver_that_only_reads(void **state)
{
    (void)state;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        const uint64_t features = PLAIN | (event_idx ? VIRTIO_F_EVENT_IDX : 0);
        struct rig g;
        uint8_t got[5];
        uint32_t id, len;

        rig_init(&g);
        rig_run(&g);
        rig_rings(&g, features);
        assert_int_equal(drive_up(&g.t, features, g.ring, 2), 0xf);
        rig_offer(&g, RX, 0, 16);
        assert_int_equal(write(g.keys, "hello", 5), 5);
        assert_true(rig_used(&g, RX, event_idx ? RIG_WAIT : 900, &id, &len));
        assert_int_equal(len, 5);
        assert_memory_equal(ram(&g.mem, RIG_RX, 5), "hello", 5);
        assert_int_equal(write(g.keys, "again", 5), 5);
        rig_receive(&g, got, 5, 16);
        assert_memory_equal(got, "again", 5);
        rig_fini(&g);
    }
}

/* --- reset -------------------------------------------------------------------------------- */

/* A reset in the middle of input: the next driver goes on where the last one stopped. */
static void a_reset_loses_no_input(void **state)
{
    struct rig g;
    uint8_t text[3000], got[3000];
    size_t at = 0;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    text_fill(text, 0, sizeof text);
    assert_int_equal(write(g.keys, text, sizeof text), sizeof text);
    for (int round = 0; round < 4; round++) {
        rig_up(&g, PLAIN); /* which resets first */
        rig_receive(&g, got + at, 300, 100);
        at += 300;
    }
    reg_write(&g.t, R_STATUS, 0);
    rig_up(&g, PLAIN | VIRTIO_F_EVENT_IDX);
    rig_receive(&g, got + at, sizeof got - at, 4096);
    assert_memory_equal(got, text, sizeof text);
    rig_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_waits_for_the_guest),
        cmocka_unit_test(input_finds_waiting_buffers),
        cmocka_unit_test(the_end_of_input),
        cmocka_unit_test(a_terminal_that_hangs_up),
        cmocka_unit_test(the_escape_sequence),
        cmocka_unit_test(the_escape_sequence_on_a_dead_guest),
        cmocka_unit_test(input_waits_until_a_knock_is_answered),
        cmocka_unit_test(nobody_knocks_twice_at_a_closed_door),
        cmocka_unit_test(a_full_ring_of_another_driver),
        cmocka_unit_test(a_reset_forgets_the_knocking),
        cmocka_unit_test(a_driver_that_only_reads),
        cmocka_unit_test(a_reset_loses_no_input),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
