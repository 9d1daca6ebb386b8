/* What a driver can ask for: every command of the control queue, well-formed and not, and what the
 * host's interface is told of it. */
#include "tests/unit/net_control.h"

/* --- the control queue -------------------------------------------------------------------- */

static void receive_modes(void **state)
{
    struct rig *g = rig_start(1, USUAL | BIT(N_CTRL_RX_EXTRA));

    (void)state;
    assert_int_equal(hears(g), 1111); /* until it is told otherwise */
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(hears(g), 1010);
    assert_int_equal(rx_mode(g, RX_ALLMULTI, 1), OK);
    assert_int_equal(hears(g), 1011);
    assert_int_equal(rx_mode(g, RX_ALLMULTI, 0), OK);
    assert_int_equal(rx_mode(g, RX_NOBCAST, 1), OK);
    assert_int_equal(hears(g), 1000);
    assert_int_equal(rx_mode(g, RX_NOUNI, 1), OK);
    assert_int_equal(hears(g), 0); /* nothing at all, which is not the kernel's "no filter" */
    assert_int_equal(rx_mode(g, RX_NOBCAST, 0), OK);
    assert_int_equal(hears(g), 10);
    assert_int_equal(rx_mode(g, RX_NOUNI, 0), OK);
    assert_int_equal(rx_mode(g, RX_ALLMULTI, 1), OK);
    assert_int_equal(rx_mode(g, RX_NOMULTI, 1), OK);
    assert_int_equal(hears(g), 1010);
    assert_int_equal(rx_mode(g, RX_NOMULTI, 0), OK);
    assert_int_equal(rx_mode(g, RX_ALLMULTI, 0), OK);
    assert_int_equal(rx_mode(g, RX_ALLUNI, 1), OK);
    assert_int_equal(hears(g) / 10, 111); /* the group may come along */
    assert_int_equal(rx_mode(g, RX_ALLUNI, 0), OK);
    assert_int_equal(rx_mode(g, RX_PROMISC, 1), OK);
    assert_int_equal(hears(g), 1111);
    /* A reset starts over. */
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    rig_up(g, USUAL);
    assert_int_equal(hears(g), 1111);
    rig_free(g);
}

/* All in the tables is heard however many they are; the others are not where the kernel can tell
 * them apart. */
static void address_tables(void **state)
{
    static const uint32_t sizes[] = { 0, 1, 3, 6, 7, 10, 61, 62, 63, 64, 65, 130 };
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    for (size_t n = 0; n < ARRAY_LEN(sizes); n++)
        for (size_t m = 0; m < ARRAY_LEN(sizes); m++) {
            assert_int_equal(set_tables(g, sizes[n], sizes[m]), OK);
            for (unsigned i = 0; i < sizes[n]; i++)
                assert_true(passes_entry(g, 0, i) > 0);
            for (unsigned i = 0; i < sizes[m]; i++)
                assert_true(passes_entry(g, 1, i) > 0);
            assert_true(rig_passes(g, broadcast) > 0);
            assert_int_equal(rig_passes(g, rig_mac), 1);
            if (sizes[n] <= 5)
                assert_int_equal(rig_passes(g, stranger), 0);
            if (sizes[n] + sizes[m] <= 5)
                assert_int_equal(rig_passes(g, group), 0);
        }
    rig_free(g);
}

/* What is switched off is off, in the tables or not. */
static void tables_and_modes(void **state)
{
    struct rig *g = rig_start(1, USUAL | BIT(N_CTRL_RX_EXTRA));

    (void)state;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(set_tables(g, 2, 2), OK);
    assert_int_equal(passes_entry(g, 0, 1) * 10 + passes_entry(g, 1, 1), 11);
    assert_int_equal(rx_mode(g, RX_NOMULTI, 1), OK);
    assert_int_equal(passes_entry(g, 0, 1) * 10 + passes_entry(g, 1, 1), 10);
    assert_int_equal(rx_mode(g, RX_NOUNI, 1), OK);
    assert_int_equal(passes_entry(g, 0, 1) * 10 + passes_entry(g, 1, 1), 0);
    assert_int_equal(rx_mode(g, RX_NOMULTI, 0), OK);
    assert_int_equal(passes_entry(g, 0, 1) * 10 + passes_entry(g, 1, 1), 1);
    rig_free(g);
}

static void bad_tables(void **state)
{
    struct rig *g = rig_start(1, USUAL);
    uint8_t two[15] = { [0] = 1, [4] = 2, 1, 1, 1, 1, 1 }; /* one host, no group */
    static const uint32_t counts[] = { 2, 0x2aaaaaab, 0x80000000, UINT32_MAX };

    (void)state;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(set_tables(g, 1, 1), OK);
    struct rig_filter before = g->filter;

    assert_int_equal(rig_command(g, C_MAC, 0, two, 13), ERR);
    assert_int_equal(rig_command(g, C_MAC, 0, two, 15), ERR);
    assert_int_equal(rig_command(g, C_MAC, 0, two, 10), ERR); /* the second one is missing */
    assert_int_equal(rig_command(g, C_MAC, 0, two, 3), ERR);
    assert_int_equal(rig_command(g, C_MAC, 0, two, 0), ERR);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        uint8_t bad[14];

        memcpy(bad, two, sizeof bad);
        memcpy(bad, &counts[i], 4);
        assert_int_equal(rig_command(g, C_MAC, 0, bad, 14), ERR);
        memcpy(bad, two, sizeof bad);
        memcpy(bad + 10, &counts[i], 4);
        assert_int_equal(rig_command(g, C_MAC, 0, bad, 14), ERR);
    }
    assert_memory_equal(&g->filter, &before, sizeof before);
    assert_int_equal(rig_command(g, C_MAC, 0, two, 14), OK);
    assert_true(memcmp(&g->filter, &before, sizeof before) != 0);
    rig_free(g);
}

static void another_address(void **state)
{
    static const uint8_t other[6] = { 0x06, 1, 2, 3, 4, 5 };
    struct rig *g = rig_start(1, USUAL);
    uint8_t mac[6];

    (void)state;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(rig_command(g, C_MAC, 1, other, 5), ERR);
    assert_int_equal(rig_command(g, C_MAC, 1, group, 6), ERR);
    assert_int_equal(rig_passes(g, rig_mac), 1);
    assert_int_equal(rig_command(g, C_MAC, 1, other, 6), OK);
    assert_int_equal(rig_passes(g, rig_mac), 0);
    assert_int_equal(rig_passes(g, other), 1);
    virtio_read_config(g->dev, 0, mac, 6);
    assert_memory_equal(mac, other, 6);
    /* The next driver reads its own again, and that before it is ready. */
    reg_write(&g->t, R_STATUS, 0);
    virtio_read_config(g->dev, 0, mac, 6);
    assert_memory_equal(mac, rig_mac, 6);
    rig_up(g, USUAL);
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(rig_passes(g, rig_mac), 1);
    assert_int_equal(rig_passes(g, other), 0);
    rig_free(g);
}

static void pairs(void **state)
{
    static const struct {
        uint16_t pairs;
        int want;
    } rows[] = { { 1, OK }, { 3, OK },       { 0, ERR },     { 5, ERR }, { 4, OK },
                 { 2, OK }, { 0x8000, ERR }, { 65535, ERR }, { 1, OK } };
    struct rig *g = rig_start(4, USUAL | BIT(N_MQ));
    unsigned now = 1;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(g->attached, (1U << now) - 1);
        assert_int_equal(rig_command(g, C_MQ, 0, &rows[i].pairs, 2), rows[i].want);
        now = rows[i].want == OK ? rows[i].pairs : now;
    }
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 3 }, 2), OK);
    assert_int_equal(rig_command(g, C_MQ, 0, "\2\0\0", 3), ERR);
    assert_int_equal(rig_command(g, C_MQ, 0, "\2", 1), ERR);
    assert_int_equal(rig_command(g, C_MQ, 1, "\2\0", 2), ERR);
    assert_int_equal(g->attached, 7);
    /* The host refuses: it is told of, and no fault of the driver's. */
    g->fail[1] = -EPERM;
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    g->fail[1] = 0;
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    assert_int_equal(g->attached, 3);
    /* A reset leaves one. */
    rig_up(g, USUAL | BIT(N_MQ));
    assert_int_equal(g->attached, 1);
    rig_free(g);
}

static void guest_offloads(void **state)
{
    const uint64_t all = BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4) | BIT(N_GUEST_TSO6) |
                         BIT(N_GUEST_USO4) | BIT(N_GUEST_USO6);
    struct rig *g = rig_start(1, USUAL | SEGMENTS);
    const uint64_t sets[] = { 0,
                              BIT(N_GUEST_CSUM),
                              BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO6),
                              BIT(N_GUEST_TSO4),
                              BIT(N_GUEST_CSUM) | BIT(N_GUEST_USO4),
                              all };
    const uint64_t bad[] = { BIT(N_CSUM), BIT(N_GUEST_CSUM) | BIT(10), BIT(63), UINT64_MAX };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        assert_int_equal(rig_command(g, C_OFFLOADS, 0, &sets[i], 8), OK);
        assert_int_equal(g->offload, model_offloads(sets[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(rig_command(g, C_OFFLOADS, 0, &bad[i], 8), ERR);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &sets[0], 7), ERR);
    assert_int_equal(rig_command(g, C_OFFLOADS, 1, &sets[0], 8), ERR);
    assert_int_equal(g->offload, model_offloads(all));
    /* What was not negotiated can't be switched on. */
    rig_up(g, USUAL | BIT(N_GUEST_OFFLOADS) | BIT(N_GUEST_TSO4));
    assert_int_equal(g->offload, TUN_F_CSUM | TUN_F_TSO4);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &all, 8), ERR);
    assert_int_equal(g->offload, TUN_F_CSUM | TUN_F_TSO4);
    rig_free(g);
}

/* Commands of classes that were not negotiated, or that nobody knows. */
static void refused_commands(void **state)
{
    static const uint8_t data[64] = { 1 }, other[64] = { 2 };
    struct rig *g = rig_start(2, BIT(N_CTRL));

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        for (unsigned class = 0; class < 256; class ++)
            for (unsigned number = 0; number < 8; number++)
                for (unsigned n = 0; n < 10; n += 1 + (class > 6) * 8)
                    assert_int_equal(
                        rig_command(g, (uint8_t) class, (uint8_t)number, i ? other : data, n), ERR);
    rig_up(g, USUAL);
    assert_int_equal(rx_mode(g, RX_ALLUNI, 1), ERR); /* CTRL_RX_EXTRA */
    assert_int_equal(rx_mode(g, RX_NOBCAST + 1, 1), ERR);
    assert_int_equal(rx_mode(g, RX_PROMISC, 2), ERR);
    assert_int_equal(rig_command(g, C_RX, RX_PROMISC, data, 0), ERR);
    assert_int_equal(rig_command(g, C_RX, RX_PROMISC, data, 2), ERR);
    assert_int_equal(rig_command(g, C_VLAN, 0, data, 2), ERR);
    assert_int_equal(rig_command(g, C_ANNOUNCE, 0, data, 0), ERR);
    assert_int_equal(rig_command(g, C_MQ, 0, data, 2), ERR); /* without MQ */
    assert_int_equal(hears(g), 1111);
    assert_false(rig_broken(g));
    rig_free(g);
}

/* However a command is cut: byte by byte, with empty buffers, with class and data in one. */
static void commands_in_pieces(void **state)
{
    static const uint32_t cuts[][8] = { { 8 },       { 1, 7 },       { 2, 6 },
                                        { 3, 5 },    { 7, 1 },       { 1, 1, 1, 1, 1, 1, 1, 1 },
                                        { 0, 2, 6 }, { 2, 0, 0, 6 }, { 2, 6, 0 } };
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
        for (unsigned indirect = 0; indirect < 2; indirect++) {
            uint8_t bytes[8] = { C_MAC, 1, 2, 2, 2, 2, 2, (uint8_t)(2 * i + indirect) };
            unsigned n = 0, total = 0;
            uint8_t mac[6];

            while (n < 8 && (total < 8 || cuts[i][n]))
                total += cuts[i][n++];
            rig_up(g, USUAL | (indirect ? VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX : 0));
            assert_int_equal(rig_command_cut(g, bytes, cuts[i], n), OK);
            virtio_read_config(g->dev, 0, mac, 6);
            assert_memory_equal(mac, bytes + 2, 6);
            assert_int_equal(rig_command_cut(g, bytes, (uint32_t[]){ 1 }, 1), ERR);
            assert_int_equal(rig_command_cut(g, bytes, NULL, 0), ERR);
        }
    rig_free(g);
}

/* More at once than a round serves, and the answer goes into the first byte there is. */
static void many_commands(void **state)
{
    struct rig *g = rig_start(2, USUAL | BIT(N_MQ));
    unsigned q = rig_control_queue(g);
    uint64_t room[60];

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(room); i++) {
        room[i] = rig_room(g, 16);
        struct part p[] = { { room[i], 3, false }, { room[i] + 8, 4, true } };

        memcpy(ram(&g->mem, room[i], 16), "\0\0\1zzzzzyyyyzzzz", 16);
        *((uint8_t *)ram(&g->mem, room[i], 16) + 2) = (uint8_t)(i & 1);
        rig_chain(g, q, 2 * i, p, 2);
    }
    rig_irqs(g);
    rig_kick(g, q);
    rig_pump(g);
    for (unsigned i = 0; i < ARRAY_LEN(room); i++) {
        rig_used(g, q, 2 * i, 1);
        assert_memory_equal((uint8_t *)ram(&g->mem, room[i], 16) + 8, "\0yyyzzzz", 8);
    }
    assert_in_range(rig_irqs(g), 1, 4); /* as many as there were rounds */
    rig_free(g);
}

static void a_command_without_an_answer_breaks_it(void **state)
{
    static const struct part rows[][2] = {
        { { RIG_DATA, 3, false }, { RIG_DATA + 8, 0, true } },
        { { RIG_DATA, 2, false }, { RIG_DATA + 8, 1, false } },
    };
    struct rig *g = rig_start(1, USUAL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        rig_chain(g, 2, 0, rows[i], 2);
        rig_kick(g, 2);
        assert_true(rig_broken(g));
        rig_nothing_used(g, 2);
        rig_up(g, USUAL);
        assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
        assert_int_equal(hears(g), 1010);
    }
    ring_put(&g->ring[2], NET_QMAX); /* no such head */
    rig_kick(g, 2);
    assert_true(rig_broken(g));
    rig_free(g);
}

/* --- the host's part ---------------------------------------------------------------------- */

/* The host refuses: it is told of and no fault of the driver's, and asked again the next time. */
static void the_host_refuses(void **state)
{
    const uint64_t offloads[] = { BIT(N_GUEST_CSUM), BIT(N_GUEST_CSUM) | BIT(N_GUEST_TSO4) };
    struct rig *g = rig_start(2, USUAL | SEGMENTS | BIT(N_MQ));

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        g->fail[i] = -EBUSY;
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &offloads[0], 8), OK);
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    assert_int_equal(hears(g), 1111);
    assert_int_equal(g->attached, 1);
    memset(g->fail, 0, sizeof g->fail);
    assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &offloads[0], 8), OK);
    assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
    assert_int_equal(hears(g), 1010);
    assert_int_equal(g->offload, TUN_F_CSUM);
    assert_int_equal(g->attached, 3);
    assert_int_equal(rig_command(g, C_OFFLOADS, 0, &offloads[1], 8), OK);
    assert_int_equal(g->offload, TUN_F_CSUM | TUN_F_TSO4);
    assert_false(rig_broken(g));
    rig_free(g);
}

/* A driver that says the same over and over costs the host nothing. */
static void the_host_is_told_once(void **state)
{
    const uint64_t offloads = BIT(N_GUEST_CSUM);
    struct rig *g = rig_start(2, USUAL | SEGMENTS | BIT(N_MQ));
    unsigned calls = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(rx_mode(g, RX_PROMISC, 0), OK);
        assert_int_equal(set_tables(g, 2, 2), OK);
        assert_int_equal(rig_command(g, C_OFFLOADS, 0, &offloads, 8), OK);
        assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
        if (i == 0)
            calls = g->calls;
    }
    assert_int_equal(g->calls, calls);
    rig_free(g);
}

/* Pairs beyond the first are silent until they are switched on, and then nothing is lost. */
static void pairs_begin_to_speak(void **state)
{
    static uint8_t frame[100], got[200];
    struct rig *g = rig_start(2, USUAL | BIT(N_MQ));

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3; i++)
            rig_offer(g, 2, 3 * round + i, 2000);
        rig_put(g, 3, 2 * round, NULL, frame, sizeof frame);
        rig_kick(g, 2);
        rig_kick(g, 3);
        assert_true(wire_send(g, 1, NULL, frame, 70));
        rig_pump(g);
        rig_nothing_used(g, 2);
        rig_nothing_used(g, 3);
        assert_int_equal(wire_recv(g, 1, got, sizeof got), -1);
        assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 2 }, 2), OK);
        rig_pump(g);
        /* Of the chains that it was offered the first ones: none was lost when it was off. */
        rig_used(g, 2, round, HDR + 70);
        rig_used(g, 3, 2 * round, 0);
        assert_int_equal(wire_recv(g, 1, got, sizeof got), HDR + 100);
        assert_int_equal(rig_command(g, C_MQ, 0, &(uint16_t){ 1 }, 2), OK);
        assert_true(rig_sleeps(g));
    }
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receive_modes),
        cmocka_unit_test(address_tables),
        cmocka_unit_test(tables_and_modes),
        cmocka_unit_test(bad_tables),
        cmocka_unit_test(another_address),
        cmocka_unit_test(pairs),
        cmocka_unit_test(guest_offloads),
        cmocka_unit_test(refused_commands),
        cmocka_unit_test(commands_in_pieces),
        cmocka_unit_test(many_commands),
        cmocka_unit_test(a_command_without_an_answer_breaks_it),
        cmocka_unit_test(the_host_refuses),
        cmocka_unit_test(the_host_is_told_once),
        cmocka_unit_test(pairs_begin_to_speak),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
