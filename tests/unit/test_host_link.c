/* What rtnetlink says of a link: messages made at random against a model, cut and bent ones (in
 * buffers of their exact length, under ASan), and the messages that look like ours and are not. The
 * kernel's own: test_host_tap.c. */
#include "tests/unit/unit.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/num.h"
#include "host/link.h"

#define OURS        7
#define LOWER_UP    0x10000
#define NEW_NETNSID 45

struct msg {
    uint8_t at[4096];
    size_t len;
};

static void put(struct msg *m, const void *p, size_t n)
{
    assert_true(m->len + n <= sizeof m->at);
    if (n)
        memcpy(m->at + m->len, p, n);
    m->len += n;
}

static void pad(struct msg *m)
{
    put(m, "\0\0\0", -m->len & 3);
}

static void put_attr(struct msg *m, unsigned type, const void *p, size_t n)
{
    struct rtattr a = { .rta_len = (unsigned short)(sizeof a + n),
                        .rta_type = (unsigned short)type };

    put(m, &a, sizeof a);
    put(m, p, n);
    pad(m);
}

static void put_u32(struct msg *m, unsigned type, uint32_t v)
{
    put_attr(m, type, &v, sizeof v);
}

/* Begins a message; end() sets its length. */
static size_t begin(struct msg *m, unsigned type, unsigned char family, int ifindex, unsigned flags)
{
    struct nlmsghdr h = { .nlmsg_type = (uint16_t)type };
    struct ifinfomsg i = { .ifi_family = family, .ifi_index = ifindex, .ifi_flags = flags };
    size_t at = m->len;

    put(m, &h, sizeof h);
    put(m, &i, sizeof i);
    return at;
}

static void end(struct msg *m, size_t at)
{
    uint32_t len = (uint32_t)(m->len - at);

    memcpy(m->at + at, &len, sizeof len);
}

static void put_error(struct msg *m, int code)
{
    struct nlmsgerr e = { .error = code };
    struct nlmsghdr h = { .nlmsg_len = sizeof h + sizeof e, .nlmsg_type = NLMSG_ERROR };

    put(m, &h, sizeof h);
    put(m, &e, sizeof e);
}

/* From memory that ends where the message does. */
static void parse_exactly(struct link_report *r, const void *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);

    assert_non_null(copy);
    if (n)
        memcpy(copy, p, n);
    link_parse(r, copy, n);
    free(copy);
}

static struct link_report fresh(void)
{
    return (struct link_report){ .ifindex = OURS, .link = { .mtu = TAP_MTU_DEFAULT } };
}

static bool same(const struct link_report *a, const struct link_report *b)
{
    return a->ifindex == b->ifindex && a->seen == b->seen && a->carrier == b->carrier &&
           a->moved == b->moved && a->link.up == b->link.up && a->link.gone == b->link.gone &&
           a->link.mtu == b->link.mtu;
}

static void check_sane(const struct link_report *r)
{
    assert_true(r->link.mtu >= TAP_MTU_MIN);
    assert_true(r->ifindex == 0 || r->ifindex == OURS);
    assert_false(r->link.gone && (r->link.up || r->ifindex));
    assert_int_equal(r->ifindex == 0, r->link.gone || r->moved);
}

/* --- the messages there are ------------------------------------------------------------------- */

static void up_takes_both_flags(void **state)
{
    static const unsigned flags[] = { 0, IFF_UP, LOWER_UP, IFF_UP | LOWER_UP,
                                      IFF_UP | IFF_RUNNING | IFF_BROADCAST };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
        struct link_report r = fresh();
        struct msg m = { 0 };

        end(&m, begin(&m, RTM_NEWLINK, AF_UNSPEC, OURS, flags[i]));
        parse_exactly(&r, m.at, m.len);
        assert_true(r.seen);
        assert_int_equal(r.link.up, flags[i] == (IFF_UP | LOWER_UP));
        assert_int_equal(r.link.mtu, TAP_MTU_DEFAULT);
        assert_false(r.link.gone || r.moved);
    }
}

static void an_mtu_stays_in_its_bounds(void **state)
{
    static const struct {
        uint32_t says;
        uint16_t is;
    } cases[] = { { 0, 68 },        { 67, 68 },          { 68, 68 },
                  { 1500, 1500 },   { 65535, 65535 },    { 65536, 65535 },
                  { 66000, 65535 }, { 1u << 31, 65535 }, { UINT32_MAX, 65535 } };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct link_report r = fresh();
        struct msg m = { 0 };
        size_t at = begin(&m, RTM_NEWLINK, AF_UNSPEC, OURS, 0);

        put_u32(&m, IFLA_MTU, cases[i].says);
        end(&m, at);
        parse_exactly(&r, m.at, m.len);
        assert_int_equal(r.link.mtu, cases[i].is);
    }
}

static void deleted_is_for_good(void **state)
{
    struct link_report r = fresh(), was;
    struct msg m = { 0 };

    (void)state;
    end(&m, begin(&m, RTM_DELLINK, AF_UNSPEC, OURS, IFF_UP | LOWER_UP));
    parse_exactly(&r, m.at, m.len);
    assert_true(r.link.gone && !r.link.up && !r.moved);
    assert_int_equal(r.ifindex, 0);
    /* Another interface may get its number, and 0 is nobody's. */
    was = r;
    m.len = 0;
    end(&m, begin(&m, RTM_NEWLINK, AF_UNSPEC, OURS, IFF_UP | LOWER_UP));
    end(&m, begin(&m, RTM_NEWLINK, AF_UNSPEC, 0, IFF_UP | LOWER_UP));
    parse_exactly(&r, m.at, m.len);
    assert_true(same(&r, &was));
}

static void a_port_that_left_its_bridge_is_not_deleted(void **state)
{
    struct link_report r = fresh(), was;
    struct msg m = { 0 };

    (void)state;
    r.link.up = true;
    was = r;
    end(&m, begin(&m, RTM_DELLINK, AF_BRIDGE, OURS, 0));
    end(&m, begin(&m, RTM_NEWLINK, AF_BRIDGE, OURS, 0));
    parse_exactly(&r, m.at, m.len);
    assert_true(same(&r, &was));
}

static void one_that_moved_lives_on(void **state)
{
    struct link_report r = fresh();
    struct msg m = { 0 };
    size_t at = begin(&m, RTM_DELLINK, AF_UNSPEC, OURS, 0);

    (void)state;
    put_u32(&m, IFLA_MTU, 9000);
    put_u32(&m, NEW_NETNSID, 0);
    end(&m, at);
    parse_exactly(&r, m.at, m.len);
    assert_true(r.moved && r.link.up && !r.link.gone);
    assert_int_equal(r.ifindex, 0);
}

static void the_answer_that_there_is_none(void **state)
{
    static const int others[] = { 0, -EPERM, -EINVAL, -ENOBUFS, ENODEV };
    struct link_report r = fresh(), was = r;
    struct msg m = { 0 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        put_error(&m, others[i]);
    parse_exactly(&r, m.at, m.len);
    assert_true(same(&r, &was));
    m.len = 0;
    put_error(&m, -ENODEV);
    parse_exactly(&r, m.at, m.len);
    assert_true(r.seen && r.link.gone && !r.link.up);
    assert_int_equal(r.ifindex, 0);
}

/* --- at random -------------------------------------------------------------------------------- */

/* An attribute that says nothing to us; now and then one that looks like ours and is too short. */
static void put_noise(struct msg *m, struct rng *g)
{
    uint8_t junk[64];
    unsigned n = (unsigned)rng_below(g, sizeof junk + 1), type = (unsigned)rng_below(g, 70);

    rng_fill(g, junk, sizeof junk);
    if (type == IFLA_MTU)
        n %= 4;
    if (type == IFLA_CARRIER)
        n = 0;
    if (type == NEW_NETNSID)
        type = IFLA_IFNAME;
    put_attr(m, type | (rng_chance(g, 10) ? NLA_F_NESTED : 0), junk, n);
}

/* A whole message, and what it changes in the model. */
static void put_random(struct msg *m, struct rng *g, struct link_report *model)
{
    static const unsigned types[] = { RTM_NEWLINK, RTM_NEWLINK, RTM_NEWLINK, RTM_DELLINK,
                                      RTM_NEWADDR, RTM_SETLINK, NLMSG_NOOP,  NLMSG_DONE };
    unsigned type = types[rng_below(g, ARRAY_LEN(types))], flags = (unsigned)rng_next(g);
    int ifindex = rng_chance(g, 60) ? OURS : (int)rng_below(g, 3) - 1;
    unsigned char family = rng_chance(g, 80) ? AF_UNSPEC : AF_BRIDGE;
    bool ours = ifindex == OURS && model->ifindex && family == AF_UNSPEC;
    bool new = ours &&type == RTM_NEWLINK, del = ours &&type == RTM_DELLINK;
    size_t at = begin(m, type, family, ifindex, flags);
    bool moved = false;

    for (unsigned n = (unsigned)rng_below(g, 8); n; n--) {
        uint32_t v = (uint32_t)rng_below(g, 70000);
        uint8_t on = rng_chance(g, 50);

        switch (rng_below(g, 6)) {
        case 0:
            put_u32(m, IFLA_MTU, v);
            if (new)
                model->link.mtu = (uint16_t)(v < 68 ? 68 : min_u64(v, 65535));
            break;
        case 1:
            put_attr(m, IFLA_CARRIER, &on, 1);
            if (new)
                model->carrier = on;
            break;
        case 2:
            put_u32(m, NEW_NETNSID, v);
            moved = true;
            break;
        default:
            put_noise(m, g);
        }
    }
    end(m, at);
    model->seen |= new || del;
    if (new)
        model->link.up = (flags & IFF_UP) && (flags & LOWER_UP);
    if (del) {
        model->ifindex = 0;
        model->moved |= moved;
        model->link.gone = !moved;
        model->link.up = moved;
    }
}

static void messages_at_random_follow_the_model(void **state)
{
    struct rng g = { 5 };
    unsigned gone = 0, moved = 0, up = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct link_report r = fresh(), model = r;

        for (unsigned reads = 0; reads < 3; reads++) {
            struct msg m = { 0 };

            for (uint64_t n = rng_below(&g, 4); n; n--)
                put_random(&m, &g, &model);
            parse_exactly(&r, m.at, m.len);
            check_sane(&r);
            if (!same(&r, &model))
                fail_msg("round %u: seen %d up %d gone %d mtu %u", round, r.seen, r.link.up,
                         r.link.gone, r.link.mtu);
        }
        gone += r.link.gone;
        moved += r.moved;
        up += r.link.up;
    }
    assert_true(gone > 100 && moved > 100 && up > 100);
}

/* Each message cut at each length says what its whole messages said; the rest is not read. */
static void messages_cut_off(void **state)
{
    struct rng g = { 6 };

    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct link_report model = fresh(), first;
        struct msg m = { 0 };

        put_random(&m, &g, &model);
        first = model;
        size_t whole = m.len;

        put_random(&m, &g, &model);
        for (size_t n = 0; n <= m.len; n++) {
            struct link_report r = fresh(), want = n < whole ? r : n < m.len ? first : model;

            parse_exactly(&r, m.at, n);
            if (!same(&r, &want))
                fail_msg("cut at %zu of %zu", n, m.len);
        }
    }
}

/* Lengths of messages and attributes as they must not be: no byte outside is read, the parser comes
 * to its end, and what it says is possible. */
static void lengths_that_lie(void **state)
{
    static const uint32_t lies[] = {
        0,  1,  2,  3,  4,  5,     7,          8,          15,         16,        17,
        31, 32, 33, 36, 64, 65535, 0x7fffffff, 0x80000000, 0xfffffffc, UINT32_MAX
    };
    struct rng g = { 7 };

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        struct link_report model = fresh();
        struct msg m = { 0 };

        put_random(&m, &g, &model);
        put_random(&m, &g, &model);
        for (size_t at = 0; at + 4 <= m.len; at += 4)
            for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
                struct link_report r = fresh();
                struct msg bent = m;

                memcpy(bent.at + at, &lies[i], at >= 32 && rng_chance(&g, 50) ? 2 : 4);
                parse_exactly(&r, bent.at, bent.len);
                check_sane(&r);
            }
    }
}

/* The last attribute says that it is longer than what is there, or ends off the grid. */
static void attributes_that_end_badly(void **state)
{
    static const unsigned types[] = { IFLA_MTU, IFLA_CARRIER, NEW_NETNSID };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(types); i++)
        for (unsigned says = 0; says < 24; says++)
            for (unsigned has = 0; has < 24; has++) {
                struct rtattr a = { .rta_len = (unsigned short)says,
                                    .rta_type = (unsigned short)types[i] };
                uint8_t attr[24] = { 0 };
                struct link_report r = fresh();
                struct msg m = { 0 };
                bool del = types[i] == NEW_NETNSID, whole = says >= sizeof a && says <= has;
                size_t at = begin(&m, del ? RTM_DELLINK : RTM_NEWLINK, AF_UNSPEC, OURS, 0);

                memset(attr, 1, sizeof attr);
                memcpy(attr, &a, sizeof a);
                put(&m, attr, has);
                end(&m, at);
                parse_exactly(&r, m.at, m.len);
                check_sane(&r);
                assert_int_equal(r.moved, del && whole);
                assert_int_equal(r.carrier, types[i] == IFLA_CARRIER && whole && says > 4);
                assert_int_equal(r.link.mtu, types[i] == IFLA_MTU && whole && says >= 8
                                                 ? TAP_MTU_MAX
                                                 : TAP_MTU_DEFAULT);
            }
    for (unsigned has = 0; has <= 4; has++) {
        struct nlmsghdr h = { .nlmsg_len = (uint32_t)(sizeof h + has), .nlmsg_type = NLMSG_ERROR };
        int32_t code = -ENODEV;
        struct link_report r = fresh();
        struct msg m = { 0 };

        put(&m, &h, sizeof h);
        put(&m, &code, has);
        parse_exactly(&r, m.at, m.len);
        assert_int_equal(r.link.gone, has == 4);
    }
}

static void noise(void **state)
{
    struct rng g = { 8 };

    (void)state;
    for (unsigned round = 0; round < 100000; round++) {
        struct link_report r = fresh();
        uint8_t junk[256];
        size_t n = rng_below(&g, sizeof junk + 1);

        rng_fill(&g, junk, sizeof junk);
        if (rng_chance(&g, 80)) {
            struct nlmsghdr h = { .nlmsg_len = (uint32_t)rng_below(&g, n + 4),
                                  .nlmsg_type = rng_chance(&g, 50) ? RTM_NEWLINK : RTM_DELLINK };
            struct ifinfomsg i = { .ifi_index = OURS };

            memcpy(junk, &h, sizeof h);
            memcpy(junk + sizeof h, &i, sizeof i);
        }
        parse_exactly(&r, junk, n);
        check_sane(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_takes_both_flags),
        cmocka_unit_test(an_mtu_stays_in_its_bounds),
        cmocka_unit_test(deleted_is_for_good),
        cmocka_unit_test(a_port_that_left_its_bridge_is_not_deleted),
        cmocka_unit_test(one_that_moved_lives_on),
        cmocka_unit_test(the_answer_that_there_is_none),
        cmocka_unit_test(messages_at_random_follow_the_model),
        cmocka_unit_test(messages_cut_off),
        cmocka_unit_test(lengths_that_lie),
        cmocka_unit_test(attributes_that_end_badly),
        cmocka_unit_test(noise),
    };

    return cmocka_run_group_tests_name("host/link", tests, unit_watchdog, NULL);
}
