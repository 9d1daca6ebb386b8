/* What a driver may say in the header before a frame: at random against the model, and the edges
 * one by one. */
#include "core/num.h"
#include "tests/unit/net_model.h"
#include "tests/unit/unit.h"

#define F_ALL_HOST                                                                                 \
    (BIT(N_CSUM) | BIT(N_HOST_TSO4) | BIT(N_HOST_TSO6) | BIT(N_HOST_USO) | BIT(N_GUEST_CSUM))

static void layout(void **state)
{
    static const uint64_t names[][2] = {
        { NET_F_CSUM, N_CSUM },
        { NET_F_GUEST_CSUM, N_GUEST_CSUM },
        { NET_F_CTRL_GUEST_OFFLOADS, N_GUEST_OFFLOADS },
        { NET_F_MTU, N_MTU },
        { NET_F_MAC, N_MAC },
        { NET_F_GUEST_TSO4, N_GUEST_TSO4 },
        { NET_F_GUEST_TSO6, N_GUEST_TSO6 },
        { NET_F_HOST_TSO4, N_HOST_TSO4 },
        { NET_F_HOST_TSO6, N_HOST_TSO6 },
        { NET_F_MRG_RXBUF, N_MRG },
        { NET_F_STATUS, N_STATUS },
        { NET_F_CTRL_VQ, N_CTRL },
        { NET_F_CTRL_RX, N_CTRL_RX },
        { NET_F_CTRL_RX_EXTRA, N_CTRL_RX_EXTRA },
        { NET_F_MQ, N_MQ },
        { NET_F_CTRL_MAC_ADDR, N_CTRL_MAC },
        { NET_F_GUEST_USO4, N_GUEST_USO4 },
        { NET_F_GUEST_USO6, N_GUEST_USO6 },
        { NET_F_HOST_USO, N_HOST_USO },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_true(names[i][0] == BIT(names[i][1]));
    assert_int_equal(sizeof(struct net_hdr), 12);
    assert_int_equal(offsetof(struct net_hdr, hdr_len), 2);
    assert_int_equal(offsetof(struct net_hdr, gso_size), 4);
    assert_int_equal(offsetof(struct net_hdr, csum_start), 6);
    assert_int_equal(offsetof(struct net_hdr, csum_offset), 8);
    assert_int_equal(offsetof(struct net_hdr, num_buffers), 10);
}

/* --- at random ---------------------------------------------------------------------------- */

static uint64_t some_features(struct rng *r)
{
    uint64_t f = rng_next(r);

    switch (rng_below(r, 4)) {
    case 0:
        return f;
    case 1:
        return f | BIT(N_CSUM);
    case 2: /* all but one */
        return ~(BIT(N_CSUM) | BIT(N_HOST_TSO4) | BIT(N_HOST_TSO6) | BIT(N_HOST_USO)) |
               (F_ALL_HOST & ~BIT(rng_below(r, 64)));
    default:
        return F_ALL_HOST;
    }
}

static uint64_t some_len(struct rng *r)
{
    static const uint64_t edges[] = { 0, 1, 13, 14, 15, 60, 1514, 65549, 65556, 65557, 65558 };

    switch (rng_below(r, 6)) {
    case 0:
        return edges[rng_below(r, ARRAY_LEN(edges))];
    case 1:
        return rng_chance(r, 10) ? rng_next(r) : rng_below(r, 70000);
    default:
        return 14 + rng_below(r, 3000);
    }
}

/* Something around the edges of a frame, mostly inside. */
static uint16_t some_offset(struct rng *r, uint64_t len)
{
    switch (rng_below(r, 8)) {
    case 0:
        return (uint16_t)rng_next(r);
    case 1:
        return (uint16_t)(len - 4 + rng_below(r, 6));
    case 2:
        return (uint16_t)rng_below(r, 16);
    case 3:
        return (uint16_t)(0 - rng_below(r, 20));
    default:
        return (uint16_t)(14 + rng_below(r, 40));
    }
}

static uint8_t some_gso(struct rng *r)
{
    static const uint8_t types[] = { 0, 0, 0, 1, 1, 4, 4, 5, 5, 3, 0x81, 0x84, 0x80, 2 };

    return rng_chance(r, 95) ? types[rng_below(r, ARRAY_LEN(types))] : (uint8_t)rng_next(r);
}

static void some_header(struct rng *r, uint8_t *h, uint64_t len)
{
    uint16_t v[5] = { some_offset(r, len), (uint16_t)rng_below(r, 3000), some_offset(r, len),
                      rng_chance(r, 80) ? 6 + 10 * (rng_next(r) & 1) : some_offset(r, len),
                      rng_chance(r, 50) ? (uint16_t)rng_next(r) : 0 };

    h[0] = rng_chance(r, 70) ? (uint8_t)(rng_next(r) & 1) : (uint8_t)rng_next(r);
    h[1] = some_gso(r);
    if (h[1] && rng_chance(r, 80))
        h[0] |= 1;
    if (rng_chance(r, 10))
        v[1] = 0;
    /* The sum that wraps in 16 bits. */
    if (rng_chance(r, 5))
        v[3] = (uint16_t)(0 - v[2] + rng_below(r, 40));
    memcpy(h + 2, v, sizeof v);
}

static void judge(struct rng *r, unsigned *seen)
{
    uint64_t features = some_features(r), len = some_len(r);
    uint8_t in[12], out[12];
    struct net_hdr h;

    some_header(r, in, len);
    memcpy(&h, in, sizeof h);
    unsigned want = model_judge(in, len, features);
    enum net_drop got = net_check_hdr(&h, len, features);

    memcpy(out, &h, sizeof h);
    if (got >= NET_DROPS || !(want >> got & 1))
        fail_msg("%ju bytes, features 0x%jx: %d, not of 0x%x: flags %02x gso %02x hdr_len %u "
                 "size %u csum %u+%u",
                 (uintmax_t)len, (uintmax_t)features, got, want, in[0], in[1], model_le16(in, 2),
                 model_le16(in, 4), model_le16(in, 6), model_le16(in, 8));
    seen[got]++;
    if (got != NET_PASS)
        return;
    assert_true(model_same(in, out));
    assert_true(model_host_takes(out, len));
    /* What was judged stays judged. */
    assert_int_equal(net_check_hdr(&h, len, features), NET_PASS);
    assert_memory_equal(&h, out, sizeof h);
}

static void headers_agree_with_the_model(void **state)
{
    unsigned seen[NET_DROPS] = { 0 };
    struct rng r = { 5 };

    (void)state;
    for (unsigned i = 0; i < 400000; i++)
        judge(&r, seen);
    print_message("# %u pass, %u short, %u long, %u checksums, %u segmentations\n", seen[NET_PASS],
                  seen[NET_DROP_SHORT], seen[NET_DROP_LONG], seen[NET_DROP_CSUM],
                  seen[NET_DROP_GSO]);
    for (unsigned i = 0; i <= NET_DROP_GSO; i++)
        assert_true(seen[i] > 4000);
    assert_true(seen[NET_PASS] > 40000);
}

/* Frames of the host's: what this driver did not take is dropped. */
static void judge_host(struct rng *r, unsigned *seen)
{
    uint64_t features = some_features(r), len = some_len(r);
    uint8_t in[12], out[12];
    struct net_hdr h;

    some_header(r, in, len);
    memcpy(&h, in, sizeof h);
    unsigned want = model_judge_host(in, len, features, 0);
    enum net_drop got = net_check_host_hdr(&h, len, features);

    memcpy(out, &h, sizeof h);
    if (got >= NET_DROPS || !(want >> got & 1))
        fail_msg("%ju bytes, features 0x%jx, flags %02x, gso %02x: %d, not of 0x%x", (uintmax_t)len,
                 (uintmax_t)features, in[0], in[1], got, want);
    seen[got]++;
    if (got != NET_PASS)
        return;
    assert_int_equal(out[0], model_host_flags(in, features));
    assert_memory_equal(out + 1, in + 1, 9);
}

static void headers_of_the_host_agree_with_the_model(void **state)
{
    unsigned seen[NET_DROPS] = { 0 };
    struct rng r = { 6 };

    (void)state;
    for (unsigned i = 0; i < 200000; i++)
        judge_host(&r, seen);
    print_message("# %u pass, %u short, %u checksums, %u segmentations\n", seen[NET_PASS],
                  seen[NET_DROP_SHORT], seen[NET_DROP_CSUM], seen[NET_DROP_GSO]);
    assert_true(seen[NET_PASS] > 20000 && seen[NET_DROP_SHORT] > 2000 &&
                seen[NET_DROP_CSUM] > 20000 && seen[NET_DROP_GSO] > 20000);
}

/* --- the edges ---------------------------------------------------------------------------- */

static void edges(void **state)
{
    static const struct {
        uint64_t features, len;
        struct net_hdr h;
        enum net_drop want;
    } rows[] = {
        /* Lengths. */
        { 0, 14, { 0 }, NET_PASS },
        { 0, 13, { 0 }, NET_DROP_SHORT },
        { 0, 0, { 0 }, NET_DROP_SHORT },
        { 0, NET_FRAME_MAX, { 0 }, NET_PASS },
        { 0, NET_FRAME_MAX + 1, { 0 }, NET_DROP_LONG },
        { 0, SIZE_MAX, { 0 }, NET_DROP_LONG },
        /* A checksum. */
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 34, .csum_offset = 16 }, NET_PASS },
        { 0, 60, { .flags = 1, .csum_start = 34, .csum_offset = 16 }, NET_DROP_CSUM },
        { ~BIT(N_CSUM), 60, { .flags = 1, .csum_start = 34, .csum_offset = 16 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 14, .csum_offset = 0 }, NET_PASS },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 13, .csum_offset = 6 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 0, .csum_offset = 0 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 34, .csum_offset = 24 }, NET_PASS },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 34, .csum_offset = 25 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 58, .csum_offset = 0 }, NET_PASS },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 59, .csum_offset = 0 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 34, .csum_offset = 65530 }, NET_DROP_CSUM },
        { BIT(N_CSUM), 60, { .flags = 1, .csum_start = 65535, .csum_offset = 6 }, NET_DROP_CSUM },
        /* Flags of others, without a meaning here. */
        { 0, 60, { .flags = 0xfe, .csum_start = 3, .csum_offset = 9999 }, NET_PASS },
        { BIT(N_CSUM), 60, { .flags = 2 }, NET_PASS },
        /* Segments. */
        { F_ALL_HOST,
          9000,
          { .flags = 1, .gso_type = 1, .gso_size = 1, .csum_start = 34, .csum_offset = 16 },
          NET_PASS },
        { F_ALL_HOST,
          9000,
          { .flags = 0xff, .gso_type = 4, .gso_size = 65535, .csum_start = 54, .csum_offset = 16 },
          NET_PASS },
        { F_ALL_HOST, NET_FRAME_MAX, { 1, 5, NET_FRAME_MAX & 0xffff, 1472, 34, 6, 0 }, NET_PASS },
        { F_ALL_HOST, 60, { 1, 1, 60, 9, 34, 16, 0 }, NET_PASS },
        { F_ALL_HOST, 60, { 1, 1, 61, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 1, 1, 54, 0, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 0, 1, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 2, 1, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 1, 0x81, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 1, 0x84, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 1, 0x80, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { F_ALL_HOST, 60, { 0, 0x80, 0, 0, 0, 0, 0 }, NET_DROP_GSO },
        { ~BIT(N_HOST_TSO4), 60, { 1, 1, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { ~BIT(N_HOST_TSO6), 60, { 1, 4, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { ~BIT(N_HOST_USO), 60, { 1, 5, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { UINT64_MAX, 60, { 1, 3, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { UINT64_MAX, 60, { 1, 2, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { UINT64_MAX, 60, { 1, 6, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { UINT64_MAX, 60, { 1, 0x7f, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
        { UINT64_MAX, 60, { 1, 0xff, 54, 9, 34, 16, 0 }, NET_DROP_GSO },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_hdr h = rows[i].h;
        enum net_drop got = net_check_hdr(&h, rows[i].len, rows[i].features);

        if (got != rows[i].want)
            fail_msg("row %zu: %d, not %d", i, got, rows[i].want);
        if (got == NET_PASS)
            assert_int_equal(h.flags, rows[i].h.flags & 1);
    }
}

/* --- what the guest takes ----------------------------------------------------------------- */

static void offloads(void **state)
{
    static const unsigned bits[] = { N_GUEST_CSUM, N_GUEST_TSO4, N_GUEST_TSO6,
                                     N_GUEST_USO4, N_GUEST_USO6, N_CSUM,
                                     N_HOST_TSO4,  N_HOST_USO,   N_GUEST_OFFLOADS };

    (void)state;
    for (unsigned set = 0; set < 1U << ARRAY_LEN(bits); set++) {
        uint64_t features = 0;

        for (size_t i = 0; i < ARRAY_LEN(bits); i++)
            features |= set >> i & 1 ? BIT(bits[i]) : 0;
        if (net_offloads(features) != model_offloads(features))
            fail_msg("features 0x%jx: 0x%x, not 0x%x", (uintmax_t)features, net_offloads(features),
                     model_offloads(features));
    }
    assert_int_equal(net_offloads(UINT64_MAX), TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | 0x20 | 0x40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(headers_agree_with_the_model),
        cmocka_unit_test(headers_of_the_host_agree_with_the_model),
        cmocka_unit_test(edges),
        cmocka_unit_test(offloads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
