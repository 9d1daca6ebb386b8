/* The network cards' driver; see net.h. */
#include "net.h"

#define DEVICE_NET 1

bool net_find(struct net *n, unsigned i)
{
    n->base = device_find(DEVICE_NET, i, &n->gsi);
    if (!n->base)
        return false;
    n->size = NET_SIZE;
    for (unsigned k = 0; k < sizeof n->mac; k++)
        n->mac[k] = read8(n->base + CONFIG + NET_MAC + k);
    return true;
}

uint64_t net_offered(const struct net *n)
{
    return device_offered(n->base);
}

void net_reset(struct net *n)
{
    device_reset(n->base);
}

bool net_negotiate(struct net *n, uint64_t features)
{
    n->features = features;
    return device_negotiate(n->base, features);
}

void net_set_queue(struct net *n, unsigned q, unsigned size)
{
    struct net_queue *nq = &n->q[q];

    nq->index = q;
    nq->size = size;
    nq->offered = nq->told = nq->seen = 0;
    nq->avail[0] = nq->avail[1] = nq->avail[2 + size] = 0;
    nq->used[0] = nq->used[1 + 2 * size] = 0;
    device_set_queue(n->base, q, size, (uintptr_t)nq->desc, (uintptr_t)nq->avail,
                     (uintptr_t)nq->used);
}

void net_ready(struct net *n)
{
    device_ready(n->base);
}

void net_start(struct net *n, uint64_t features)
{
    net_reset(n);
    if (!net_negotiate(n, features | F_VERSION_1)) {
        print("BAD features 0x%lx are refused\n", features);
        power_off();
    }
    n->pairs = features & NET_F_MQ ? read16(n->base + CONFIG + NET_MAX_PAIRS) : 1;
    if (n->pairs < 1 || n->pairs > NET_PAIRS) {
        print("BAD %u pairs of queues\n", n->pairs);
        power_off();
    }
    n->ctl = 2 * n->pairs;
    for (unsigned q = 0; q < 2 * n->pairs; q++)
        net_set_queue(n, q, n->size);
    if (features & NET_F_CTRL_VQ)
        net_set_queue(n, n->ctl, n->size < 16 ? n->size : 16);
    net_ready(n);
}

uint16_t net_chain(struct net *n, unsigned q, unsigned slot, unsigned stride,
                   const struct desc *piece, unsigned count)
{
    struct net_queue *nq = &n->q[q];
    bool indirect = n->features & F_INDIRECT;
    unsigned head = indirect ? slot : slot * stride;
    struct desc *d = indirect ? nq->table[slot] : &nq->desc[head];

    for (unsigned i = 0; i < count; i++) {
        d[i].addr = piece[i].addr;
        d[i].len = piece[i].len;
        d[i].flags = (uint16_t)(piece[i].flags | (i + 1 < count ? DESC_NEXT : 0));
        d[i].next = (uint16_t)((indirect ? 0 : head) + i + 1);
    }
    if (indirect)
        nq->desc[head] = (struct desc){ (uintptr_t)d, (uint32_t)(count * sizeof *d), DESC_INDIRECT,
                                        0 };
    return (uint16_t)head;
}

void net_offer(struct net *n, unsigned q, uint16_t head)
{
    struct net_queue *nq = &n->q[q];

    nq->avail[2 + nq->offered % nq->size] = head;
    nq->offered++;
}

void net_kick(struct net *n, unsigned q)
{
    struct net_queue *nq = &n->q[q];
    uint16_t from = nq->told, count = (uint16_t)(nq->offered - from);

    if (!count)
        return;
    fence(); /* entries before the index */
    nq->avail[1] = nq->told = nq->offered;
    fence(); /* the index before the device's wish */
    if (n->features & F_EVENT_IDX) {
        /* Is the entry it waits for among them? */
        if ((uint16_t)((uint16_t)nq->used[1 + 2 * nq->size] - from) >= count)
            return;
    } else if (nq->used[0] & 1) {
        return;
    }
    net_set_reg(n, QUEUE_NOTIFY, q);
}

int net_take(struct net *n, unsigned q)
{
    struct net_queue *nq = &n->q[q];

    if ((uint16_t)(nq->used[0] >> 16) == nq->seen)
        return -1;
    fence();
    unsigned at = 1 + 2 * (nq->seen % nq->size);
    uint32_t head = nq->used[at];

    nq->len = nq->used[at + 1];
    nq->seen++;
    nq->avail[2 + nq->size] = nq->seen; /* the next one interrupts */
    return (int)head;
}

int net_wait(struct net *n, unsigned q)
{
    for (;;) {
        int head = net_take(n, q);

        if (head >= 0)
            return head;
        if (net_reg(n, STATUS) & NEEDS_RESET)
            return -1;
        pause();
    }
}

uint8_t net_control(struct net *n, unsigned command, const void *data, uint32_t len)
{
    static uint8_t header[2], ack;
    struct desc d[3] = {
        { (uintptr_t)header, sizeof header, 0, 0 },
        { (uintptr_t)data, len, 0, 0 },
    };
    unsigned count = len ? 2 : 1;

    header[0] = (uint8_t)(command >> 8);
    header[1] = (uint8_t)command;
    ack = NET_NO_ACK;
    d[count++] = (struct desc){ (uintptr_t)&ack, 1, DESC_WRITE, 0 };
    net_offer(n, n->ctl, net_chain(n, n->ctl, 0, ARRAY_LEN(d), d, count));
    net_kick(n, n->ctl);
    net_wait(n, n->ctl);
    return *(volatile uint8_t *)&ack;
}
