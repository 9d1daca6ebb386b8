/* The virtqueue against an exact model: whatever is in guest memory, virtq_pop gives the chain that
 * a second reading finds or says that it is broken, and not one byte of memory changes but those
 * that the model changes too.
 *
 * The model works on a copy of memory (guest.before) and is asked before each call. The second vCPU
 * is played without a thread: with `race` on, what virtio/queue.c has read of a descriptor or of
 * an avail entry is another value the moment it was read. The model's reader does the same, once a
 * visit; code that reads a field twice sees what the model does not. For that queue.c is included,
 * and its reads go through functions of ours.
 */
#include "tests/fuzz/ring.h"

static struct {
    struct guest *g;
    const uint16_t *entries, *end; /* the avail ring's, in memory */
    bool on;
} race;

/* Everything of it is another value, valid for nothing in particular. */
static void scribble(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] ^= (uint8_t)(0x5a + 37 * i);
}

/* Of a descriptor: queue.c copies nothing else. */
static void raced_copy(void *to, const void *from, size_t len)
{
    memcpy(to, from, len);
    if (race.on)
        scribble((uint8_t *)(uintptr_t)from, len);
}

static void raced_loaded(const uint16_t *p)
{
    if (race.on && p >= race.entries && p < race.end)
        scribble((uint8_t *)(uintptr_t)p, 2);
}

#define memcpy raced_copy
/* NOLINTNEXTLINE(bugprone-reserved-identifier): the builtin goes on inside */
#define __atomic_load_n(p, order)                                                                  \
    ({                                                                                             \
        __typeof__(*(p)) loaded_ = __atomic_load_n(p, order);                                      \
        raced_loaded(p);                                                                           \
        loaded_;                                                                                   \
    })
/* NOLINTNEXTLINE(bugprone-suspicious-include): static functions of it are under test */
#include "virtio/queue.c"
#undef memcpy
#undef __atomic_load_n

#define HELD 6

struct held {
    bool busy;
    struct chain c;
    struct iovec iov[VIRTQ_SIZE_MAX];
    struct view v;
};

struct fuzz {
    struct guest *g;
    struct virtq q;
    struct virtq_setup s;
    uint16_t avail_next, used_next, published; /* the model's */
    uint64_t taken[VIRTQ_SIZE_MAX / 64];
    bool running, broken;
    struct held held[HELD];
};

/* --- the model's memory ------------------------------------------------------------------- */

static void model_store(struct fuzz *z, uint64_t gpa, const void *data, size_t len)
{
    int64_t at = guest_offset(gpa, len);

    FUZZ_CHECK(at >= 0, "the model writes outside memory");
    memcpy(z->g->before + at, data, len);
}

static uint16_t model_load(struct fuzz *z, uint64_t gpa)
{
    uint16_t v = 0;

    FUZZ_CHECK(guest_read_before(z->g, gpa, &v, 2), "the model reads outside memory");
    return v;
}

static void store16(struct fuzz *z, uint64_t gpa, uint16_t v)
{
    model_store(z, gpa, &v, sizeof v);
}

/* guest_view's reader, raced like queue.c. */
static bool model_read(void *arg, uint64_t gpa, void *buf, size_t len)
{
    struct fuzz *z = arg;
    uint64_t ring = z->s.avail.v + 4;

    if (!guest_read_before(z->g, gpa, buf, len))
        return false;
    if (race.on && (len == 16 || (gpa >= ring && gpa < ring + 2 * (uint64_t)z->s.size)))
        scribble(z->g->before + guest_offset(gpa, len), len);
    return true;
}

static void avail_event(struct fuzz *z, uint16_t v)
{
    if (z->s.event_idx)
        store16(z, z->s.used.v + 4 + 8 * (uint64_t)z->s.size, v);
    else
        store16(z, z->s.used.v, 0);
}

/* --- operations --------------------------------------------------------------------------- */

/* The table in 2.7. */
static bool setup_usable(const struct virtq_setup *s, unsigned max)
{
    return s->size && s->size <= max && !(s->size & (s->size - 1)) && s->desc.v % 16 == 0 &&
           s->avail.v % 2 == 0 && s->used.v % 4 == 0 &&
           guest_offset(s->desc.v, 16 * (uint64_t)s->size) >= 0 &&
           guest_offset(s->avail.v, 6 + 2 * (uint64_t)s->size) >= 0 &&
           guest_offset(s->used.v, 6 + 8 * (uint64_t)s->size) >= 0;
}

static void start(struct fuzz *z, uint16_t max)
{
    struct err e = { 0 };
    bool usable = setup_usable(&z->s, max);
    int ret = virtq_start(&z->q, &z->g->mem, &z->s, max, &e);

    FUZZ_CHECK((ret == 0) == usable, "size %u, %d, %s", z->s.size, ret, e.msg);
    FUZZ_CHECK(virtq_running(&z->q) == usable && virtq_idle(&z->q), "%d", ret);
    FUZZ_CHECK(usable || (e.code && e.msg[0]), "a refusal without a reason");
    z->avail_next = z->used_next = z->published = 0;
    z->running = usable;
    z->broken = false;
    memset(z->taken, 0, sizeof z->taken);
    for (unsigned i = 0; i < HELD; i++)
        z->held[i].busy = false;
    race.entries = usable ? (uint16_t *)(void *)guest_ram(z->g, z->s.avail.v + 4, 2) : NULL;
    race.end = usable ? race.entries + z->s.size : NULL;
}

/* Bends one number of the setup: the size, or where a part lies: anywhere, a little off, or about
 * where memory ends just behind it. */
static void bend_setup(struct virtq_setup *s, uint8_t bend, struct input *in)
{
    gpa_t *at[] = { &s->desc, &s->avail, &s->used };
    const uint64_t len[] = { 16 * (uint64_t)s->size, 6 + 2 * (uint64_t)s->size,
                             6 + 8 * (uint64_t)s->size };
    unsigned part = bend % 4;
    uint64_t v = in_value(in);

    if (part == 3)
        s->size = (uint16_t)v;
    else if (bend & 0x20)
        at[part]->v = v;
    else if (bend & 0x10)
        at[part]->v = (bend & 8 ? GUEST_LOW : GMEM_HIGH_BASE + GUEST_HIGH) - len[part] + v % 8 - 4;
    else
        at[part]->v += v;
}

static void op_setup(struct fuzz *z, struct input *in)
{
    static const uint16_t sizes[] = { 1, 2, 4, 8, 16, 64, 256, 1024 };
    uint8_t how = in_u8(in), bend = in_u8(in);
    uint16_t max = how & 0x20 ? 64 : VIRTQ_SIZE_MAX;
    struct ring *r = &z->g->q[0].ring;

    guest_rings(z->g, sizes[how % 8]);
    z->g->bent = race.on;              /* a head may be another by the time it is used */
    if (how & 0x80 && r->size <= 64) { /* behind the hole, where buffers come to lie over them */
        z->g->bent = true;
        ring_init(r, &z->g->mem, GMEM_HIGH_BASE, r->size);
        r->used = GMEM_HIGH_BASE + GUEST_HIGH - 6 - 8 * (uint64_t)r->size;
        r->used -= r->used % 4;
    }
    z->s = ring_setup(r);
    z->s.indirect = z->g->indirect = how & 8;
    z->s.event_idx = z->g->event_idx = how & 16;
    if (bend < 0x80 && bend & 0x40) {
        bend_setup(&z->s, bend, in);
        z->g->bent = true;
        r->size = setup_usable(&z->s, max) ? z->s.size : 0;
        r->desc = z->s.desc.v;
        r->avail = z->s.avail.v;
        r->used = z->s.used.v;
    }
    start(z, max);
}

static void op_pop(struct fuzz *z)
{
    struct held *h = NULL;
    enum verdict want = CHAIN_NONE;

    for (unsigned i = 0; i < HELD && !h; i++)
        h = z->held[i].busy ? NULL : &z->held[i];
    if (!h)
        return;
    if (z->broken)
        want = CHAIN_BROKEN;
    else if (z->running)
        want = guest_view(&z->s, z->avail_next, z->taken, model_read, z, &h->v);
    h->c = (struct chain){ .iov = h->iov, .iov_max = VIRTQ_SIZE_MAX };
    int ret = virtq_pop(&z->q, &h->c);

    FUZZ_CHECK(ret == (want == CHAIN_GOOD   ? 1
                       : want == CHAIN_NONE ? 0
                                            : -EPROTO),
               "virtq_pop %d (%s), the second reading %d", ret, z->q.fault ? z->q.fault : "", want);
    z->broken = want == CHAIN_BROKEN;
    FUZZ_CHECK(!z->broken || z->q.fault, "broken without a reason");
    if (ret != 1)
        return;
    h->busy = true;
    z->avail_next++;
    z->taken[h->v.head / 64] |= UINT64_C(1) << h->v.head % 64;
    FUZZ_CHECK(h->c.head == h->v.head && cursor_left(&h->c.r) == h->v.readable &&
                   cursor_left(&h->c.w) == h->v.writable && h->c.writable == h->v.writable,
               "head %u, %zu and %zu bytes; the second reading %u, %ju, %ju", h->c.head,
               cursor_left(&h->c.r), cursor_left(&h->c.w), h->v.head, (uintmax_t)h->v.readable,
               (uintmax_t)h->v.writable);
}

/* What the readable (or writable) buffers hold at byte `at`, in the model's memory. */
static uint8_t *view_byte(struct fuzz *z, const struct view *v, bool write, uint64_t at)
{
    for (unsigned i = 0; i < v->n; i++) {
        const struct piece *p = &v->piece[i];

        if (p->write != write)
            continue;
        if (at < p->len)
            return z->g->before + guest_offset(p->gpa + at, 1);
        at -= p->len;
    }
    abort();
}

static void read_some(struct fuzz *z, struct held *h, struct input *in)
{
    uint8_t buf[300];
    struct iovec iov[4];
    size_t done = h->v.readable - cursor_left(&h->c.r), n = in_below(in, sizeof buf);
    bool take = in_u8(in) & 1;

    if (n > cursor_left(&h->c.r)) {
        FUZZ_CHECK(cursor_get(&h->c.r, buf, n) < 0, "%zu bytes of fewer", n);
        n = min_size(cursor_left(&h->c.r), sizeof buf);
    }
    if (take) {
        int pieces = cursor_take(&h->c.r, n, iov, 4);
        uint8_t *to = buf;

        if (pieces < 0) {
            FUZZ_CHECK(pieces == -E2BIG && cursor_skip(&h->c.r, n) == 0, "%d", pieces);
            return;
        }
        for (int i = 0; i < pieces; to += iov[i++].iov_len)
            memcpy(to, iov[i].iov_base, iov[i].iov_len);
        FUZZ_CHECK((size_t)(to - buf) == n, "%td of %zu bytes", to - buf, n);
    } else {
        FUZZ_CHECK(cursor_get(&h->c.r, buf, n) == 0, "%zu", n);
    }
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(buf[i] == *view_byte(z, &h->v, false, done + i), "byte %zu of a request",
                   done + i);
}

/* Answers a chain: some bytes written, then pushed. */
static void op_answer(struct fuzz *z, struct input *in)
{
    struct held *h = &z->held[in_below(in, HELD)];
    uint8_t buf[500];

    if (!h->busy)
        return;
    for (unsigned i = in_u8(in) % 4; i; i--)
        read_some(z, h, in);
    size_t n = min_size(in_below(in, sizeof buf), cursor_left(&h->c.w));

    memset(buf, (int)(0x80 + n % 100), n);
    FUZZ_CHECK(cursor_put(&h->c.w, buf, n) == 0, "%zu", n);
    for (size_t i = 0; i < n; i++)
        *view_byte(z, &h->v, true, i) = buf[0];
    virtq_push(&z->q, &h->c, (uint32_t)n);

    const uint32_t elem[2] = { h->v.head, (uint32_t)n };

    model_store(z, z->s.used.v + 4 + 8 * (uint64_t)(z->used_next % z->s.size), elem, 8);
    z->used_next++;
    z->taken[h->v.head / 64] &= ~(UINT64_C(1) << h->v.head % 64);
    h->busy = false;
}

static void op_publish(struct fuzz *z)
{
    bool want = false;

    if (z->running && z->used_next != z->published) {
        store16(z, z->s.used.v + 2, z->used_next);
        if (z->s.event_idx)
            want = must_notify(z->published, z->used_next,
                               model_load(z, z->s.avail.v + 4 + 2 * (uint64_t)z->s.size));
        else
            want = !(model_load(z, z->s.avail.v) & 1);
        z->published = z->used_next;
    }
    FUZZ_CHECK(virtq_publish(&z->q) == want, "an interrupt %s", want ? "missed" : "too many");
}

/* What tells the guest when to kick, and what is asked of the indices. */
static void op_tell(struct fuzz *z, struct input *in)
{
    bool well = z->running && !z->broken;
    uint8_t how = in_u8(in);

    switch (how % 4) {
    case 0:
        virtq_disarm(&z->q);
        if (z->running && !z->s.event_idx)
            store16(z, z->s.used.v, 1);
        break;
    case 1:
        if (well)
            avail_event(z, z->avail_next);
        FUZZ_CHECK(virtq_rearm(&z->q) == (well && model_load(z, z->s.avail.v + 2) != z->avail_next),
                   "rearm");
        break;
    case 2:
        if (well)
            avail_event(z, (uint16_t)(z->avail_next + how % z->s.size));
        virtq_watch(&z->q, well ? how % z->s.size : 0);
        break;
    default:
        FUZZ_CHECK(virtq_waiting(&z->q) ==
                       (well ? (uint16_t)(model_load(z, z->s.avail.v + 2) - z->avail_next) : 0),
                   "waiting");
        FUZZ_CHECK(virtq_caught_up(&z->q) ==
                       (z->running && z->s.event_idx &&
                        model_load(z, z->s.avail.v + 4 + 2 * (uint64_t)z->s.size) == z->published),
                   "caught up");
        break;
    }
}

/* Saves an idle queue and goes on with what loads from it; perhaps with other bytes. */
static void op_save(struct fuzz *z, struct input *in)
{
    uint8_t bytes[16];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct err e;
    uint8_t bend = in_u8(in);

    if (!z->running || z->broken || !virtq_idle(&z->q) || z->published != z->used_next)
        return;
    virtq_save(&z->q, &w);
    FUZZ_CHECK(virtq_start(&z->q, &z->g->mem, &z->s, VIRTQ_SIZE_MAX, &e) == 0, "%s", e.msg);
    if (bend & 1)
        bytes[bend / 2 % w.len] ^= in_u8(in);
    struct rbuf r = { .data = bytes, .len = bend & 2 ? w.len : min_size(bend / 4, w.len) };
    const uint16_t *v = (const uint16_t *)(const void *)bytes;
    bool fits = r.len == w.len && v[0] == v[1] && v[1] == v[2];

    FUZZ_CHECK((virtq_load(&z->q, &r) == 0) == fits, "load");
    if (!fits) {
        virtq_stop(&z->q);
        z->running = false;
        return;
    }
    z->avail_next = z->used_next = z->published = v[0];
}

/* After all that a reset brings a queue that works. */
static void play_valid(struct fuzz *z)
{
    struct piece piece[] = { { 0, 32, false }, { 0, 32, true } };

    race.on = false;
    memset(z->g->mem.region[0].host, 0, GUEST_LOW);
    guest_rings(z->g, 8);
    z->s = ring_setup(&z->g->q[0].ring);
    z->g->indirect = z->s.indirect = true;
    piece[0].gpa = guest_buffer(z->g, 32);
    piece[1].gpa = guest_buffer(z->g, 32);
    virtq_stop(&z->q);
    start(z, 8);
    guest_chain(z->g, 0, piece, 2, 0);
    ring_publish(&z->g->q[0].ring);
    guest_enter(z->g);
    op_pop(z);
    FUZZ_CHECK(z->held[0].busy, "a valid request is not taken");
    virtq_push(&z->q, &z->held[0].c, 32);
    FUZZ_CHECK(virtq_publish(&z->q), "nobody is told");
    uint32_t id, len;

    FUZZ_CHECK(ring_take(&z->g->q[0].ring, &id, &len) && id == z->held[0].c.head && len == 32,
               "a valid request is not served");
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;

    z = (struct fuzz){ .g = guest_init(1, VIRTQ_SIZE_MAX) };
    race.g = z.g;
    race.on = false;
    op_setup(&z, in);
    while (in->left) {
        unsigned op = in_below(in, 16);

        guest_enter(z.g); /* no byte may change but by the model's hand, too */
        switch (op) {
        case 0:
            op_setup(&z, in);
            continue;
        case 1:
        case 2:
        case 3:
            op_pop(&z);
            break;
        case 4:
        case 5:
            op_answer(&z, in);
            break;
        case 6:
            op_publish(&z);
            break;
        case 7:
        case 8:
            op_tell(&z, in);
            break;
        case 9:
            op_save(&z, in);
            break;
        case 10:
            race.on = !race.on;
            z.g->bent = true;
            continue;
        default:
            guest_op(z.g, in);
            continue;
        }
        guest_leave(z.g);
    }
    play_valid(&z);
}
