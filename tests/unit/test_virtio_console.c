/* The console: echo, configuration, size, and its saved state. */
#include "tests/unit/console_rig.h"

#include <pty.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

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
