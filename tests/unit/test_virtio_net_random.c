/* Random traffic against a model that is exact: which chain each frame ends in, every byte of guest
 * memory, what is dropped and why, what the host is sent. Buffers of any shape, in one pair or two,
 * with resets and saves in between. */
#include "tests/unit/net_control.h"

#define PARTS  6
#define FRAMES 32

/* A chain for receiving, in the order offered. */
struct slot {
    struct part p[PARTS];
    unsigned n, head;
    uint32_t room;
};

/* One pair's two ways. */
struct way {
    struct slot slot[NET_QMAX];
    unsigned first, n; /* those that the device has or could take */
    bool out[NET_QMAX];
    struct {
        uint32_t len; /* header and all */
        uint8_t *bytes;
    } frame[FRAMES]; /* on their way to the guest */
    unsigned frames;
    struct {
        uint32_t len;
        uint8_t *bytes;
    } sent[NET_QMAX]; /* what must come out at the other end */
    unsigned n_sent;
};

struct play {
    struct rng rng;
    struct rig *g;
    uint64_t features;
    unsigned pairs;
    struct way way[2];
    uint8_t *shadow;       /* guest memory as it must be, */
    uint8_t *loose;        /* but for these bytes: of buffers that a dropped frame may be in */
    struct net_stats want; /* of the device at hand */
    uint32_t part_max, room_min, frame_max;
    unsigned parts_max;
    unsigned delivered, split, dropped, sent, refused; /* in all */
};

static bool has(const struct play *z, unsigned bit)
{
    return z->features >> bit & 1;
}

/* --- the driver --------------------------------------------------------------------------- */

/* Chains of its own making: at least 12 bytes, the header where it may be. */
static void offer_slot(struct play *z, unsigned pair)
{
    struct way *w = &z->way[pair];
    unsigned stride = z->g->indirect ? 1 : PARTS, most = NET_QMAX / stride, head;

    if (w->n == most || (!z->g->indirect && w->n >= NET_QMAX / PARTS))
        return;
    do
        head = (unsigned)rng_below(&z->rng, most);
    while (w->out[head]);
    struct slot *s = &w->slot[(w->first + w->n++) % NET_QMAX];

    *s = (struct slot){ .head = head };
    while (s->room < z->room_min || (s->n < z->parts_max && rng_chance(&z->rng, 30))) {
        bool last = s->n + 1 >= z->parts_max;
        uint32_t len = rng_chance(&z->rng, 20) ? (uint32_t)rng_below(&z->rng, 13)
                                               : (uint32_t)rng_below(&z->rng, z->part_max);

        if (last && s->room + len < z->room_min)
            len = z->room_min - s->room;
        s->p[s->n++] = (struct part){ rig_room(z->g, len + 8), len, true };
        s->room += len;
        if (last)
            break;
    }
    w->out[head] = true;
    rig_chain(z->g, 2 * pair, head * stride, s->p, s->n);
}

static void offer_some(struct play *z, unsigned pair)
{
    unsigned n = (unsigned)rng_below(&z->rng, rng_chance(&z->rng, 35) ? NET_QMAX : 20);
    uint16_t from = z->g->ring[2 * pair].offered;

    while (n--)
        offer_slot(z, pair);
    rig_tell(z->g, 2 * pair, from);
}

/* A header, mostly a right one. */
static void some_header(struct play *z, uint8_t *h, uint32_t len)
{
    static const uint8_t types[] = { 0, 0, 1, 4, 5, 3, 0x81 };
    struct rng *r = &z->rng;

    memset(h, 0, HDR);
    if (rng_chance(r, 50))
        return;
    if (rng_chance(r, 10)) {
        rng_fill(r, h, HDR);
        return;
    }
    h[0] = (uint8_t)(rng_next(r) & 3);
    h[1] = types[rng_below(r, ARRAY_LEN(types))];
    h[2] = 54;
    h[4] = (uint8_t)rng_below(r, 4);
    h[6] = (uint8_t)(rng_chance(r, 95) ? 14 + rng_below(r, 40) : rng_below(r, 14));
    h[8] = (uint8_t)(rng_chance(r, 90) ? 16 : len - h[6] - 2 + rng_below(r, 2));
}

/* A frame of the driver's, cut at random: what becomes of it is known at once. */
static void send_one(struct play *z, unsigned pair, unsigned head)
{
    struct way *w = &z->way[pair];
    struct rng *r = &z->rng;
    uint32_t len = HDR + (uint32_t)(rng_chance(r, 10)   ? rng_below(r, 20)
                                    : rng_chance(r, 90) ? rng_below(r, 1600)
                                                        : rng_below(r, 66000));
    struct part p[PARTS + 1];
    unsigned n = 0;

    if (rng_chance(r, 3))
        len = (uint32_t)rng_below(r, HDR);
    uint64_t at = rig_room(z->g, len + 8);
    uint8_t *bytes = ram(&z->g->mem, at, len + 8), h[HDR];

    rng_fill(r, bytes, len);
    some_header(z, h, len > HDR ? len - HDR : 0);
    memcpy(bytes, h, len < HDR ? len : HDR);
    for (uint32_t left = len; n + 1 < PARTS && left;) {
        uint32_t part = rng_chance(r, 30) ? left : (uint32_t)rng_below(r, left + 1);

        if (n == 0 && rng_chance(r, 60))
            part = len < HDR ? len : HDR; /* as Linux */
        p[n++] = (struct part){ at + len - left, part, false };
        left -= part;
        if (n + 1 == PARTS && left)
            p[n++] = (struct part){ at + len - left, left, false };
    }
    if (n == 0 || rng_chance(r, 5)) /* room that nobody asked for */
        p[n++] = (struct part){ rig_room(z->g, 100), 100, true };
    rig_chain(z->g, 2 * pair + 1, head, p, n);
    unsigned verdict = len < HDR ? 1 << NET_DROP_SHORT : model_judge(bytes, len - HDR, z->features);

    if (verdict != 1 << NET_PASS) {
        z->refused++;
        return;
    }
    uint8_t *copy = malloc(len);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    w->sent[w->n_sent].len = len;
    w->sent[w->n_sent++].bytes = copy;
}

/* Sends some, and sees all of them off. */
static void send_some(struct play *z, unsigned pair)
{
    unsigned n = (unsigned)rng_below(&z->rng, 12), stride = z->g->indirect ? 1 : PARTS + 1;
    unsigned q = 2 * pair + 1, refused = z->refused;
    struct way *w = &z->way[pair];
    uint16_t from = z->g->ring[q].offered;
    static uint8_t got[70000];

    for (unsigned i = 0; i < n; i++)
        send_one(z, pair, i * stride);
    rig_tell(z->g, q, from);
    rig_pump(z->g);
    for (unsigned i = 0; i < n; i++)
        rig_used(z->g, q, i * stride, 0);
    rig_nothing_used(z->g, q);
    for (unsigned i = 0; i < w->n_sent; i++) {
        assert_int_equal(wire_recv(z->g, pair, got, sizeof got), w->sent[i].len);
        assert_true(model_same(w->sent[i].bytes, got));
        assert_memory_equal(got + HDR, w->sent[i].bytes + HDR, w->sent[i].len - HDR);
        z->want.tx_bytes += w->sent[i].len - HDR;
        free(w->sent[i].bytes);
    }
    assert_int_equal(wire_recv(z->g, pair, got, sizeof got), -1);
    z->sent += w->n_sent;
    z->want.tx_packets += w->n_sent;
    w->n_sent = 0;
    struct net_stats s = rig_stats(z->g);

    assert_true(s.tx_packets == z->want.tx_packets && s.tx_bytes == z->want.tx_bytes);
    z->want.tx_drop[0] += z->refused - refused; /* whatever the reason */
    for (unsigned i = 1, sum = 0; i < NET_DROPS; i++) {
        sum += (unsigned)s.tx_drop[i];
        if (i + 1 == NET_DROPS)
            assert_int_equal(sum, z->want.tx_drop[0]);
    }
}

/* --- the host ----------------------------------------------------------------------------- */

static void host_frame(struct play *z, unsigned pair)
{
    struct way *w = &z->way[pair];
    struct rng *r = &z->rng;
    uint32_t len = 14 + (uint32_t)rng_below(r, rng_chance(r, 70) ? 200 : z->frame_max - 13);

    if (w->frames == FRAMES)
        return;
    if (rng_chance(r, 5))
        len = z->frame_max - (uint32_t)rng_below(r, 3);
    if (rng_chance(r, 3))
        len = (uint32_t)rng_below(r, 14);
    uint8_t *bytes = malloc(HDR + len);

    assert_non_null(bytes);
    static const uint8_t types[] = { 0, 0, 0, 1, 4, 5, 3, 0x81 };

    rng_fill(r, bytes, HDR + len);
    bytes[0] &= rng_chance(r, 80) ? 0xfe : 0xff;
    bytes[1] = len > 1500          ? z->frame_max > 1518
               : rng_chance(r, 20) ? types[rng_below(r, ARRAY_LEN(types))]
                                   : 0;
    assert_true(wire_send(z->g, pair, bytes, bytes + HDR, len));
    w->frame[w->frames].len = HDR + len;
    w->frame[w->frames++].bytes = bytes;
}

/* --- the model ---------------------------------------------------------------------------- */

/* A frame in the chains, as far as it goes: written, or, with bytes NULL, perhaps. How many chains
 * it needed. */
static unsigned shadow_frame(struct play *z, const struct way *w, const uint8_t *bytes,
                             uint32_t len)
{
    unsigned chains = 0;

    for (; len && chains < w->n; chains++) {
        const struct slot *s = &w->slot[(w->first + chains) % NET_QMAX];

        if (chains && !has(z, N_MRG))
            break;
        for (unsigned i = 0; i < s->n && len; i++) {
            uint32_t part = s->p[i].len < len ? s->p[i].len : len;

            memset(z->loose + s->p[i].gpa, !bytes, part);
            if (bytes) {
                memcpy(z->shadow + s->p[i].gpa, bytes, part);
                bytes += part;
            }
            len -= part;
        }
    }
    return chains;
}

/* The first frame: whether something becomes of it with the chains at hand. used: those that its
 * delivery gives back. */
static bool model_frame(struct play *z, struct way *w, unsigned *used)
{
    uint8_t *bytes = w->frame[0].bytes;
    uint32_t len = w->frame[0].len, room = 0;

    *used = 0;
    if (!w->frames || !w->n)
        return false;
    for (unsigned i = 0; i < (has(z, N_MRG) ? w->n : 1); i++)
        room += w->slot[(w->first + i) % NET_QMAX].room;
    unsigned verdict = len > room ? 1 << NET_DROP_NO_ROOM
                                  : model_judge_host(bytes, len - HDR, z->features,
                                                     has(z, N_MTU) ? 1500 : 0);

    if (verdict != 1 << NET_PASS) {
        shadow_frame(z, w, NULL, len);
        z->want.rx_drop[0]++; /* whatever the reason */
        z->dropped++;
    } else {
        unsigned chains = shadow_frame(z, w, bytes, len);

        bytes[0] = model_host_flags(bytes, z->features);
        bytes[10] = (uint8_t)chains;
        bytes[11] = (uint8_t)(chains >> 8);
        *used = shadow_frame(z, w, bytes, len);
        z->want.rx_packets++;
        z->want.rx_bytes += len - HDR;
        z->delivered++;
        z->split += chains > 1;
    }
    return true;
}

static uint64_t drops(const struct net_stats *s)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < NET_DROPS; i++)
        sum += s->rx_drop[i];
    return sum;
}

/* Used entries of one frame, which the driver takes back. */
static void take_frame(struct play *z, unsigned pair, unsigned chains)
{
    struct way *w = &z->way[pair];
    uint32_t len = w->frame[0].len;

    for (; chains; chains--) {
        struct slot *s = &w->slot[w->first];
        uint32_t part = s->room < len ? s->room : len;

        rig_used(z->g, 2 * pair, s->head * (z->g->indirect ? 1 : PARTS), part);
        w->out[s->head] = false;
        w->first = (w->first + 1) % NET_QMAX;
        w->n--;
        len -= part;
    }
}

static void frame_gone(struct way *w)
{
    free(w->frame[0].bytes);
    memmove(&w->frame[0], &w->frame[1], --w->frames * sizeof w->frame[0]);
}

/* The device's own words in memory are what they are, and so is what a dropped frame left. */
static void shadow_rest(struct play *z)
{
    const uint8_t *now = z->g->mem.region[0].host;

    for (size_t i = 0; i < RIG_RAM; i++)
        if (z->loose[i])
            z->shadow[i] = now[i];
    for (unsigned q = 0; q < z->g->nq; q++) {
        const struct ring *r = &z->g->ring[q];
        uint64_t n = 6 + 8 * (uint64_t)r->size;

        memcpy(z->shadow + r->used, ram(&z->g->mem, r->used, n), n);
    }
}

/* Lets the device do all it can. At most once for each chain it has to wait for more. */
static void settle(struct play *z)
{
    int64_t end = wall_ms() + UNIT_WAIT;
    struct net_stats s;
    struct {
        unsigned pair, chains;
    } done[2 * FRAMES];
    unsigned n = 0;

    memcpy(z->shadow, z->g->mem.region[0].host, RIG_RAM);
    memset(z->loose, 0, RIG_RAM);
    for (unsigned pair = 0; pair < z->pairs; pair++) {
        struct way *w = &z->way[pair], then = *w;

        for (unsigned used; model_frame(z, &then, &used); n++) {
            done[n].pair = pair;
            done[n].chains = used;
            then.first = (then.first + used) % NET_QMAX;
            then.n -= used;
            memmove(&then.frame[0], &then.frame[1], --then.frames * sizeof then.frame[0]);
        }
    }
    for (;;) {
        rig_pump(z->g);
        s = rig_stats(z->g);
        if (s.rx_packets == z->want.rx_packets && drops(&s) == drops(&z->want))
            break;
        if (wall_ms() > end)
            fail_msg("%ju of %ju frames came, %ju of %ju were dropped", (uintmax_t)s.rx_packets,
                     (uintmax_t)z->want.rx_packets, (uintmax_t)drops(&s),
                     (uintmax_t)drops(&z->want));
        sleep_ms(1);
    }
    assert_true(rig_sleeps(z->g));
    assert_true(s.rx_bytes == z->want.rx_bytes);
    for (unsigned i = 0; i < n; i++) {
        take_frame(z, done[i].pair, done[i].chains);
        frame_gone(&z->way[done[i].pair]);
    }
    for (unsigned pair = 0; pair < z->pairs; pair++)
        rig_nothing_used(z->g, 2 * pair);
    shadow_rest(z);
    assert_memory_equal(z->shadow, z->g->mem.region[0].host, RIG_RAM);
}

/* --- the play ----------------------------------------------------------------------------- */

static void forget_frames(struct play *z)
{
    for (unsigned i = 0; i < 2; i++)
        while (z->way[i].frames)
            frame_gone(&z->way[i]);
}

static void up(struct play *z)
{
    rig_up(z->g, z->features);
    for (unsigned i = 0; i < 2; i++) {
        z->way[i].first = z->way[i].n = 0;
        memset(z->way[i].out, 0, sizeof z->way[i].out);
    }
    if (z->pairs > 1)
        assert_int_equal(rig_command(z->g, 4, 0, &(uint16_t){ 2 }, 2), 0);
}

/* A device that is saved holds chains for receiving: they are the next one's. */
static void change_horses(struct play *z)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct rbuf r = { .data = bytes };
    struct err e = { 0 };

    virtio_mmio_save(&z->g->t, &w);
    assert_false(w.overflow);
    for (unsigned q = 0; q < z->g->nq; q++)
        assert_true(virtq_idle(&z->g->dev->queue[q].vq));
    rig_drop(z->g);
    forget_frames(z); /* they were the tap's */
    rig_tap(z->g, z->pairs);
    rig_make(z->g);
    r.len = w.len;
    if (virtio_mmio_load(&z->g->t, &r, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(r.off, r.len);
    z->want = (struct net_stats){ 0 };
}

static void step(struct play *z)
{
    unsigned pair = (unsigned)rng_below(&z->rng, z->pairs);

    for (unsigned i = (unsigned)rng_below(&z->rng, 4); i; i--)
        if (rng_chance(&z->rng, 50))
            offer_some(z, pair);
        else
            for (unsigned n = (unsigned)rng_below(&z->rng, 6); n; n--)
                host_frame(z, pair);
    settle(z);
    send_some(z, pair);
    if (rng_chance(&z->rng, 2))
        up(z); /* what the tap has stays there */
    if (rng_chance(&z->rng, 2))
        change_horses(z);
}

static void play(struct play *z, uint64_t seed, uint64_t features, unsigned steps)
{
    bool large = features & BIT(N_GUEST_TSO4);

    z->rng = (struct rng){ seed };
    z->features = features;
    z->pairs = features & BIT(N_MQ) ? 2 : 1;
    z->want = (struct net_stats){ 0 };
    z->g = rig_new(z->pairs);
    z->shadow = malloc(RIG_RAM);
    z->loose = malloc(RIG_RAM);
    assert_true(z->shadow && z->loose);
    z->room_min = large ? 1000 : features & BIT(N_MRG) ? HDR : 200;
    z->parts_max = large ? PARTS : 3;
    z->part_max = large ? 2000 : 1 + (uint32_t)rng_below(&z->rng, 1000);
    z->frame_max = large ? FRAME_MAX : 1518;
    rig_make(z->g);
    up(z);
    for (unsigned i = 0; i < steps; i++)
        step(z);
    assert_int_equal(reg_read(&z->g->t, R_STATUS), 0xf);
    forget_frames(z);
    free(z->shadow);
    free(z->loose);
    rig_free(z->g);
}

static void traffic_agrees_with_the_model(void **state)
{
    static struct play z;

    (void)state;
    for (uint64_t seed = 0; seed < 32; seed++)
        play(&z, seed,
             BIT(N_CTRL) | BIT(N_CSUM) | (seed & 1 ? BIT(N_MRG) : 0) |
                 (seed & 2 ? VIRTIO_F_EVENT_IDX | BIT(N_MTU) : 0) |
                 (seed & 4 ? VIRTIO_F_INDIRECT_DESC : 0) |
                 (seed & 8 ? BIT(N_GUEST_CSUM) | SEGMENTS : 0) | (seed & 16 ? BIT(N_MQ) : 0),
             40);
    print_message("# to the guest %u, %u of them in several chains, %u dropped; to the host %u, %u "
                  "dropped\n",
                  z.delivered, z.split, z.dropped, z.sent, z.refused);
    assert_true(z.delivered > 1200 && z.split > 250 && z.dropped > 300);
    assert_true(z.sent > 2500 && z.refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traffic_agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, rig_group_setup, NULL);
}
