/* The console's request path: a hostile driver, a person who types, a reader that is slow or gone,
 * time, resets, and now and then a save whose load goes on.
 *
 * Whatever happens, memory outside of what the device was offered stays as it is, the device serves
 * a valid request after a reset, and as long as the guest kept the rules
 *
 *   - what it transmitted comes out of the pipe, byte for byte and in order (up to the 1 MiB that a
 *     slow reader may owe),
 *   - what was typed arrives in its buffers, byte for byte and in order, and an end as one Ctrl-D.
 *
 * What was transmitted is known from the second reading of the ring (view.c), also of a bent one:
 * then the console must have printed the chains before the broken one, and be broken by it.
 */
#include "tests/fuzz/console.h"

#include "core/bus.h"
#include "host/outring.h"

#define TYPED_MAX   (64 * KIB)
#define PRINTED_MAX (OUTRING_SIZE * 3)
#define MMIO_BASE   UINT64_C(0xd0000000)

struct fuzz {
    struct rig r;
    struct guest *g;
    struct bus bus;
    /* Output: what must come, and how much of it has. */
    uint8_t printed[PRINTED_MAX];
    size_t n_printed, n_seen;
    bool lost; /* more than we keep, or printed over its own ring: no telling what comes */
    uint16_t tx_next;
    /* Input. */
    uint8_t typed[TYPED_MAX];
    size_t n_typed, n_got;
    bool roomless; /* a buffer was offered that takes no byte */
    bool strange;  /* a guest that broke rules has had some of it */
};

/* --- the device at work ------------------------------------------------------------------- */

/* Adds n bytes. What a reader owes beyond the ring gives way, and is then not followed further. */
static void printed_put(struct fuzz *z, const uint8_t *p, size_t n)
{
    if (n > sizeof z->printed - z->n_printed || z->n_printed + n - z->n_seen > OUTRING_SIZE)
        z->lost = true;
    if (z->lost)
        return;
    memcpy(z->printed + z->n_printed, p, n);
    z->n_printed += n;
}

static void printed_add(struct fuzz *z, const struct view *v)
{
    for (unsigned i = 0; i < v->n; i++) {
        const struct piece *p = &v->piece[i];

        if (p->write || !p->len)
            continue;
        /* What the device itself writes may have been read before or after. */
        z->lost |= guest_changes(z->g, p->gpa, p->len);
        printed_put(z, z->g->before + guest_offset(p->gpa, p->len), p->len);
    }
}

/* Adds to what must come out what the console took since last time: by the used ring's index, the
 * one thing of the guest's that the device alone writes. */
static void reckon_tx(struct fuzz *z, bool sure)
{
    static struct view v;
    const struct virtq *q = &z->r.dev->queue[TX].vq;
    enum verdict seen = CHAIN_GOOD;

    for (; z->tx_next != q->published && seen == CHAIN_GOOD; z->tx_next++) {
        seen = guest_view(&q->setup, z->tx_next, NULL, guest_read_before, z->g, &v);
        if (sure)
            FUZZ_CHECK(seen == CHAIN_GOOD, "a broken chain was served");
        if (seen == CHAIN_GOOD)
            printed_add(z, &v);
    }
    z->lost |= !sure && z->tx_next != q->published;
    z->tx_next = q->published;
}

/* Whether the driver offers a receive buffer without room, which the console takes ill. */
static bool offers_no_room(const struct guest_queue *q)
{
    for (unsigned h = 0; h < q->ring.size; h++) {
        uint64_t room = 0;

        for (unsigned i = 0; i < q->offer[h].n; i++)
            room += q->offer[h].piece[i].write ? q->offer[h].piece[i].len : 0;
        if (room == 0 && q->offer[h].n)
            return true;
    }
    return false;
}

/* Around all that may make the device work. */
static void device_begin(struct fuzz *z)
{
    struct virtio_dev *d = z->r.dev;

    guest_enter(z->g);
    z->roomless |= offers_no_room(&z->g->q[RX]);
    for (unsigned i = 0; i < z->g->nq; i++)
        if (d->active && virtq_running(&d->queue[i].vq))
            guest_may_serve(z->g, &d->queue[i].vq.setup, d->queue[i].vq.avail_next);
}

static void device_end(struct fuzz *z)
{
    struct virtio_dev *d = z->r.dev;
    bool sure = guest_leave(z->g);

    if (d->active && virtq_running(&d->queue[TX].vq))
        reckon_tx(z, sure);
    z->strange |= z->g->bent || z->g->wrapped || !sure;
    FUZZ_CHECK(!d->broken || z->g->bent || z->roomless,
               "broken by a guest that kept the rules: %s, %s", d->queue[RX].vq.fault,
               d->queue[TX].vq.fault);
    for (unsigned i = 0; i < z->g->nq; i++)
        FUZZ_CHECK(d->broken || !d->queue[i].vq.fault, "a broken queue that nobody is told of: %s",
                   d->queue[i].vq.fault);
    FUZZ_CHECK((atomic_load(&d->isr) & ~3U) == 0, "isr");
    FUZZ_CHECK(!!(reg_read(&z->r.t, R_STATUS) & S_RESET) == atomic_load(&d->broken), "status");
}

static void pump(struct fuzz *z, unsigned n)
{
    device_begin(z);
    rig_pump(&z->r, n);
    device_end(z);
}

/* --- both ends ---------------------------------------------------------------------------- */

static void read_screen(struct fuzz *z, size_t n)
{
    uint8_t buf[4096];

    while (n && z->r.screen >= 0) {
        ssize_t got = read(z->r.screen, buf, min_size(n, sizeof buf));

        if (got <= 0)
            return;
        n -= (size_t)got;
        if (z->lost)
            continue;
        FUZZ_CHECK((size_t)got <= z->n_printed - z->n_seen, "%zd bytes nobody printed", got);
        FUZZ_CHECK(memcmp(buf, z->printed + z->n_seen, (size_t)got) == 0, "another output, at %zu",
                   z->n_seen);
        z->n_seen += (size_t)got;
    }
}

static void type(struct fuzz *z, struct input *in)
{
    uint8_t buf[4096], how = in_u8(in);
    size_t n = how < 0xf0 ? how % 40 : sizeof buf;

    for (size_t i = 0; i < n; i++) /* never the same twice in a row, or Ctrl-] over and over */
        buf[i] = (uint8_t)(how % 8 == 7 ? 0x1d : 'a' + (z->n_typed + i) % 25);
    n = min_size(n, sizeof z->typed - z->n_typed - 1);
    n = rig_type(&z->r, buf, n);
    memcpy(z->typed + z->n_typed, buf, n);
    z->n_typed += n;
}

static void hang_up(struct fuzz *z, bool keys)
{
    int *fd = keys ? &z->r.keys : &z->r.screen;

    if (*fd < 0)
        return;
    close(*fd);
    *fd = -1;
    if (!keys)
        z->lost = true;
    else if (!z->r.stream.in_tty)
        z->typed[z->n_typed++] = 4;
}

/* Takes the receive queue's used buffers and reads what came. */
static void take_input(struct fuzz *z)
{
    struct guest_queue *q = &z->g->q[RX];
    uint32_t id, len;

    while (q->ring.size && ring_take(&q->ring, &id, &len)) {
        if (z->strange || z->g->bent || z->g->wrapped || id >= q->ring.size)
            return;
        struct offer *o = &q->offer[id];

        FUZZ_CHECK(o->out, "a buffer came back that is not out");
        o->out = false;
        for (unsigned i = 0; i < o->n && len; i++) {
            size_t part = min_size(len, o->piece[i].write ? o->piece[i].len : 0);

            if (!part)
                continue;
            FUZZ_CHECK(part <= z->n_typed - z->n_got, "%zu bytes nobody typed", part);
            FUZZ_CHECK(memcmp(guest_ram(z->g, o->piece[i].gpa, part), z->typed + z->n_got, part) ==
                           0,
                       "another input, at %zu", z->n_got);
            z->n_got += part;
            len -= (uint32_t)part;
        }
        FUZZ_CHECK(len == 0, "more than there was room for");
    }
}

/* --- the driver --------------------------------------------------------------------------- */

/* A transmission of up to 400 KiB, from a small buffer over and over; or of more than the ring
 * takes, from most of memory. */
static void flood(struct fuzz *z, struct input *in)
{
    struct piece piece[GUEST_PIECES];
    uint8_t how = in_u8(in);
    bool big = how >= 0xc0;
    unsigned n = 1 + how % GUEST_PIECES;
    uint32_t len = 1000 + in_u16(in) % (big ? 20000 : 5400);

    if (!z->g->q[TX].ring.size)
        return;
    uint64_t at = big ? z->g->first_buffer : guest_buffer(z->g, len);
    uint8_t *p = guest_ram(z->g, at, len);

    for (uint32_t i = 0; !big && i < len; i++)
        p[i] = (uint8_t)(i * 31 + (i >> 8) + z->n_printed);
    for (unsigned i = 0; i < n; i++)
        piece[i] = (struct piece){ at + i, len - i, false };
    guest_chain(z->g, TX, piece, n, z->g->indirect ? 0 : n);
    ring_publish(&z->g->q[TX].ring);
    reg_write(&z->r.t, R_NOTIFY, TX);
}

/* A reader that catches up, by up to 1 MiB. */
static void drain_screen(struct fuzz *z, unsigned pages)
{
    for (; pages; pages--) {
        read_screen(z, 4096);
        pump(z, 1);
    }
}

/* A device with nothing left to do waits for a kick: the driver, who only kicks when it is asked
 * to, is asked. */
static void check_armed(struct fuzz *z)
{
    const struct virtio_dev *d = z->r.dev;
    const struct ring *r = &z->g->q[TX].ring;

    pump(z, 6);
    if (z->g->bent || z->g->wrapped || d->broken || !d->active || !r->size)
        return;
    FUZZ_CHECK(z->g->event_idx ? *ring_avail_event(r) == d->queue[TX].vq.avail_next
                               : !(*ring_used(r, 0) & 1),
               "idle, and does not want to be kicked");
}

static void forget_rings(struct fuzz *z)
{
    z->tx_next = 0;
    for (unsigned i = 0; i < z->g->nq; i++)
        z->g->q[i].ring.size = 0;
}

/* From reset to DRIVER_OK. */
static void bring_up(struct fuzz *z, uint16_t size, uint64_t features)
{
    struct ring rings[2];

    take_input(z); /* what it has had is not lost by the reset */
    device_begin(z);
    reg_write(&z->r.t, R_STATUS, 0);
    device_end(z);
    guest_rings(z->g, size);
    z->roomless = false;
    z->tx_next = 0;
    z->g->indirect = features & VIRTIO_F_INDIRECT_DESC;
    z->g->event_idx = features & VIRTIO_F_EVENT_IDX;
    rings[RX] = z->g->q[RX].ring;
    rings[TX] = z->g->q[TX].ring;
    uint32_t status = drive_up(&z->r.t, features, rings, 2);

    FUZZ_CHECK(status == 0xf, "status 0x%x after features 0x%jx", status, (uintmax_t)features);
}

static void op_bring_up(struct fuzz *z, struct input *in)
{
    static const uint16_t sizes[] = { 64, 64, 8, 1, 2, 16, 32, 4 };
    uint8_t how = in_u8(in);
    uint64_t features = VIRTIO_F_VERSION_1 | (how & 8 ? VIRTIO_F_INDIRECT_DESC : 0) |
                        (how & 16 ? VIRTIO_F_EVENT_IDX : 0) | (how & 32 ? 5 : 0);

    bring_up(z, sizes[how % 8], features);
    if (how & 64) { /* as Linux: the receive ring full before anything else */
        for (unsigned i = 0; i < z->g->q[RX].ring.size; i++) {
            struct piece one = { guest_buffer(z->g, 32), 32, true };

            guest_chain(z->g, RX, &one, 1, 1);
        }
        ring_publish(&z->g->q[RX].ring);
        reg_write(&z->r.t, R_NOTIFY, RX);
    }
}

static void op_register(struct fuzz *z, struct input *in)
{
    uint8_t how = in_u8(in), buf[8];
    uint64_t off = how & 0x80 ? in_u16(in) % VIRTIO_MMIO_LEN : 4U * in_below(in, 72), v;
    unsigned len = how & 0x40 ? 1U << in_below(in, 4) : 4;

    device_begin(z);
    if (how & 1) {
        v = in_value(in);
        if (off == R_CONFIG + 8 && len <= 4) /* the emergency write */
            printed_put(z, (const uint8_t *)&v, 1);
        bus_write(&z->bus, MMIO_BASE + off, &v, len);
    } else {
        bus_read(&z->bus, MMIO_BASE + off, buf, len);
    }
    device_end(z);
    /* It may have moved or ended the rings: what we know of them is theirs no more. */
    if (how & 1) {
        z->g->bent = true;
        if (!z->r.dev->active)
            forget_rings(z);
    }
}

/* Saves, and goes on with what loads from it. */
static void op_change_horses(struct fuzz *z)
{
    uint8_t bytes[8192];
    struct wbuf w = { .data = bytes, .cap = sizeof bytes };
    struct err e = { 0 };

    /* Output is the host's and no part of the state: it is written out first. */
    for (unsigned i = 0; i < 2000 && console_finish(z->r.dev, 0); i++)
        read_screen(z, SIZE_MAX);
    z->strange |= z->r.keys < 0; /* the new one meets the end of input anew */
    virtio_mmio_save(&z->r.t, &w);
    FUZZ_CHECK(!w.overflow, "a state of more than %zu bytes", sizeof bytes);
    rig_drop(&z->r);
    rig_make(&z->r);
    struct rbuf r = { .data = bytes, .len = w.len };

    FUZZ_CHECK(virtio_mmio_load(&z->r.t, &r, &e) == 0, "%s", e.msg);
    FUZZ_CHECK(r.off == r.len, "%zu of %zu bytes", r.off, r.len);
}

static void op_host(struct fuzz *z, struct input *in)
{
    uint8_t how = in_u8(in);

    switch (how % 8) {
    case 0:
        host_fake.cols = in_u8(in);
        host_fake.rows = in_u8(in);
        console_resize(z->r.dev);
        break;
    case 1:
        hang_up(z, how & 8);
        break;
    case 2:
        rig_pass(&z->r, in_u8(in) * 10);
        (void)console_was_used(z->r.dev);
        break;
    case 3:
        op_change_horses(z);
        break;
    case 4:
        device_begin(z);
        virtio_settle(z->r.dev);
        device_end(z);
        break;
    case 5:
        flood(z, in);
        break;
    case 6:
        if (how & 8)
            drain_screen(z, how / 16 * 16U);
        else
            check_armed(z);
        break;
    default:
        read_screen(z, in_u16(in));
        break;
    }
}

/* A fresh driver is served, whatever was before. */
static void play_valid(struct fuzz *z)
{
    static const char words[] = "still here";
    struct piece piece;

    read_screen(z, SIZE_MAX);
    bring_up(z, 8, VIRTIO_F_VERSION_1);
    piece = (struct piece){ guest_buffer(z->g, sizeof words), sizeof words, false };
    memcpy(guest_ram(z->g, piece.gpa, piece.len), words, sizeof words);
    guest_chain(z->g, TX, &piece, 1, 1);
    ring_publish(&z->g->q[TX].ring);
    reg_write(&z->r.t, R_NOTIFY, TX);
    pump(z, 4);
    uint32_t id, len;

    FUZZ_CHECK(ring_take(&z->g->q[TX].ring, &id, &len) && id == 0 && len == 0,
               "a valid request is not served");
    FUZZ_CHECK(!atomic_load(&z->r.dev->broken), "a valid request breaks it");
    for (size_t before = SIZE_MAX; before != z->n_seen;) {
        before = z->n_seen;
        read_screen(z, SIZE_MAX);
        pump(z, 2);
    }
    if (!z->lost)
        FUZZ_CHECK(z->n_seen == z->n_printed, "%zu of %zu bytes came", z->n_seen, z->n_printed);
    /* All that was typed, in as many rounds as it takes. */
    for (size_t i = 0; !z->strange && (i < 4 || (z->n_got < z->n_typed && i < 40)); i++) {
        piece = (struct piece){ guest_buffer(z->g, 4096), 4096, true };
        z->g->wrapped = false; /* one at a time */
        guest_chain(z->g, RX, &piece, 1, 1);
        ring_publish(&z->g->q[RX].ring);
        reg_write(&z->r.t, R_NOTIFY, RX);
        pump(z, 4);
        take_input(z);
    }
    if (!z->strange)
        FUZZ_CHECK(z->n_got == z->n_typed, "%zu of %zu bytes typed came", z->n_got, z->n_typed);
}

static void step(struct fuzz *z, struct input *in)
{
    unsigned op = in_below(in, 16);

    switch (op) {
    case 0:
        op_bring_up(z, in);
        break;
    case 1:
        op_register(z, in);
        break;
    case 2:
    case 3:
        reg_write(&z->r.t, R_NOTIFY, op - 2);
        pump(z, 1 + in_u8(in) % 4);
        break;
    case 4:
        pump(z, 1 + in_u8(in) % 4);
        break;
    case 5:
        type(z, in);
        break;
    case 6:
    case 7:
        op_host(z, in);
        break;
    case 8:
        take_input(z);
        break;
    default:
        take_input(z); /* guest_op takes back what is used, too */
        guest_op(z->g, in);
        break;
    }
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;

    z.n_printed = z.n_seen = z.n_typed = z.n_got = 0;
    z.lost = z.strange = z.roomless = false;
    z.tx_next = 0;
    z.g = guest_init(2, 64);
    rig_init(&z.r, z.g, in_u8(in));
    z.bus.n = 0;
    FUZZ_CHECK(bus_add(&z.bus, MMIO_BASE, VIRTIO_MMIO_LEN, &virtio_mmio_ops, &z.r.t) == 0, "bus");
    op_bring_up(&z, in);
    while (in->left)
        step(&z, in);
    play_valid(&z);
    rig_fini(&z.r);
}
