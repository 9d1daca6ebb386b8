/* For tests of how frames move: the features they try, a frame to send, and helpers around both. */
#ifndef MAYFLY_TESTS_NET_FRAMES_H
#define MAYFLY_TESTS_NET_FRAMES_H

#include "tests/unit/net_rig.h"

#define RX 0
#define TX 1

static const struct {
    uint64_t features;
} modes[] = {
    { 0 },
    { USUAL },
    { USUAL | VIRTIO_F_INDIRECT_DESC },
    { USUAL | VIRTIO_F_EVENT_IDX },
    { USUAL | SEGMENTS | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX },
    { BIT(N_GUEST_CSUM) | VIRTIO_F_INDIRECT_DESC },
};

static uint8_t frame[FRAME_MAX + 64], got[FRAME_MAX + 64];

/* Before a frame larger than the MTU: a segment of many packets. */
static const uint8_t tso[HDR] = { 1, 1, 54, 0, 100, 0, 34, 0, 16, 0 };

static inline void fill_frame(uint64_t seed)
{
    struct rng r = { seed };

    rng_fill(&r, frame, sizeof frame);
}

/* Offers chains 0 to n - 1 of len bytes each; where they are. */
static inline void offer_all(struct rig *g, unsigned q, unsigned n, uint32_t len, uint64_t *at)
{
    uint16_t from = g->ring[q].offered;

    for (unsigned i = 0; i < n; i++)
        at[i] = rig_offer(g, q, i, len);
    rig_tell(g, q, from);
    rig_pump(g);
}

/* The next frame on the wire is this one, with this header. */
static inline void on_wire(struct rig *g, unsigned i, const uint8_t *hdr, const uint8_t *want,
                           size_t len)
{
    uint8_t none[HDR] = { 0 };

    assert_int_equal(wire_recv(g, i, got, sizeof got), HDR + len);
    assert_true(model_same(hdr ? hdr : none, got));
    assert_memory_equal(got + HDR, want, len);
}

#endif
