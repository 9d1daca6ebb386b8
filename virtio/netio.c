/* The way of a frame; see netio.h.
 *
 *   to the guest    the driver's chains are taken ahead and held, until they can hold the largest
 *                   frame; readv() fills them in order; the header says how many a frame took; used
 *                   entries, one publish, one interrupt for all the frames of a round
 *   to the host     pop, the header is copied and judged in the copy, writev(copy, the driver's
 *                   buffers); a frame that may not go or does not is dropped and counted, and its
 *                   chain given back like any other
 *
 * Without MRG_RXBUF a frame takes one chain, so one is held.
 *
 * A read gets buffers for a frame as large as those before it, since each buffer costs, and behind
 * them one of ours that the largest one fits into. What lands there is copied to the next chains,
 * which is rare: the guess falls slowly and rises at once. A frame too large for all that is held
 * shows by its length. It is dropped, never cut.
 *
 * A driver that left too few buffers for the largest frame is waited for, since it adds some as a
 * rule as soon as it saw those we filled. But not for long: one whose queue never holds that much
 * would wait for its first frame for ever. After NET_PATIENCE what it gave must do, and what does
 * not fit is dropped, until it gave enough again.
 *
 * How many frames a round reads follows from the round before: twice as many as it found, and if
 * there are fewer, as many. So single frames cost no read that finds nothing, and floods are worked
 * off in large batches. The round after an unfinished one comes by epoll, which is level-triggered.
 *
 * What is over a limit stays where it is, in the driver's queue or the tap's, and a timer wakes us.
 */
#include "virtio/netio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/num.h"

/* Work in a round: frames, and bytes. */
#define NET_BURST       64
#define NET_BURST_BYTES (1 * MIB)
#define NET_PATIENCE    (NS_PER_S / 100)                  /* for buffers */
#define NET_SPILL       (NET_HDR_LEN + NET_FRAME_MAX + 1) /* a frame that fills it is too long */
/* So many reads that fail make a rest. */
#define NET_ERRORS 16
#define NET_REST   (NS_PER_S / 10)

static struct virtq *rx_vq(struct net_pair *p)
{
    return &p->dev->queue[p->rxq].vq;
}

static struct virtq *tx_vq(struct net_pair *p)
{
    return &p->dev->queue[p->txq].vq;
}

static void pair_publish(struct net_pair *p, struct virtq *vq)
{
    if (p->dev->broken || !virtq_publish(vq))
        return;
    p->stats.interrupts++;
    virtio_interrupt(p->dev, VIRTIO_IRQ_QUEUE);
}

/* --- time --------------------------------------------------------------------------------- */

static void timer_set(struct net_pair *p)
{
    const uint64_t all[] = { p->rx_at, p->tx_at, p->lean_at };
    uint64_t at = 0;

    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        if (all[i] && (!at || all[i] < at))
            at = all[i];
    struct itimerspec t = { .it_value = { .tv_sec = (time_t)(at / NS_PER_S),
                                          .tv_nsec = (long)(at % NS_PER_S) } };

    timerfd_settime(p->timer.fd, TFD_TIMER_ABSTIME, &t, NULL);
}

/* Whether another frame may go: 0, or when to ask again. */
static uint64_t limit_wait(struct net_limit *l)
{
    uint64_t now, wait;

    if (!l->on)
        return 0;
    now = clock_ns();
    pthread_mutex_lock(&l->lock);
    wait = max_u64(bucket_wait(&l->bytes, now), bucket_wait(&l->frames, now));
    pthread_mutex_unlock(&l->lock);
    return wait ? now + min_u64(wait, 3600 * NS_PER_S) : 0;
}

static void limit_take(struct net_limit *l, size_t len)
{
    if (!l->on)
        return;
    uint64_t now = clock_ns();

    pthread_mutex_lock(&l->lock);
    bucket_take(&l->bytes, len, now);
    bucket_take(&l->frames, 1, now);
    pthread_mutex_unlock(&l->lock);
}

/* --- to the guest ------------------------------------------------------------------------- */

/* Whether the tap is listened to follows from all that keeps us from reading. */
static void rx_listen(struct net_pair *p)
{
    bool can = p->on && !p->gone && !p->starved && !p->rx_resting && !p->dev->broken;

    loop_mod(p->loop, &p->host, can ? EPOLLIN : 0);
}

static bool rx_merges(const struct net_pair *p)
{
    return p->dev->features & NET_F_MRG_RXBUF;
}

/* Bytes of the largest frame that is one packet and not several: it may have two VLAN tags. */
static size_t rx_longest(const struct net_pair *p)
{
    return NET_FRAME_MIN + 2 * 4 + (size_t)*p->mtu;
}

/* Bytes that the largest frame takes, header and all. */
static size_t rx_need(const struct net_pair *p)
{
    if (net_offloads(*p->features) & ~(unsigned)TUN_F_CSUM)
        return NET_HDR_LEN + NET_FRAME_MAX;
    return NET_HDR_LEN + rx_longest(p);
}

/* Moves what is held to the beginning of its arrays. */
static void rx_compact(struct net_pair *p)
{
    memmove(p->held, p->held + p->first, p->n * sizeof *p->held);
    memmove(p->iov, p->iov + p->iov_first, p->iov_n * sizeof *p->iov);
    p->first = p->iov_first = 0;
}

/* Takes one more chain: 1, 0 when there is none, -ENOSPC without a place for it, -EPROTO. */
static int rx_pop(struct net_pair *p)
{
    struct chain c;
    int ret;

    /* A chain's buffers are as many as the queue has entries at most; and the spill. */
    if (p->iov_first + p->iov_n + NET_QMAX + 1 > NET_RX_IOVS || p->first + p->n == NET_QMAX)
        rx_compact(p);
    if (p->iov_n + NET_QMAX + 1 > NET_RX_IOVS || p->n == NET_QMAX)
        return -ENOSPC;
    c.iov = p->iov + p->iov_first + p->iov_n;
    c.iov_max = NET_QMAX;
    ret = virtq_pop(rx_vq(p), &c);
    if (ret <= 0) {
        if (ret < 0)
            virtio_fail(p->dev, "queue %u: %s", p->rxq, rx_vq(p)->fault);
        return ret;
    }
    if (cursor_left(&c.r) || c.writable < NET_HDR_LEN) {
        virtio_fail(p->dev, "queue %u: a buffer to receive in %s", p->rxq,
                    cursor_left(&c.r) ? "can only be read" : "is shorter than a frame's header");
        return -EPROTO;
    }
    unsigned n = 0;

    for (uint32_t left = c.writable; left; n++) /* c.w begins at c.iov: nothing is readable */
        left -= (uint32_t)min_size(left, c.iov[n].iov_len);
    p->held[p->first + p->n++] = (struct net_held){ .head = c.head,
                                                    .iov_n = (uint16_t)n,
                                                    .room = c.writable };
    p->iov_n += n;
    p->room += c.writable;
    return 1;
}

/* Has enough buffers at hand to read a frame. false: the driver was asked for more, or broke. */
static bool rx_refill(struct net_pair *p)
{
    size_t need = rx_merges(p) ? rx_need(p) : 1;

    while (p->room < need) {
        int ret = rx_pop(p);

        if (ret == -EPROTO)
            return false;
        if (ret == -ENOSPC) /* no fault of his */
            return true;
        if (ret == 0 && !virtq_rearm(rx_vq(p)))
            break;
    }
    if (p->room >= need) {
        p->lean = false;
        p->lean_at = 0;
        return true;
    }
    if (p->n && p->lean)
        return true;
    p->starved = true;
    if (p->n && !p->lean_at) {
        p->lean_at = clock_ns() + NET_PATIENCE;
        timer_set(p);
    }
    return false;
}

/* The first chain held is full, or as full as it gets. */
static void rx_push(struct net_pair *p, size_t len)
{
    const struct net_held *h = &p->held[p->first++];
    const struct chain c = { .head = h->head, .writable = h->room };

    virtq_push(rx_vq(p), &c, (uint32_t)len);
    p->n--;
    p->iov_first += h->iov_n;
    p->iov_n -= h->iov_n;
    p->room -= h->room;
}

/* Puts a frame of len bytes, its header among them, that stands in the chains held, into the used
 * ring. The header is judged in a copy and then put where the guest, which might have changed it
 * meanwhile, finds it. */
static enum net_drop rx_deliver(struct net_pair *p, size_t len)
{
    struct cursor at;
    struct net_hdr h;
    size_t left = len;

    if (len > NET_HDR_LEN + NET_FRAME_MAX)
        return NET_DROP_LONG;
    if (len > p->room)
        return NET_DROP_NO_ROOM;
    if (len < NET_HDR_LEN)
        return NET_DROP_SHORT;
    cursor_init(&at, p->iov + p->iov_first, p->held[p->first].iov_n);
    cursor_get(&at, &h, sizeof h);
    enum net_drop drop = net_check_host_hdr(&h, len - NET_HDR_LEN, *p->features);

    if (drop)
        return drop;
    if (p->dev->features & NET_F_MTU && h.gso_type == NET_GSO_NONE &&
        len - NET_HDR_LEN > rx_longest(p)) /* 5.1.4.1 */
        return NET_DROP_LONG;
    h.num_buffers = 0;
    for (unsigned i = p->first; left; i++, h.num_buffers++)
        left -= min_size(left, p->held[i].room);
    cursor_init(&at, p->iov + p->iov_first, p->held[p->first].iov_n);
    cursor_put(&at, &h, sizeof h);
    for (left = len; left;) {
        size_t part = min_size(left, p->held[p->first].room);

        rx_push(p, part);
        left -= part;
    }
    return NET_PASS;
}

/* Reads one frame: its length, 0 when there is none now, -errno: it is lost. */
static ssize_t rx_read(struct net_pair *p)
{
    struct iovec *iov = p->iov + p->iov_first;
    unsigned n = 0, i = p->first;
    size_t room = 0;

    do {
        n += p->held[i].iov_n;
        room += p->held[i++].room;
    } while (room < p->expect && i < p->first + p->n);
    struct iovec next = iov[n];

    iov[n] = (struct iovec){ .iov_base = p->spill, .iov_len = NET_SPILL };
    ssize_t len = readv(p->file, iov, (int)n + 1);

    iov[n] = next;
    if (len > 0)
        p->expect = max_u64((size_t)len, p->expect - p->expect / 8);
    if (len > (ssize_t)room && (size_t)len <= p->room) {
        struct cursor rest;

        cursor_init(&rest, iov + n, p->iov_n - n);
        cursor_put(&rest, p->spill, (size_t)len - room);
    }
    if (len > 0 || (len < 0 && (errno == EAGAIN || errno == EINTR)))
        return len > 0 ? len : 0;
    if (len == 0 || errno == EBADFD) /* deleted, or a queue that is off */
        p->gone = true;
    return p->gone ? 0 : -errno;
}

/* A read failed. One may be a frame that the host could not put into a header; many are not. */
static void rx_failed(struct net_pair *p, int ret)
{
    p->stats.rx_drop[NET_DROP_REFUSED]++;
    if (++p->errors < NET_ERRORS)
        return;
    if (p->errors == NET_ERRORS)
        log_warn("%s: the tap can't be read: %s; it is tried again", p->dev->name, strerror(-ret));
    p->rx_resting = true;
    p->rx_at = clock_ns() + NET_REST;
    timer_set(p);
}

/* Whether a frame may come now; if not, the timer tells when. */
static bool rx_may(struct net_pair *p)
{
    p->rx_at = limit_wait(p->rx_limit);
    p->rx_resting = p->rx_at != 0;
    if (p->rx_resting)
        timer_set(p);
    return !p->rx_resting;
}

static void rx_frame(struct net_pair *p, size_t len)
{
    enum net_drop drop = rx_deliver(p, len);
    size_t bytes = len - min_size(len, NET_HDR_LEN);

    p->errors = 0;
    p->stats.rx_drop[drop] += drop != NET_PASS;
    p->stats.rx_packets += drop == NET_PASS;
    p->stats.rx_bytes += drop == NET_PASS ? bytes : 0;
    limit_take(p->rx_limit, bytes);
}

static void rx_round(struct net_pair *p)
{
    size_t bytes = 0;
    unsigned n = 0;

    for (; !p->dev->broken && n < p->burst && bytes < NET_BURST_BYTES && !p->rx_resting; n++) {
        if (!rx_may(p) || !rx_refill(p))
            break;
        ssize_t len = rx_read(p);

        if (len == 0)
            break;
        if (len < 0) {
            rx_failed(p, (int)len);
            continue;
        }
        rx_frame(p, (size_t)len);
        bytes += (size_t)len;
    }
    if (n == p->burst)
        p->burst = 2 * n < NET_BURST ? 2 * n : NET_BURST;
    else
        p->burst = n ? n : 1;
    pair_publish(p, rx_vq(p));
    rx_listen(p);
}

static void rx_on_frame(struct watch *w, uint32_t revents)
{
    struct net_pair *p = w->arg;

    if (revents & (EPOLLERR | EPOLLHUP) && !(revents & EPOLLIN)) {
        p->gone = true;
        rx_listen(p);
        return;
    }
    rx_round(p);
}

void net_pair_rx(struct net_pair *p)
{
    p->stats.kicks++;
    if (!p->on || !p->starved)
        return;
    p->starved = false;
    virtq_disarm(rx_vq(p));
    if (!p->gone && !p->rx_resting)
        rx_round(p);
}

/* --- to the host -------------------------------------------------------------------------- */

static enum net_drop tx_write(struct net_pair *p, int n)
{
    if (writev(p->file, p->out, n) >= 0)
        return NET_PASS;
    switch (errno) {
    case EIO: /* not up */
    case ENETDOWN:
    case EBADFD: /* deleted, or a queue that is switched off */
    case ENODEV:
    case EPIPE:
    case ECONNREFUSED:
        return NET_DROP_DOWN;
    default:
        return NET_DROP_REFUSED;
    }
}

static enum net_drop tx_frame(struct net_pair *p, struct chain *c, size_t *len)
{
    struct net_hdr h;

    *len = 0;
    if (cursor_get(&c->r, &h, sizeof h))
        return NET_DROP_SHORT;
    *len = cursor_left(&c->r);
    enum net_drop drop = net_check_hdr(&h, *len, p->dev->features);

    if (drop)
        return drop;
    p->out[0] = (struct iovec){ .iov_base = &h, .iov_len = sizeof h };
    return tx_write(p, 1 + cursor_take(&c->r, *len, p->out + 1, NET_QMAX));
}

/* Whether a frame may go now; if not, the timer tells when. */
static bool tx_may(struct net_pair *p)
{
    p->tx_at = limit_wait(p->tx_limit);
    p->tx_resting = p->tx_at != 0;
    if (p->tx_resting)
        timer_set(p);
    return !p->tx_resting;
}

/* What is left of a round's work. */
struct budget {
    unsigned frames;
    size_t bytes;
};

/* Sends what is there. Whether it stopped for the budget's sake. */
static bool tx_round(struct net_pair *p, struct virtq *vq, struct budget *left)
{
    struct chain c = { .iov = p->popped, .iov_max = NET_QMAX };
    size_t len;

    while (left->frames && left->bytes) {
        if (virtq_waiting(vq) && !tx_may(p))
            return false;
        int ret = virtq_pop(vq, &c);

        if (ret < 0)
            virtio_fail(p->dev, "queue %u: %s", p->txq, vq->fault);
        if (ret <= 0)
            return false;
        enum net_drop drop = tx_frame(p, &c, &len);

        p->stats.tx_drop[drop] += drop != NET_PASS;
        p->stats.tx_packets += drop == NET_PASS;
        p->stats.tx_bytes += drop == NET_PASS ? len : 0;
        limit_take(p->tx_limit, len);
        virtq_push(vq, &c, 0);
        left->frames--;
        left->bytes -= min_size(left->bytes, len);
    }
    return true;
}

static void tx_run(struct net_pair *p)
{
    struct virtq *vq = tx_vq(p);
    struct budget left = { NET_BURST, NET_BURST_BYTES };
    bool more;

    virtq_disarm(vq);
    do
        more = tx_round(p, vq, &left);
    while (!more && !p->tx_resting && !p->dev->broken && virtq_rearm(vq));
    pair_publish(p, vq);
    if (more)
        virtio_again(p->dev, p->txq);
}

void net_pair_tx(struct net_pair *p)
{
    p->stats.kicks++;
    if (p->on && !p->tx_resting)
        tx_run(p);
}

/* --- the pair ----------------------------------------------------------------------------- */

/* Whether *at is over; then it is 0. */
static bool due(uint64_t *at, uint64_t now)
{
    bool over = *at && *at <= now;

    *at = over ? 0 : *at;
    return over;
}

static void pair_on_timer(struct watch *w, uint32_t revents)
{
    struct net_pair *p = w->arg;
    uint64_t count, now = clock_ns();

    (void)revents;
    if (read(w->fd, &count, sizeof count) != sizeof count)
        return;
    bool rested = due(&p->rx_at, now), lean = due(&p->lean_at, now), tx = due(&p->tx_at, now);

    if (rested)
        p->rx_resting = false;
    if (lean) {
        p->lean = true;
        p->starved = false;
    }
    if (tx)
        p->tx_resting = false;
    if (p->rx_at || p->tx_at || p->lean_at)
        timer_set(p);
    if (!p->on || p->dev->broken)
        return;
    if ((rested || lean) && !p->gone && !p->starved && !p->rx_resting)
        rx_round(p);
    if (tx)
        tx_run(p);
}

void net_pair_start(struct net_pair *p)
{
    p->on = true;
    p->gone = p->lost;
    p->starved = p->lean = p->rx_resting = p->tx_resting = false;
    p->errors = 0;
    p->burst = 1;
    p->expect = 0;
    virtq_disarm(rx_vq(p));
    rx_listen(p);
    virtio_again(p->dev, p->txq); /* what the driver sent while the pair was off */
}

void net_pair_stop(struct net_pair *p)
{
    if (!p->on)
        return;
    p->on = false;
    p->rx_at = p->tx_at = p->lean_at = 0;
    timer_set(p);
    rx_listen(p);
    while (p->n) {
        p->n--;
        if (!p->dev->broken)
            virtq_unpop(rx_vq(p), p->held[p->first + p->n].head);
    }
    p->first = p->iov_first = p->iov_n = 0;
    p->room = 0;
}

int net_pair_init(struct net_pair *p)
{
    p->spill = malloc(NET_SPILL);
    if (!p->spill)
        return -ENOMEM;
    p->timer = (struct watch){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                               .events = EPOLLIN,
                               .fn = pair_on_timer,
                               .arg = p };
    p->host = (struct watch){ .fd = p->file, .fn = rx_on_frame, .arg = p };
    int ret = p->timer.fd < 0 ? -errno : loop_add(p->loop, &p->timer);

    return ret ? ret : loop_add(p->loop, &p->host);
}

void net_pair_fini(struct net_pair *p)
{
    loop_del(p->loop, &p->timer);
    loop_del(p->loop, &p->host);
    if (p->timer.fd >= 0)
        close(p->timer.fd);
    free(p->spill);
}
