/* The console in the hostile guest: the receive queue offers room, the transmit queue sends what
 * lies about. It proves itself by a line that has to arrive whole, and with `input` on the command
 * line by taking some, of which every byte has to be 0xff (chaos.h says why). */
#include "chaos.h"

#define CONFIG_LEN 12
#define INPUT      0xff

static unsigned console_request(struct rng *r, unsigned q, struct desc d[4])
{
    unsigned n = 1 + rng_below(r, rng_one_in(r, 4) ? 4 : 2);

    for (unsigned i = 0; i < n; i++)
        d[i] = (struct desc){ .addr = buffer_address(r),
                              .len = rng_one_in(r, 24) ? buffer_length(r) : 1 + rng_below(r, 64),
                              .flags = q == RX ? DESC_WRITE : 0 };
    return n;
}

static unsigned console_quick(struct rng *r, unsigned q, struct desc d[4])
{
    console_request(r, q, d);
    return 1;
}

static const struct chaos_virtio console = {
    .base = CONSOLE_BASE,
    .nq = 2,
    .features = 0,
    .cfg_len = CONFIG_LEN,
    .request = console_request,
    .quick = console_quick,
};

static void console_drive(struct rng *r)
{
    console_started = false;
    virtio_drive(&console, r);
}

static void console_bend(struct rng *r)
{
    virtio_bend(&console, r);
}

static bool console_prove(struct rng *r)
{
    static unsigned proofs;
    static uint8_t in[32];
    static const uint64_t features[] = { 0, F_INDIRECT, F_EVENT_IDX, F_INDIRECT | F_EVENT_IDX };
    unsigned which = rng_below(r, ARRAY_LEN(features));

    use_indirect = features[which] & F_INDIRECT;
    console_start(features[which]);
    print("\nconsole: proof %u\n", ++proofs);
    if (!option("input", NULL, 0))
        return true;
    uint32_t n = console_read(in, sizeof in, false);
    uint8_t all = INPUT;

    for (uint32_t i = 0; i < n && i < sizeof in; i++)
        all &= in[i];
    return n >= 1 && n <= sizeof in && all == INPUT;
}

const struct chaos_device chaos_console = { "console", console_drive, console_bend, console_prove };
