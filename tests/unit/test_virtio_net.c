/* The network card as a whole: what it says of itself, the link, saves and resets. How frames move
 * is test_virtio_net_rx.c, _tx.c, what a driver can ask for test_virtio_net_ctl.c. */
#include "tests/unit/net_control.h"

/* --- what it says of itself --------------------------------------------------------------- */

static void configuration_space(void **state)
{
    static const struct {
        unsigned pairs, told, mtu, want;
        bool up;
    } rows[] = {
        { 1, 0, 1500, 1500, true },    { 3, 0, 9000, 9000, false }, { 1, 1280, 1500, 1280, true },
        { 1, 9000, 9000, 9000, true }, { 1, 0, 68, 68, true },      { 1, 0, 65535, 65535, true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig *g = rig_new(rows[i].pairs);
        uint8_t mac[6];

        g->opts.mtu = (uint16_t)rows[i].told;
        g->tap.link = (struct tap_link){ .up = rows[i].up, .mtu = (uint16_t)rows[i].mtu };
        rig_make(g);
        assert_int_equal(reg_read(&g->t, R_DEVICE), 1);
        virtio_read_config(g->dev, 0, mac, 6);
        assert_memory_equal(mac, rig_mac, 6);
        assert_int_equal(rig_config(g, 6, 2), rows[i].up);
        assert_int_equal(rig_config(g, 8, 2), rows[i].pairs);
        assert_int_equal(rig_config(g, 10, 2), rows[i].want);
        assert_int_equal(rig_config(g, 12, 2), 0); /* the end */
        for (unsigned q = 0; q < 2 * RIG_PAIRS + 2; q++) {
            reg_write(&g->t, R_QUEUE_SEL, q);
            assert_int_equal(reg_read(&g->t, R_QUEUE_NUM_MAX),
                             q < 2 * rows[i].pairs + 1 ? NET_QMAX : 0);
        }
        rig_free(g);
    }
}

/* What the host can't do is not offered. */
static void features(void **state)
{
    const uint64_t always = BIT(N_MAC) | BIT(N_MTU) | BIT(N_STATUS) | BIT(N_MRG) | BIT(N_CTRL) |
                            BIT(N_CTRL_RX) | BIT(N_CTRL_RX_EXTRA) | BIT(N_CTRL_MAC) |
                            VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    const struct {
        unsigned can;
        uint64_t more;
    } rows[] = {
        { 0, 0 },
        { TUN_F_CSUM, BIT(N_CSUM) | BIT(N_GUEST_CSUM) | BIT(N_GUEST_OFFLOADS) },
        { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
          BIT(N_CSUM) | BIT(N_GUEST_CSUM) | BIT(N_GUEST_OFFLOADS) | BIT(N_GUEST_TSO4) |
              BIT(N_GUEST_TSO6) | BIT(N_HOST_TSO4) | BIT(N_HOST_TSO6) },
        { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6,
          BIT(N_CSUM) | BIT(N_GUEST_CSUM) | SEGMENTS },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned pairs = 1; pairs < 3; pairs++) {
            struct rig *g = rig_new(pairs);

            g->tap.offloads = rows[i].can;
            rig_make(g);
            assert_true(virtio_offered(g->dev) ==
                        (always | rows[i].more | (pairs > 1 ? BIT(N_MQ) : 0)));
            rig_free(g);
        }
}

/* What the driver takes is what the tap leaves to it, and nothing that the kernel would refuse. */
static void offloads_follow_the_driver(void **state)
{
    static const unsigned bits[] = { N_GUEST_CSUM, N_GUEST_TSO4, N_GUEST_TSO6, N_GUEST_USO4,
                                     N_GUEST_USO6 };
    struct rig *g = rig_start(1, 0);

    (void)state;
    assert_int_equal(g->offload, 0);
    for (unsigned set = 0; set < 1U << ARRAY_LEN(bits); set++) {
        uint64_t f = USUAL & ~BIT(N_GUEST_CSUM);

        for (size_t i = 0; i < ARRAY_LEN(bits); i++)
            f |= set >> i & 1 ? BIT(bits[i]) : 0;
        rig_up(g, f);
        assert_int_equal(g->offload, model_offloads(f));
    }
    rig_free(g);
}

/* --- the link ----------------------------------------------------------------------------- */

/* What changed since last time: the generation, and an interrupt that says so. */
static void changed(struct rig *g, uint32_t *gen, bool want)
{
    uint32_t now;

    rig_pump(g);
    now = reg_read(&g->t, R_GENERATION);
    assert_int_equal(now != *gen, want);
    assert_int_equal(rig_irqs(g) > 0, want);
    assert_int_equal(reg_read(&g->t, R_ISR) & 2, want ? 2 : 0);
    reg_write(&g->t, R_ACK, 2);
    *gen = now;
}

static void the_link_changes(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    uint32_t gen = reg_read(&g->t, R_GENERATION);

    (void)state;
    rig_irqs(g);
    reg_write(&g->t, R_ACK, 3);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, false, 1500);
    changed(g, &gen, true);
    assert_int_equal(rig_config(g, 6, 2), 0);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, false, 1500);
    changed(g, &gen, false);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX + 1, true, 700); /* another one's */
    link_say(g, RTM_DELLINK, RIG_IFINDEX + 1, false, 0);
    changed(g, &gen, false);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, true, 0);
    changed(g, &gen, true);
    assert_int_equal(rig_config(g, 6, 2), 1);
    assert_int_equal(rig_config(g, 10, 2), 1500);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, true, 9000);
    changed(g, &gen, true);
    assert_int_equal(rig_config(g, 10, 2), 9000);
    link_say(g, RTM_DELLINK, RIG_IFINDEX, true, 9000);
    changed(g, &gen, true);
    assert_int_equal(rig_config(g, 6, 2), 0);
    /* It does not come back, also under its number. */
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, true, 9000);
    changed(g, &gen, false);
    assert_int_equal(rig_config(g, 6, 2), 0);
    assert_false(rig_broken(g));
    rig_free(g);
}

/* Who was told an MTU keeps it as long as the interface has it. */
static void the_mtu_that_was_told(void **state)
{
    struct rig *g = rig_new(1);
    uint32_t gen;

    (void)state;
    g->opts.mtu = 1400;
    rig_make(g);
    rig_up(g, USUAL);
    rig_irqs(g);
    reg_write(&g->t, R_ACK, 3);
    gen = reg_read(&g->t, R_GENERATION);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, true, 9000);
    changed(g, &gen, false);
    assert_int_equal(rig_config(g, 10, 2), 1400);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, true, 1280);
    changed(g, &gen, true);
    assert_int_equal(rig_config(g, 10, 2), 1280);
    rig_free(g);
}

/* Without a driver there is nobody to interrupt, and the next one sees how things stand. */
static void the_link_changes_unseen(void **state)
{
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    reg_write(&g->t, R_STATUS, 0);
    rig_irqs(g);
    link_say(g, RTM_NEWLINK, RIG_IFINDEX, false, 1300);
    rig_pump(g);
    assert_int_equal(rig_irqs(g), 0);
    assert_int_equal(rig_config(g, 6, 2), 0);
    assert_int_equal(rig_config(g, 10, 2), 1300);
    rig_free(g);
}

/* Anything at all may come out of that socket. */
static void reports_of_any_kind(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    struct rng r = { 8 };

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t w[32];
        size_t n = 1 + rng_below(&r, sizeof w);

        rng_fill(&r, w, sizeof w);
        w[0] = rng_chance(&r, 60) ? (uint32_t)n : w[0] % 200;
        w[1] = (rng_chance(&r, 50) ? RTM_NEWLINK : w[1]) & 0xffff;
        w[4] = rng_chance(&r, 50) ? 0 : w[4];
        w[5] = rng_chance(&r, 70) ? RIG_IFINDEX : w[5];
        w[8] = rng_chance(&r, 80) ? 8 | IFLA_MTU << 16 : w[8];
        assert_int_equal(write(g->report, w, n), n);
        if (i % 32 == 0)
            rig_pump(g);
        assert_true(rig_config(g, 6, 2) <= 1);
        assert_true(rig_config(g, 10, 2) >= TAP_MTU_MIN);
    }
    rig_free(g);
}

/* --- save and load ------------------------------------------------------------------------ */

/* Saves, and goes on with a fresh device with n queues that loads it, if it does. */
static void change_horses(struct rig *g, unsigned n, bool fits)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct err e = { 0 };

    virtio_mmio_save(&g->t, &w);
    assert_false(w.overflow);
    rig_drop(g);
    rig_tap(g, n);
    g->filter = (struct rig_filter){ 0 };
    g->offload = 0;
    rig_make(g);
    struct rbuf r = { .data = bytes, .len = w.len };

    if (fits != (virtio_mmio_load(&g->t, &r, &e) == 0))
        fail_msg("%s", fits ? e.msg : "loaded what does not fit");
    if (fits)
        assert_int_equal(r.off, r.len);
    rig_pump(g);
}

/* Of the driver's wishes nothing is lost. */
static void wishes_are_saved(void **state)
{
    static const uint8_t other[6] = { 0x06, 1, 2, 3, 4, 5 };
    struct rig *g = rig_start(3, USUAL | SEGMENTS | BIT(N_MQ) | VIRTIO_F_EVENT_IDX);
    const uint64_t offloads = BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4);
    uint8_t mac[6];

    (void)state;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(rig_command(g, C_MAC, 1, other, 6), OK);
    assert_int_equal(set_tables(g, 2, 3), OK);
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &offloads, 8), OK);
    struct rig_filter filter = g->filter;

    memcpy(g->opts.mac, stranger, 6); /* the new host's idea of its address */
    change_horses(g, 3, true);
    assert_memory_equal(&g->filter, &filter, sizeof filter);
    assert_int_equal(g->offload, TUN_F_CSUM | TUN_F_TSO4);
    assert_int_equal(g->attached, 3);
    virtio_read_config(g->dev, 0, mac, 6);
    assert_memory_equal(mac, other, 6);
    assert_int_equal(rx_mode(g, RX_ALLMULTI, 1), OK);
    assert_int_equal(rig_passes(g, group), 1);
    /* A reset brings the guest's first address back. */
    rig_up(g, USUAL);
    virtio_read_config(g->dev, 0, mac, 6);
    assert_memory_equal(mac, rig_mac, 6);
    rig_free(g);
}

/* At every moment of a device's life. */
static void saved_early_and_late(void **state)
{
    struct rig *g = rig_new(2);

    (void)state;
    rig_make(g);
    change_horses(g, 2, true); /* nobody was there yet */
    rig_up(g, USUAL | SEGMENTS);
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    change_horses(g, 2, true);
    assert_int_equal(hears(g), 1010);
    ring_put(&g->ring[2], NET_QMAX);
    rig_kick(g, 2);
    assert_true(rig_broken(g));
    change_horses(g, 2, true);
    assert_true(rig_broken(g));
    reg_write(&g->t, R_STATUS, 0);
    change_horses(g, 2, true); /* nobody is there any more */
    rig_up(g, USUAL | BIT(N_MQ));
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    change_horses(g, 3, false); /* another card */
    rig_free(g);
}

/* Who is in debt stays so, and in his direction. */
static void debts_are_saved(void **state)
{
    static const uint8_t frame[1000];

    (void)state;
    for (unsigned tx = 0; tx < 2; tx++) {
        struct rig *g = rig_new(1);
        uint64_t *v = tx ? &g->opts.tx_bw : &g->opts.rx_bw;

        v[0] = v[1] = 1;
        rig_make(g);
        rig_up(g, USUAL);
        for (unsigned i = 0; i < 4; i++)
            rig_offer(g, 0, i, 2000);
        for (unsigned i = 0; i < 2; i++) {
            rig_put(g, 1, 2 * i, NULL, frame, sizeof frame);
            rig_kick(g, 1);
            assert_true(wire_send(g, 0, NULL, frame, sizeof frame));
            rig_kick(g, 0);
            if (i == 0)
                change_horses(g, 1, true);
        }
        assert_int_equal(*ring_used(&g->ring[0], 1), tx ? 2 : 1);
        assert_int_equal(*ring_used(&g->ring[1], 1), tx ? 1 : 2);
        rig_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_space),        cmocka_unit_test(features),
        cmocka_unit_test(offloads_follow_the_driver), cmocka_unit_test(the_link_changes),
        cmocka_unit_test(the_mtu_that_was_told),      cmocka_unit_test(the_link_changes_unseen),
        cmocka_unit_test(reports_of_any_kind),        cmocka_unit_test(wishes_are_saved),
        cmocka_unit_test(saved_early_and_late),       cmocka_unit_test(debts_are_saved),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
