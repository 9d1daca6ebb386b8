/* The second reading of a chain, and the canaries; see ring.h.
 *
 * The rules here are the specification's (virtio 1.2, 2.7.5 and 2.7.6) and the limits that
 * virtio/queue.c names in its opening words, in the order in which a reader of the text would find
 * them. What counts is whether a chain is good and what it then holds, not which rule it broke.
 */
#include "tests/fuzz/ring.h"

/* What is read of a table: its descriptors, one by one, as the chain leads. */
struct walk {
    const struct virtq_setup *s;
    guest_reader *read;
    void *arg;
    struct view *v;
    uint64_t table;
    unsigned entries, index, met;
    bool inside; /* an indirect table */
};

/* An indirect table begins. */
static bool walk_enter(struct walk *w, const struct ring_desc *d)
{
    if (!w->s->indirect || w->inside || d->flags & D_NEXT)
        return false;
    if (d->len < 16 || d->len % 16 || d->len / 16 > w->s->size || guest_offset(d->addr, d->len) < 0)
        return false;
    w->inside = true;
    w->v->table = (struct piece){ d->addr, d->len, false };
    w->table = d->addr;
    w->entries = d->len / 16;
    w->index = 0;
    return true;
}

/* A buffer. */
static bool walk_buffer(struct walk *w, const struct ring_desc *d)
{
    struct view *v = w->v;
    bool write = d->flags & D_WRITE;

    w->met++;
    if (!write && v->n && v->piece[v->n - 1].write)
        return false;
    if (d->len && guest_offset(d->addr, d->len) < 0)
        return false;
    v->piece[v->n++] = (struct piece){ d->addr, d->len, write };
    *(write ? &v->writable : &v->readable) += d->len;
    return v->readable + v->writable <= UINT32_MAX;
}

static enum verdict walk_chain(struct walk *w)
{
    for (;;) {
        struct ring_desc d;

        /* One more than the limit would be one too many to look at. */
        if (w->met == w->s->size)
            return CHAIN_BROKEN;
        if (!w->read(w->arg, w->table + 16 * (uint64_t)w->index, &d, sizeof d))
            return CHAIN_BROKEN;
        if (d.flags & D_INDIRECT) {
            if (!walk_enter(w, &d))
                return CHAIN_BROKEN;
            continue;
        }
        if (!walk_buffer(w, &d))
            return CHAIN_BROKEN;
        if (!(d.flags & D_NEXT))
            return CHAIN_GOOD;
        if (d.next >= w->entries)
            return CHAIN_BROKEN;
        w->index = d.next;
    }
}

enum verdict guest_view(const struct virtq_setup *s, uint16_t at, const uint64_t *taken,
                        guest_reader *read, void *arg, struct view *v)
{
    struct walk w = { .s = s, .read = read, .arg = arg, .v = v, .table = s->desc.v };
    uint16_t idx = 0, head = 0;

    v->n = 0;
    v->readable = v->writable = 0;
    v->table.len = 0;
    w.entries = s->size;
    FUZZ_CHECK(read(arg, s->avail.v + 2, &idx, 2), "the avail ring is no memory");
    if (idx == at)
        return CHAIN_NONE;
    if ((uint16_t)(idx - at) > s->size)
        return CHAIN_BROKEN;
    FUZZ_CHECK(read(arg, s->avail.v + 4 + 2 * (uint64_t)(at % s->size), &head, 2),
               "the avail ring is no memory");
    if (head >= s->size || (taken && taken[head / 64] >> head % 64 & 1))
        return CHAIN_BROKEN;
    v->head = head;
    w.index = head;
    return walk_chain(&w);
}

bool guest_read_before(void *arg, uint64_t gpa, void *buf, size_t len)
{
    struct guest *g = arg;
    int64_t at = guest_offset(gpa, len);

    if (at < 0)
        return false;
    memcpy(buf, g->before + at, len);
    return true;
}

/* --- canaries ----------------------------------------------------------------------------- */

/* Some ten thousand steps for every entry: coverage of them would tell libFuzzer nothing. */
#define UNWATCHED __attribute__((no_sanitize("coverage"), noinline))

static void copy_ram(const struct guest *g, uint8_t *to)
{
    memcpy(to, g->mem.region[0].host, GUEST_LOW);
    memcpy(to + GUEST_LOW, g->mem.region[1].host, GUEST_HIGH);
}

void guest_enter(struct guest *g)
{
    copy_ram(g, g->before);
    if (g->roles)
        memset(g->role, 0, sizeof g->role);
    g->roles = false;
}

UNWATCHED static void set_role(struct guest *g, uint64_t gpa, uint64_t len, uint8_t role)
{
    int64_t at = guest_offset(gpa, len);

    FUZZ_CHECK(at >= 0, "a role for what is no memory");
    g->roles = true;
    for (uint64_t i = 0; i < len; i++)
        g->role[(uint64_t)at + i] |= role;
}

bool guest_changes(const struct guest *g, uint64_t gpa, uint64_t len)
{
    int64_t at = guest_offset(gpa, len);

    FUZZ_CHECK(at >= 0, "a role of what is no memory");
    return g->roles && memchr(g->role + at, ROLE_MAY, len);
}

void guest_may(struct guest *g, uint64_t gpa, uint64_t len)
{
    set_role(g, gpa, len, ROLE_MAY);
}

void guest_may_serve(struct guest *g, const struct virtq_setup *s, uint16_t from)
{
    static struct view v;

    set_role(g, s->used.v, 6 + 8 * (uint64_t)s->size, ROLE_MAY);
    set_role(g, s->desc.v, 16 * (uint64_t)s->size, ROLE_STEERS);
    set_role(g, s->avail.v, 6 + 2 * (uint64_t)s->size, ROLE_STEERS);
    for (unsigned i = 0; i < s->size; i++) {
        if (guest_view(s, (uint16_t)(from + i), NULL, guest_read_before, g, &v) != CHAIN_GOOD)
            return;
        if (v.table.len)
            set_role(g, v.table.gpa, v.table.len, ROLE_STEERS);
        for (unsigned k = 0; k < v.n; k++)
            if (v.piece[k].write && v.piece[k].len)
                set_role(g, v.piece[k].gpa, v.piece[k].len, ROLE_MAY);
    }
}

/* Whether a byte that may change also steers. */
UNWATCHED static bool roles_clash(const struct guest *g)
{
    uint64_t found = 0, w;

    _Static_assert(ROLE_MAY == 1 && ROLE_STEERS == 2 && GUEST_RAM % sizeof w == 0, "by words");
    for (size_t i = 0; i < GUEST_RAM; i += sizeof w) {
        memcpy(&w, g->role + i, sizeof w);
        found |= w & w >> 1 & 0x0101010101010101;
    }
    return found;
}

UNWATCHED static void find_damage(const struct guest *g, const uint8_t *now, uint64_t from,
                                  uint64_t len)
{
    for (uint64_t i = from; i < from + len; i++, now++) {
        /* Most of it is as it was. */
        if (i % 64 == 0 && i + 64 <= from + len && memcmp(now, g->before + i, 64) == 0) {
            i += 63;
            now += 63;
            continue;
        }
        FUZZ_CHECK(*now == g->before[i] || (g->roles && g->role[i] & ROLE_MAY),
                   "the device wrote where it must not: byte 0x%jx of memory, 0x%02x to 0x%02x",
                   (uintmax_t)i, g->before[i], *now);
    }
}

bool guest_leave(struct guest *g)
{
    const struct gmem_region *r = g->mem.region;

    if (g->roles && roles_clash(g))
        return false;
    if (memcmp(g->before, r[0].host, GUEST_LOW) != 0)
        find_damage(g, r[0].host, 0, GUEST_LOW);
    if (memcmp(g->before + GUEST_LOW, r[1].host, GUEST_HIGH) != 0)
        find_damage(g, r[1].host, GUEST_LOW, GUEST_HIGH);
    return true;
}
