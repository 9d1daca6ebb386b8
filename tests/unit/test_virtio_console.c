/* The console: echo, input, the end of input, size, and its saved state. */
#include "tests/unit/console_rig.h"

#include <pty.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

static void echo_through_real_queues(void **state)
{
    static const uint64_t features[] = {
        PLAIN,
        PLAIN | VIRTIO_F_INDIRECT_DESC,
        PLAIN | VIRTIO_F_EVENT_IDX,
        PLAIN | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        struct rng r = { i };
        struct rig g;

        rig_init(&g);
        rig_run(&g);
        assert_false(console_was_used(g.dev));
        rig_up(&g, features[i]);
        for (int round = 0; round < 150; round++) {
            uint8_t out[4000], in[4000];
            uint32_t n = 1 + (uint32_t)rng_below(&r, sizeof out);

            rng_fill(&r, out, n);
            rig_print(&g, out, n);
            read_all(g.screen, in, n);
            assert_memory_equal(in, out, n);
            assert_int_equal(write(g.keys, out, n), n);
            memset(in, 0, n);
            rig_receive(&g, in, n, 1 + (uint32_t)rng_below(&r, rng_chance(&r, 20) ? 50 : 4096));
            assert_memory_equal(in, out, n);
        }
        assert_true(console_was_used(g.dev));
        rig_fini(&g);
    }
}

static void empty_transmits_are_completed(void **state)
{
    struct rig g;
    char got[4];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    rig_print(&g, "", 0);
    rig_print(&g, "here", 4);
    read_all(g.screen, got, 4);
    assert_memory_equal(got, "here", 4);
    rig_fini(&g);
}

/* Many buffers offered at once, one kick: all of them are served. */
static void a_queue_full_of_transmits(void **state)
{
    struct rig g;
    uint32_t id, len;
    uint8_t got[RIG_SLOTS * 100];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < RIG_SLOTS; i++) {
            uint64_t at = RIG_TX + (uint64_t)i * RIG_SLOT;

            text_fill(ram(&g.mem, at, 100), i * 100, 100);
            ring_desc(&g.ring[TX], i, (struct ring_desc){ at, 100, 0, 0 });
            ring_put(&g.ring[TX], (uint16_t)i);
        }
        rig_kick(&g, TX, (uint16_t)(g.ring[TX].offered - RIG_SLOTS));
        for (unsigned i = 0; i < RIG_SLOTS; i++) {
            assert_true(rig_used(&g, TX, RIG_WAIT, &id, &len));
            assert_int_equal(id, i);
        }
        read_all(g.screen, got, sizeof got);
        for (size_t i = 0; i < sizeof got; i++)
            assert_int_equal(got[i], text_at(i));
    }
    rig_fini(&g);
}

/* What was offered before DRIVER_OK, without a kick, is found. */
static void buffers_from_before_driver_ok(void **state)
{
    struct rig g;
    uint32_t id, len;
    char got[5];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_rings(&g, PLAIN);
    memcpy(ram(&g.mem, RIG_TX, 5), "early", 5);
    ring_desc(&g.ring[TX], 0, (struct ring_desc){ RIG_TX, 5, 0, 0 });
    ring_offer(&g.ring[TX], 0);
    assert_int_equal(drive_up(&g.t, PLAIN, g.ring, 2), 0xf);
    assert_true(rig_used(&g, TX, RIG_WAIT, &id, &len));
    read_all(g.screen, got, 5);
    assert_memory_equal(got, "early", 5);
    rig_fini(&g);
}

/* --- input -------------------------------------------------------------------------------- */

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
    sleep_ms(300);
    assert_in_range(__atomic_load_n(ring_used(&g.ring[RX], 1), __ATOMIC_ACQUIRE), 1, 2);
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

/* A driver that reads and never writes, with a few buffers, gets its input too, a little later. */
static void a_driver_that_only_reads(void **state)
{
    struct rig g;
    uint8_t got[5];
    uint32_t id, len;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_rings(&g, PLAIN);
    assert_int_equal(drive_up(&g.t, PLAIN, g.ring, 2), 0xf);
    rig_offer(&g, RX, 0, 16);
    assert_int_equal(write(g.keys, "hello", 5), 5);
    assert_true(rig_used(&g, RX, RIG_WAIT, &id, &len));
    assert_int_equal(len, 5);
    assert_memory_equal(ram(&g.mem, RIG_RX, 5), "hello", 5);
    assert_int_equal(write(g.keys, "again", 5), 5);
    rig_receive(&g, got, 5, 16);
    assert_memory_equal(got, "again", 5);
    rig_fini(&g);
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

/* --- configuration ------------------------------------------------------------------------ */

static void emergency_writes_need_no_driver(void **state)
{
    struct rig g;
    char got[8];

    (void)state;
    rig_init(&g);
    rig_run(&g);
    reg_write(&g.t, R_CONFIG + 8, 'W');
    virtio_mmio_ops.write(&g.t, R_CONFIG + 8, "X", 1);
    virtio_mmio_ops.write(&g.t, R_CONFIG + 8, "Y?", 2);
    /* Beside the field, or beyond the space: nothing. */
    for (uint64_t off = R_CONFIG; off < R_CONFIG + 64; off++)
        if (off != R_CONFIG + 8)
            virtio_mmio_ops.write(&g.t, off, "!", 1);
    virtio_mmio_ops.write(&g.t, R_CONFIG + 8, "!!!!!!!!", 8);
    reg_write(&g.t, R_STATUS, S_FAILED); /* a driver in despair may still speak */
    reg_write(&g.t, R_CONFIG + 8, 'Z');
    read_all(g.screen, got, 4);
    assert_memory_equal(got, "WXYZ", 4);
    assert_true(console_was_used(g.dev));
    rig_up(&g, PLAIN);
    rig_print(&g, "ok", 2);
    read_all(g.screen, got, 2);
    assert_memory_equal(got, "ok", 2);
    rig_fini(&g);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void sizes_are_told(void **state)
{
    struct rig g;
    int main_fd, side_fd;
    struct winsize ws = { .ws_col = 132, .ws_row = 43 };

    (void)state;
    assert_int_equal(openpty(&main_fd, &side_fd, NULL, NULL, &ws), 0);
    rig_init_fds(&g, -1, side_fd);
    rig_run(&g);
    assert_int_equal(reg_read(&g.t, R_CONFIG), 132 | 43 << 16);
    rig_up(&g, PLAIN | 1);
    loop_call(&g.loop, nothing, NULL);
    assert_int_equal(reg_read(&g.t, R_ISR) & 2, 2); /* to a driver that is up it is told again */
    uint32_t gen = reg_read(&g.t, R_GENERATION);

    ws = (struct winsize){ .ws_col = 80, .ws_row = 24 };
    assert_int_equal(ioctl(main_fd, TIOCSWINSZ, &ws), 0);
    reg_write(&g.t, R_ACK, 3);
    console_resize(g.dev);
    assert_int_equal(reg_read(&g.t, R_CONFIG), 80 | 24 << 16);
    assert_int_not_equal(reg_read(&g.t, R_GENERATION), gen);
    assert_int_equal(reg_read(&g.t, R_ISR), 2);
    gen = reg_read(&g.t, R_GENERATION);
    reg_write(&g.t, R_ACK, 3);
    console_resize(g.dev); /* the same: nothing to tell */
    assert_int_equal(reg_read(&g.t, R_GENERATION), gen);
    assert_int_equal(reg_read(&g.t, R_ISR), 0);

    /* Transmissions are no reason to tell it again. */
    rig_print(&g, "x", 1);
    loop_call(&g.loop, nothing, NULL); /* its round is over */
    assert_int_equal(reg_read(&g.t, R_ISR) & 2, 0);
    close(main_fd);
    rig_fini(&g);
}

/* The terminal behind a pty is another's: its size is asked for as it types. */
static void a_pty_tells_its_size_as_it_types(void **state)
{
    struct rig g;
    struct stream s;
    struct err e;
    struct winsize ws = { .ws_col = 99, .ws_row = 33 };
    uint8_t key;

    (void)state;
    assert_int_equal(stream_pty(&s, &e), 0);
    rig_init_fds(&g, s.in, s.out);
    g.stream = s;
    rig_run(&g);
    rig_up(&g, PLAIN | 1);
    assert_int_equal(reg_read(&g.t, R_CONFIG), 0);
    int user = open(s.path, O_RDWR | O_NOCTTY);

    assert_int_equal(ioctl(user, TIOCSWINSZ, &ws), 0);
    assert_int_equal(write(user, "k", 1), 1);
    rig_receive(&g, &key, 1, 1);
    assert_int_equal(key, 'k');
    assert_int_equal(reg_read(&g.t, R_CONFIG), 99 | 33 << 16);
    assert_int_equal(reg_read(&g.t, R_ISR) & 2, 2);
    rig_print(&g, "out", 3);
    char got[3];

    read_all(user, got, 3);
    assert_memory_equal(got, "out", 3);
    close(user);
    rig_fini(&g);
}

static void without_a_terminal_there_is_no_size(void **state)
{
    struct rig g;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN | 1);
    rig_print(&g, "x", 1);
    console_resize(g.dev);
    assert_int_equal(reg_read(&g.t, R_CONFIG), 0);
    assert_int_equal(reg_read(&g.t, R_ISR) & 2, 0);
    rig_fini(&g);
}

/* --- state -------------------------------------------------------------------------------- */

/* Saves g's console and replaces it by one that loads bytes[0..len). What the load said. */
static int reload(struct rig *g, const uint8_t *bytes, size_t len)
{
    struct rbuf r = { .data = bytes, .len = len };
    struct err e = { 0 };

    rig_drop_console(g);
    rig_console(g);
    return virtio_mmio_load(&g->t, &r, &e);
}

static void input_on_its_way_is_saved(void **state)
{
    struct rig g;
    uint8_t text[600], got[600], bytes[8192], got_more[3];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    text_fill(text, 0, sizeof text);
    assert_int_equal(write(g.keys, text, sizeof text), sizeof text);
    rig_receive(&g, got, 200, 100);
    virtio_mmio_save(&g.t, &w);
    assert_false(w.overflow);
    assert_int_equal(reload(&g, bytes, w.len), 0);
    rig_run(&g);
    assert_int_equal(write(g.keys, "end", 3), 3);
    rig_receive(&g, got + 200, sizeof got - 200, 100);
    assert_memory_equal(got, text, sizeof text);
    rig_receive(&g, got_more, 3, 100);
    assert_memory_equal(got_more, "end", 3);
    rig_print(&g, "alive", 5);
    rig_fini(&g);
}

static void hostile_state_is_harmless(void **state)
{
    struct rig g;
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    unsigned taken = 0;

    (void)state;
    rig_init(&g);
    rig_run(&g);
    rig_up(&g, PLAIN);
    assert_int_equal(write(g.keys, "pending", 7), 7);
    for (int i = 0; i < RIG_WAIT; i++) {
        w.len = 0;
        virtio_mmio_save(&g.t, &w);
        if (memcmp(bytes + w.len - 7, "pending", 7) == 0)
            break;
        sleep_ms(1);
    }
    for (size_t len = 0; len < w.len; len++)
        assert_int_equal(reload(&g, bytes, len), -EPROTO);
    /* The count of input bytes stands before them. */
    static const uint32_t counts[] = { 8, 4096, 4097, 0x7fffffff, UINT32_MAX };

    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        memcpy(bytes + w.len - 11, &counts[i], 4);
        assert_int_equal(reload(&g, bytes, w.len), -EPROTO);
    }
    memcpy(bytes + w.len - 11, &(uint32_t){ 7 }, 4);
    for (size_t bit = 0; bit < 8 * w.len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        taken += reload(&g, bytes, w.len) == 0;
        virtio_settle(g.dev);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_true(taken > 100); /* selectors and the text itself may be anything */
    assert_int_equal(reload(&g, bytes, w.len), 0);
    rig_run(&g);
    rig_receive(&g, bytes, 7, 100);
    assert_memory_equal(bytes, "pending", 7);
    rig_fini(&g);
}

/* --- making it ---------------------------------------------------------------------------- */

/* With every number of free descriptors that is not enough: an error that says so, nothing left. */
static void no_descriptors_left(void **state)
{
    struct rlimit few, before;
    struct rig g = { 0 };
    struct err e = { 0 };
    int fds[64], n = 0, want = 0;
    uint8_t page[4096];

    (void)state;
    gmem_init_at(&g.mem, page, sizeof page);
    stream_none(&g.stream);
    g.opts.stream = &g.stream;
    assert_int_equal(loop_init(&g.loop, &e), 0);
    getrlimit(RLIMIT_NOFILE, &before);
    few = (struct rlimit){ .rlim_cur = ARRAY_LEN(fds) - 1, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while ((fds[n] = dup(0)) >= 0)
        n++;
    for (; n > 0; close(fds[--n]), want++) {
        g.dev = console_new(&g.mem, &g.loop, &g.opts, &e);
        if (g.dev)
            break;
        assert_int_equal(e.code, EMFILE);
        assert_non_null(strstr(e.msg, "console"));
        for (int i = 0; i < want; i++) /* those that were free are free again */
            fds[n + i] = dup(0);
        assert_int_equal(dup(0), -1);
        for (int i = 0; i < want; i++)
            close(fds[n + i]);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    while (n > 0)
        close(fds[--n]);
    assert_in_range(want, 3, 8);
    assert_non_null(g.dev);
    g.dev->cls->free(g.dev);
    loop_fini(&g.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_through_real_queues),
        cmocka_unit_test(empty_transmits_are_completed),
        cmocka_unit_test(a_queue_full_of_transmits),
        cmocka_unit_test(buffers_from_before_driver_ok),
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
        cmocka_unit_test(emergency_writes_need_no_driver),
        cmocka_unit_test(sizes_are_told),
        cmocka_unit_test(a_pty_tells_its_size_as_it_types),
        cmocka_unit_test(without_a_terminal_there_is_no_size),
        cmocka_unit_test(input_on_its_way_is_saved),
        cmocka_unit_test(hostile_state_is_harmless),
        cmocka_unit_test(no_descriptors_left),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
