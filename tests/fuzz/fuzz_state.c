/* Loading a saved state that is not what was saved: the transport's registers, the base, the
 * queues' indices, the console's own part.
 *
 * A console is brought some way and saved, the bytes are bent, cut or replaced, and loaded into a
 * fresh one. It refuses with an error that says so, or becomes a device that is no worse than any a
 * hostile driver could have made: it touches only what it was offered, saves again as what can be
 * loaded, and works after a reset.
 */
#include "tests/fuzz/console.h"

#define STATE_MAX 8192

struct fuzz {
    struct rig r;
    struct guest *g;
    uint8_t bytes[STATE_MAX];
    size_t len;
};

static void device_work(struct fuzz *z, unsigned rounds)
{
    struct virtio_dev *d = z->r.dev;

    guest_enter(z->g);
    for (unsigned i = 0; i < 2; i++)
        if (d->active && virtq_running(&d->queue[i].vq))
            guest_may_serve(z->g, &d->queue[i].vq.setup, d->queue[i].vq.avail_next);
    rig_pump(&z->r, rounds);
    guest_leave(z->g);
    FUZZ_CHECK((atomic_load(&d->isr) & ~3U) == 0, "isr");
    FUZZ_CHECK(!!(reg_read(&z->r.t, R_STATUS) & S_RESET) == atomic_load(&d->broken), "status");
}

/* Some way: registers written, rings with something in them, input that waits. */
static void prepare(struct fuzz *z, struct input *in)
{
    static const uint16_t sizes[] = { 64, 8, 1, 32 };
    uint8_t how = in_u8(in), more = in_u8(in), typed[40];
    struct ring rings[2];
    uint64_t features = VIRTIO_F_VERSION_1 | (how & 4 ? VIRTIO_F_EVENT_IDX : 0) |
                        (how & 8 ? VIRTIO_F_INDIRECT_DESC : 0);

    guest_rings(z->g, sizes[how % 4]);
    z->g->event_idx = how & 4;
    z->g->indirect = how & 8;
    for (unsigned i = 0; i < 2; i++)
        rings[i] = z->g->q[i].ring;
    if (how & 0x80)
        drive_features(&z->r.t, features);
    else
        drive_up(&z->r.t, features, rings, how & 0x40 ? 1 : 2);
    memset(typed, 't', sizeof typed);
    rig_type(&z->r, typed, more % 40);
    for (unsigned i = more >> 5; i; i--) {
        guest_op(z->g, in);
        device_work(z, 2);
    }
}

static void save(struct fuzz *z)
{
    struct wbuf w = { .data = z->bytes, .cap = sizeof z->bytes };

    virtio_mmio_save(&z->r.t, &w);
    FUZZ_CHECK(!w.overflow, "a state of more than %zu bytes", sizeof z->bytes);
    z->len = w.len;
}

static void bend(struct fuzz *z, struct input *in)
{
    uint8_t how = in_u8(in);
    size_t width = (size_t)1 << how % 4, at;
    uint64_t v;

    if (how & 0x80) { /* cut, or longer than it was */
        z->len = how & 0x40 ? in_u16(in) % STATE_MAX : z->len - min_size(z->len, how & 0x3f);
        return;
    }
    at = how & 0x40 ? in_u16(in) : in_u8(in);
    v = in_value(in);
    if (at + width <= sizeof z->bytes)
        memcpy(z->bytes + at, &v, width);
}

/* Whatever was loaded is a device that bears a guest. */
static void live(struct fuzz *z, struct input *in)
{
    size_t len = z->len;

    device_work(z, 3);
    for (unsigned i = 0; i < 6 && in->left; i++) {
        guest_op(z->g, in);
        reg_write(&z->r.t, R_NOTIFY, i % 2);
        rig_pass(&z->r, 500);
        device_work(z, 2);
    }
    save(z);
    FUZZ_CHECK(z->len <= STATE_MAX, "%zu bytes from %zu", z->len, len);
    rig_drop(&z->r);
    rig_make(&z->r);
    struct rbuf r = { .data = z->bytes, .len = z->len };
    struct err e = { 0 };

    FUZZ_CHECK(virtio_mmio_load(&z->r.t, &r, &e) == 0 && r.off == r.len,
               "what loaded saves as what does not: %s", e.msg);
}

static void play_valid(struct fuzz *z)
{
    struct piece piece = { 0, 16, false };
    struct ring rings[2];
    uint32_t id, len;

    guest_rings(z->g, 8);
    for (unsigned i = 0; i < 2; i++)
        rings[i] = z->g->q[i].ring;
    uint32_t status = drive_up(&z->r.t, VIRTIO_F_VERSION_1, rings, 2);

    FUZZ_CHECK(status == 15, "status 0x%x", status);
    piece.gpa = guest_buffer(z->g, 16);
    guest_chain(z->g, TX, &piece, 1, 1);
    ring_publish(&z->g->q[TX].ring);
    reg_write(&z->r.t, R_NOTIFY, TX);
    device_work(z, 4);
    FUZZ_CHECK(ring_take(&z->g->q[TX].ring, &id, &len), "a valid request is not served");
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;
    struct err e = { 0 };

    memset(z.bytes, 0, sizeof z.bytes);
    z.g = guest_init(2, 64);
    rig_init(&z.r, z.g, in_u8(in));
    prepare(&z, in);
    save(&z);
    rig_drop(&z.r);
    rig_make(&z.r);
    for (unsigned bends = in_u8(in) % 8; bends; bends--)
        bend(&z, in);
    struct rbuf r = { .data = z.bytes, .len = z.len };

    guest_enter(z.g);
    int ret = virtio_mmio_load(&z.r.t, &r, &e);

    guest_leave(z.g); /* loading writes nothing to the guest */
    FUZZ_CHECK(ret == 0 || (e.code && e.msg[0]), "refused without a reason");
    if (ret == 0) {
        live(&z, in);
    } else { /* a device that refused is thrown away */
        rig_drop(&z.r);
        rig_make(&z.r);
    }
    play_valid(&z);
    rig_fini(&z.r);
}
