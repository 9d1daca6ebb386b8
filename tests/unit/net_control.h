/* For tests of the control queue: commands (virtio 1.2, section 5.1.6.5), and who is heard then. */
#ifndef MAYFLY_TESTS_NET_CONTROL_H
#define MAYFLY_TESTS_NET_CONTROL_H

#include "tests/unit/net_rig.h"

static inline unsigned rig_control_queue(const struct rig *g)
{
    return g->nq - 1;
}

/* A command in these pieces, the sum of which is n; the answer, or -1 when there was none. */
static inline int rig_command_cut(struct rig *g, const void *bytes, const uint32_t *cut, unsigned n)
{
    unsigned q = rig_control_queue(g);
    const uint8_t *from = bytes;
    struct part p[16];
    uint16_t from_idx = g->ring[q].offered;
    uint32_t id, len;

    assert_in_range(n, 0, 15);
    for (unsigned i = 0; i < n; i++) {
        p[i] = (struct part){ rig_room(g, cut[i] + 1), cut[i], false };
        memcpy(ram(&g->mem, p[i].gpa, cut[i] + 1UL), from, cut[i]);
        from += cut[i];
    }
    p[n] = (struct part){ rig_room(g, 1), 1, true };
    *(uint8_t *)ram(&g->mem, p[n].gpa, 1) = 0xee;
    rig_chain(g, q, 0, p, n + 1);
    rig_tell(g, q, from_idx);
    rig_pump(g);
    if (g->threads)
        rig_wait_used(g, q, 1);
    if (!ring_take(&g->ring[q], &id, &len))
        return -1;
    assert_int_equal(id, 0);
    assert_int_equal(len, 1);
    return *(uint8_t *)ram(&g->mem, p[n].gpa, 1);
}

/* A command as Linux cuts it: class and number, data. */
static inline int rig_command(struct rig *g, uint8_t class, uint8_t number, const void *data,
                              uint32_t n)
{
    uint8_t bytes[2048] = { class, number };
    const uint32_t cut[] = { 2, n };

    assert_in_range(n, 0, sizeof bytes - 2);
    if (n)
        memcpy(bytes + 2, data, n);
    return rig_command_cut(g, bytes, cut, n ? 2 : 1);
}

enum { OK, ERR };
enum { C_RX, C_MAC, C_VLAN, C_ANNOUNCE, C_MQ, C_OFFLOADS };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST };

static inline int rx_mode(struct rig *g, uint8_t number, uint8_t on)
{
    return rig_command(g, C_RX, number, &on, 1);
}

static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t stranger[6] = { 0x02, 9, 9, 9, 9, 9 };
static const uint8_t group[6] = { 0x01, 0, 0x5e, 1, 2, 3 };

/* Which of us, a stranger, everybody and a group hear of what is sent, in the digits' order. */
static inline unsigned hears(const struct rig *g)
{
    return rig_passes(g, rig_mac) * 1000U + rig_passes(g, stranger) * 100U +
           rig_passes(g, broadcast) * 10U + rig_passes(g, group) * 1U;
}

/* Two tables: n hosts 2:0:0:0:1:i, m groups 1:0:5e:0:1:i. */
static inline int set_tables(struct rig *g, uint32_t n, uint32_t m)
{
    uint8_t data[2000] = { 0 }, *p = data;

    for (unsigned t = 0; t < 2; t++) {
        uint32_t count = t ? m : n;

        memcpy(p, &count, 4);
        p += 4;
        for (uint32_t i = 0; i < count; i++, p += 6)
            memcpy(p, (uint8_t[]){ t ? 1 : 2, 0, t ? 0x5e : 0, 0, 1, (uint8_t)i }, 6);
    }
    return rig_command(g, C_MAC, 0, data, (uint32_t)(p - data));
}

static inline int passes_entry(const struct rig *g, unsigned table, unsigned i)
{
    const uint8_t a[6] = { table ? 1 : 2, 0, table ? 0x5e : 0, 0, 1, (uint8_t)i };

    return rig_passes(g, a);
}

#endif
