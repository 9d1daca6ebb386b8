/* virtio-net (virtio 1.2, section 5.1); see net.h.
 *
 *   queue 0, 1    receive and transmit of pair 0   loop 0
 *   queue 2, 3    of pair 1                        loop 1
 *     ...
 *   queue 2 * N   control                          loop 0
 *
 * A driver without MQ has its control queue behind the first pair, as queue 2. That one's kicks
 * come to loop 1, which passes them on: the queue is served by loop 0 all the same.
 *
 * Each pair has a file of the tap and moves its frames by itself (netio.c), or vhost does so in the
 * host's kernel (host/vhost.c). Here is what concerns the card as a whole: features, which pairs
 * are on, what the driver wants to receive (netctl.c), the link, the counters.
 *
 * What the driver negotiated is told to the tap, so that frames come as the driver can take them:
 * whole segments and unfinished checksums, or neither. What it sends is judged by the same word.
 *
 * While vhost serves a pair nothing tells us of interrupts it makes, and a driver ignores one whose
 * status reads 0: so the queues' bit then always reads 1.
 */
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/num.h"
#include "virtio/netctl.h"
#include "virtio/netio.h"
#include "virtio/netstats.h"

#define CTL_BURST 16 /* commands of a round */

#define LINK_UP 1 /* of status */

struct net_config { /* 5.1.4 */
    uint8_t mac[6];
    uint16_t status, max_pairs, mtu;
};
_Static_assert(sizeof(struct net_config) == 12, "as in the spec");

struct net {
    struct virtio_dev dev;
    struct tap *tap;
    struct vhost *vhost;  /* of each pair; NULL: our own threads do it */
    struct watch *broken; /* of each pair with vhost: it refused the rings */
    uint16_t told_mtu;    /* by the user; 0: the interface's */
    uint8_t mac[6];       /* at first */
    struct net_ctl ctl;
    _Atomic uint64_t features; /* the driver's, without the offloads it switched off */
    _Atomic uint16_t mtu;      /* the driver's; the interface's where it took none */
    /* What the tap was told last: telling it takes the host's lock for all interfaces, and a guest
     * can ask for the same again and again. */
    bool told_offloads, told_filter;
    unsigned offloads;
    struct tap_filter filter;
    uint32_t attached; /* bit i: queue i of the tap */
    struct net_limit rx_limit, tx_limit;
    struct watch link;
    struct watch passed_on; /* an eventfd: a kick of the control queue came to another loop */
    bool quiet; /* nothing is done for the driver between quiesce and activation or load */
    struct log_limit limit;
    _Atomic uint64_t ctl_kicks, ctl_interrupts; /* of the control queue */
    struct iovec popped[NET_QMAX];
    struct net_pair *pair; /* tap->n of them */
};

static struct net *net_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct net, dev);
}

/* The tap refused what the guest asked for: it is told to the host's people, and things go on as
 * they are. */
static void net_tell(struct net *n, const char *what, int ret)
{
    uint32_t dropped;

    if (ret && !n->tap->link.gone && log_allow(&n->limit, &dropped))
        log_warn("net %s: %s: %s", n->tap->name, what, strerror(-ret));
}

/* --- pairs -------------------------------------------------------------------------------- */

static bool drain(int fd)
{
    uint64_t count;

    return read(fd, &count, sizeof count) == sizeof count;
}

static void vhost_pair_on(struct net *n, struct net_pair *p, bool on)
{
    struct vhost *v = &n->vhost[p - n->pair];
    struct vhost_ring ring[VHOST_RINGS];
    uint16_t base[VHOST_RINGS];
    struct virtio_queue *q = &n->dev.queue[p->rxq];

    if (p->on == on)
        return;
    p->on = on;
    if (!on) {
        vhost_stop(v, base);
        for (unsigned i = 0; i < VHOST_RINGS; i++) {
            virtq_take_back(&q[i].vq, base[i]);
            loop_mod(p->loop, &q[i].kick, EPOLLIN);
        }
        /* What it said of the rings it had is of no interest for the next ones. */
        drain(n->broken[p - n->pair].fd);
        return;
    }
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        loop_mod(p->loop, &q[i].kick, 0); /* its kicks are vhost's */
        ring[i] = (struct vhost_ring){ .size = q[i].vq.setup.size,
                                       .kick = q[i].kick.fd,
                                       .call = n->dev.irqfd,
                                       .broken = n->broken[p - n->pair].fd };
        ring[i].base = virtq_lend(&q[i].vq, &ring[i].desc, &ring[i].avail, &ring[i].used);
    }
    int ret = vhost_start(v, n->dev.features, ring, p->file);

    if (ret == 0)
        return;
    p->on = false;
    for (unsigned i = 0; i < VHOST_RINGS; i++)
        loop_mod(p->loop, &q[i].kick, EPOLLIN);
    virtio_fail(&n->dev, "vhost does not take its queues: %s", strerror(-ret));
}

static void pair_start(void *arg)
{
    net_pair_start(arg);
}

static void pair_stop(void *arg)
{
    net_pair_stop(arg);
}

static void net_pair_switch(struct net *n, unsigned i, bool on)
{
    struct net_pair *p = &n->pair[i];

    /* The driver may have set up only some of the queues. */
    if (on && !(virtq_running(&n->dev.queue[p->rxq].vq) && virtq_running(&n->dev.queue[p->txq].vq)))
        return;
    if (n->vhost && !p->lost)
        vhost_pair_on(n, p, on);
    else if (p->loop == n->dev.loop)
        (on ? pair_start : pair_stop)(p);
    else
        loop_call(p->loop, on ? pair_start : pair_stop, p);
}

static void net_attach(struct net *n, unsigned i, bool on)
{
    uint32_t bit = UINT32_C(1) << i;
    int ret = 0;

    if (!(n->attached & bit) == on)
        ret = tap_set_queue(n->tap, i, on);
    if (ret == 0)
        n->attached = on ? n->attached | bit : n->attached & ~bit;
    net_tell(n, "a queue can't be switched", ret);
}

/* Has the first `pairs` move frames and the others rest. A queue of the tap is attached before its
 * pair reads, and detached after: one that is not can only be asked in vain. */
static void net_set_pairs(struct net *n, unsigned pairs)
{
    if (n->vhost && !n->pair[0].lost && pairs) /* before the first interrupt that it makes */
        atomic_store(&n->dev.isr_always, VIRTIO_IRQ_QUEUE);
    for (unsigned i = n->tap->n; i-- > pairs;) {
        net_pair_switch(n, i, false);
        if (i) /* the first may stay: it rests unread */
            net_attach(n, i, false);
    }
    for (unsigned i = 0; i < pairs; i++) {
        net_attach(n, i, true);
        net_pair_switch(n, i, true);
    }
    if (!pairs)
        atomic_store(&n->dev.isr_always, 0);
}

/* --- what the driver asks for ------------------------------------------------------------- */

static void net_apply_filter(struct net *n)
{
    struct tap_filter f;

    net_ctl_filter(&n->ctl, &f);
    if (n->told_filter && net_ctl_same_filter(&f, &n->filter))
        return;
    int ret = tap_set_filter(n->tap, &f);

    n->told_filter = ret == 0;
    n->filter = f;
    net_tell(n, "what is received can't be filtered", ret);
}

static void net_apply_offloads(struct net *n)
{
    uint64_t features = (n->dev.features & ~NET_GUEST_OFFLOADS) | n->ctl.offloads;
    unsigned offloads = net_offloads(features);
    int ret = 0;

    if (!n->told_offloads || offloads != n->offloads)
        ret = tap_set_offload(n->tap, offloads);
    n->told_offloads = ret == 0;
    n->offloads = offloads;
    net_tell(n, "offloads can't be set", ret);
    atomic_store(&n->features, features);
}

static void net_apply(struct net *n, int changes)
{
    if (changes & NET_CTL_MAC)
        virtio_set_config(&n->dev, offsetof(struct net_config, mac), n->ctl.mac, sizeof n->ctl.mac);
    if (changes & NET_CTL_FILTER)
        net_apply_filter(n);
    if (changes & NET_CTL_OFFLOADS)
        net_apply_offloads(n);
    if (changes & NET_CTL_PAIRS)
        net_set_pairs(n, n->ctl.pairs);
}

static unsigned net_ctl_queue(const struct net *n)
{
    return n->dev.features & NET_F_MQ ? 2 * n->tap->n : 2;
}

/* Carries out at most *left commands. */
static void ctl_round(struct net *n, unsigned q, struct virtq *vq, unsigned *left)
{
    for (; *left; --*left) {
        struct chain c = { .iov = n->popped, .iov_max = NET_QMAX };
        int ret = virtq_pop(vq, &c);

        if (ret < 0)
            virtio_fail(&n->dev, "queue %u: %s", q, vq->fault);
        if (ret > 0 && cursor_left(&c.w) == 0)
            virtio_fail(&n->dev, "queue %u: a command has no room for its answer", q);
        if (ret <= 0 || n->dev.broken)
            return;
        int changes = net_ctl_command(&n->ctl, &c.r);
        uint8_t ack = changes < 0;

        if (changes > 0)
            net_apply(n, changes);
        cursor_put(&c.w, &ack, sizeof ack);
        virtq_push(vq, &c, sizeof ack);
    }
}

static void net_control(struct net *n)
{
    unsigned q = net_ctl_queue(n), left = CTL_BURST;
    struct virtq *vq = &n->dev.queue[q].vq;

    if (n->quiet || n->dev.broken || !virtq_running(vq))
        return;
    n->ctl_kicks++;
    virtq_disarm(vq);
    do
        ctl_round(n, q, vq, &left);
    while (left && !n->dev.broken && virtq_rearm(vq));
    if (!n->dev.broken && virtq_publish(vq)) {
        n->ctl_interrupts++;
        virtio_interrupt(&n->dev, VIRTIO_IRQ_QUEUE);
    }
    if (!left)
        virtio_again(&n->dev, q);
}

static void net_on_passed(struct watch *w, uint32_t revents)
{
    (void)revents;
    if (drain(w->fd))
        net_control(w->arg);
}

static void net_kick(struct virtio_dev *d, unsigned q)
{
    struct net *n = net_of(d);

    if (q == net_ctl_queue(n) && d->queue[q].loop == d->loop)
        net_control(n);
    else if (q == net_ctl_queue(n))
        (void)!write(n->passed_on.fd, &(uint64_t){ 1 }, sizeof(uint64_t));
    else if (q / 2 < n->tap->n && (!n->vhost || n->pair[0].lost))
        (q % 2 ? net_pair_tx : net_pair_rx)(&n->pair[q / 2]);
}

/* --- the link ----------------------------------------------------------------------------- */

/* Puts what became of the interface into the configuration. (5.1.4.1 wants the MTU to stay as it
 * was; who changes it under a running guest has the guest told, and a driver may look or not.) */
static void net_tell_link(struct net *n)
{
    const struct tap_link *l = &n->tap->link;
    uint16_t mtu = n->told_mtu ? (uint16_t)min_u64(n->told_mtu, l->mtu) : l->mtu;
    uint16_t status = l->up && !l->gone ? LINK_UP : 0;

    atomic_store(&n->mtu, !n->dev.active || n->dev.features & NET_F_MTU ? mtu : l->mtu);
    virtio_set_config(&n->dev, offsetof(struct net_config, status), &status, sizeof status);
    virtio_set_config(&n->dev, offsetof(struct net_config, mtu), &mtu, sizeof mtu);
}

/* Without the tap vhost can do nothing but fail, at the guest's cost: what it sends stays with us
 * from here on, who drop and count it. */
static void net_lost(struct net *n)
{
    if (!n->vhost || n->pair[0].lost)
        return;
    for (unsigned i = 0; i < n->tap->n; i++) {
        struct net_pair *p = &n->pair[i];
        bool on = p->on;

        net_pair_switch(n, i, false);
        p->lost = true;
        if (on && !n->dev.broken)
            net_pair_switch(n, i, true);
    }
    atomic_store(&n->dev.isr_always, 0);
    virtio_interrupt(&n->dev, VIRTIO_IRQ_QUEUE); /* vhost's last may not be looked at yet */
}

static void net_on_link(struct watch *w, uint32_t revents)
{
    struct net *n = w->arg;

    (void)revents;
    if (!tap_read_link(n->tap))
        return;
    const struct tap_link *l = &n->tap->link;

    log_info("net %s: %s, MTU %u", n->tap->name,
             l->gone ? "deleted"
             : l->up ? "up"
                     : "down",
             l->mtu);
    net_tell_link(n);
    if (l->gone)
        net_lost(n);
}

static void net_on_broken(struct watch *w, uint32_t revents)
{
    struct net *n = w->arg;

    (void)revents;
    if (!drain(w->fd))
        return;
    if (!tap_gone(n->tap)) {
        virtio_fail(&n->dev, "vhost found a rule broken");
        return;
    }
    n->tap->link.gone = true; /* the report may be on its way, or there is nobody to make one */
    net_tell_link(n);
    net_lost(n);
}

/* --- the device --------------------------------------------------------------------------- */

static int net_activate(struct virtio_dev *d)
{
    struct net *n = net_of(d);

    net_ctl_init(&n->ctl, d->features, (uint16_t)n->tap->n, n->mac);
    n->quiet = false;
    net_tell_link(n);
    net_apply(n, NET_CTL_FILTER | NET_CTL_OFFLOADS | NET_CTL_PAIRS);
    return 0;
}

static void net_quiesce(struct virtio_dev *d)
{
    net_of(d)->quiet = true;
    net_set_pairs(net_of(d), 0);
}

/* The next driver finds the card as it was at first. */
static void net_reset(struct virtio_dev *d)
{
    struct net *n = net_of(d);

    net_ctl_init(&n->ctl, 0, (uint16_t)n->tap->n, n->mac);
    net_apply(n, NET_CTL_MAC);
}

static void limit_save(struct net_limit *l, uint64_t now, struct wbuf *w)
{
    bucket_save(&l->bytes, now, w);
    bucket_save(&l->frames, now, w);
}

static int limit_load(struct net_limit *l, uint64_t now, struct rbuf *r)
{
    int ret = bucket_load(&l->bytes, now, r);

    return ret ? ret : bucket_load(&l->frames, now, r);
}

static void net_save(const struct virtio_dev *d, struct wbuf *w)
{
    struct net *n = CONTAINER_OF(d, struct net, dev);
    uint64_t now = clock_ns();

    wbuf_u32(w, n->tap->n);
    limit_save(&n->rx_limit, now, w);
    limit_save(&n->tx_limit, now, w);
    wbuf_bytes(w, n->mac, sizeof n->mac);
    net_ctl_save(&n->ctl, w);
    wbuf_bytes(w, d->cfg, sizeof(struct net_config));
}

static int net_load(struct virtio_dev *d, struct rbuf *r)
{
    struct net *n = net_of(d);
    uint64_t now = clock_ns();
    struct net_config c;
    uint8_t mac[6];

    if (rbuf_u32(r) != n->tap->n || limit_load(&n->rx_limit, now, r) ||
        limit_load(&n->tx_limit, now, r))
        return -EPROTO;
    rbuf_bytes(r, mac, sizeof mac); /* the guest's, whatever it is called here */
    net_ctl_init(&n->ctl, d->features, (uint16_t)n->tap->n, mac);
    if (net_ctl_load(&n->ctl, r) || mac[0] & 1)
        return -EPROTO;
    rbuf_bytes(r, &c, sizeof c);
    if (r->overrun)
        return -EPROTO;
    memcpy(n->mac, mac, sizeof mac);
    /* First as the guest saw it; what has changed since it is told. */
    memcpy(c.mac, n->ctl.mac, sizeof c.mac);
    c.max_pairs = (uint16_t)n->tap->n;
    memcpy(d->cfg, &c, sizeof c);
    net_tell_link(n);
    n->quiet = false;
    if (d->active && !d->broken)
        net_apply(n, NET_CTL_FILTER | NET_CTL_OFFLOADS | NET_CTL_PAIRS);
    return 0;
}

struct stats_call {
    const struct net_stats *from;
    struct net_stats *to;
};

static void stats_cross(void *arg)
{
    struct stats_call *c = arg;

    net_stats_add(c->to, c->from);
}

void net_stats(struct virtio_dev *d, struct net_stats *s)
{
    struct net *n = net_of(d);

    *s = (struct net_stats){ .kicks = n->ctl_kicks, .interrupts = n->ctl_interrupts };
    for (unsigned i = 0; i < n->tap->n; i++)
        loop_call(n->pair[i].loop, stats_cross, &(struct stats_call){ &n->pair[i].stats, s });
}

static void net_free(struct virtio_dev *d)
{
    struct net *n = net_of(d);
    struct net_stats s;

    if (n->pair && log_enabled(LOG_DEBUG)) {
        net_stats(d, &s);
        net_stats_log(&s, d->name, n->vhost != NULL);
    }
    loop_del(d->loop, &n->link);
    loop_del(d->loop, &n->passed_on);
    if (n->passed_on.fd >= 0)
        close(n->passed_on.fd);
    for (unsigned i = 0; n->pair && i < n->tap->n; i++)
        net_pair_fini(&n->pair[i]);
    for (unsigned i = 0; n->broken && i < n->tap->n; i++) {
        loop_del(d->loop, &n->broken[i]);
        if (n->broken[i].fd >= 0)
            close(n->broken[i].fd);
    }
    for (unsigned i = 0; n->vhost && i < n->tap->n; i++)
        vhost_close(&n->vhost[i]);
    virtio_fini(d);
    tap_close(n->tap);
    pthread_mutex_destroy(&n->rx_limit.lock);
    pthread_mutex_destroy(&n->tx_limit.lock);
    free(n->broken);
    free(n->pair);
    free(n);
}

static const struct virtio_class net_class = {
    .name = "net",
    .id = 1,
    .features = NET_F_MAC | NET_F_STATUS | NET_F_MTU | NET_F_MRG_RXBUF | NET_F_CTRL_VQ |
                NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA | NET_F_CTRL_MAC_ADDR,
    .nq = 2 * NET_PAIRS_MAX + 1,
    .qmax = NET_QMAX,
    .cfg_len = sizeof(struct net_config),
    .activate = net_activate,
    .kick = net_kick,
    .quiesce = net_quiesce,
    .reset = net_reset,
    .save = net_save,
    .load = net_load,
    .free = net_free,
};
_Static_assert(2 * NET_PAIRS_MAX + 1 <= VIRTIO_QUEUES_MAX, "the transport has them");

static void net_describe(struct net *n)
{
    unsigned can = n->tap->offloads;
    struct net_config c = { .max_pairs = (uint16_t)n->tap->n };
    uint64_t f = 0;

    if (can & TUN_F_CSUM)
        f |= NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_CTRL_GUEST_OFFLOADS;
    if (can & TUN_F_TSO4)
        f |= NET_F_HOST_TSO4 | NET_F_GUEST_TSO4;
    if (can & TUN_F_TSO6)
        f |= NET_F_HOST_TSO6 | NET_F_GUEST_TSO6;
    if ((can & (TUN_F_USO4 | TUN_F_USO6)) == (TUN_F_USO4 | TUN_F_USO6))
        f |= NET_F_HOST_USO | NET_F_GUEST_USO4 | NET_F_GUEST_USO6;
    if (n->tap->n > 1)
        f |= NET_F_MQ;
    n->dev.offers |= f;
    if (n->vhost)
        n->dev.offers &= n->vhost[0].features | ~NET_F_MRG_RXBUF;
    memcpy(c.mac, n->mac, sizeof c.mac);
    memcpy(n->dev.cfg, &c, sizeof c);
    net_tell_link(n);
}

static void limit_init(struct net_limit *l, uint64_t bw, uint64_t bw_burst, uint64_t pps,
                       uint64_t pps_burst)
{
    uint64_t now = clock_ns();

    l->on = bw || pps;
    pthread_mutex_init(&l->lock, NULL);
    bucket_init(&l->bytes, bw, bw_burst, now);
    bucket_init(&l->frames, pps, pps_burst, now);
}

/* Storage of the pairs, with nothing open in it yet. 0 or -ENOMEM. */
static int net_alloc(struct net *n, struct loop *loop)
{
    n->passed_on.fd = -1;
    n->pair = calloc(n->tap->n, sizeof *n->pair);
    n->broken = n->vhost ? calloc(n->tap->n, sizeof *n->broken) : NULL;
    for (unsigned i = 0; n->pair && i < n->tap->n; i++)
        n->pair[i] = (struct net_pair){ .dev = &n->dev,
                                        .rxq = 2 * i,
                                        .txq = 2 * i + 1,
                                        .loop = n->vhost ? loop : &loop[i],
                                        .file = n->tap->fd[i],
                                        .rx_limit = &n->rx_limit,
                                        .tx_limit = &n->tx_limit,
                                        .features = &n->features,
                                        .mtu = &n->mtu,
                                        .timer.fd = -1 };
    for (unsigned i = 0; n->broken && i < n->tap->n; i++)
        n->broken[i].fd = -1;
    return n->pair && (n->broken || !n->vhost) ? 0 : -ENOMEM;
}

/* An eventfd that the device's loop watches. 0 or -errno. */
static int net_event(struct net *n, struct watch *w, void (*fn)(struct watch *, uint32_t))
{
    *w = (struct watch){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .fn = fn, .arg = n
    };
    return w->fd < 0 ? -errno : loop_add(n->dev.loop, w);
}

/* The pairs and their queues, each on its loop. 0 or -errno. */
static int net_wire(struct net *n)
{
    int ret = net_event(n, &n->passed_on, net_on_passed);

    for (unsigned i = 0; ret == 0 && i < n->tap->n; i++) {
        struct net_pair *p = &n->pair[i];

        ret = virtio_place(&n->dev, p->rxq, p->loop);
        if (ret == 0)
            ret = virtio_place(&n->dev, p->txq, p->loop);
        if (ret == 0)
            ret = net_pair_init(p);
        if (ret == 0 && n->vhost)
            ret = net_event(n, &n->broken[i], net_on_broken);
    }
    n->link = (struct watch){
        .fd = n->tap->netlink, .events = EPOLLIN, .fn = net_on_link, .arg = n
    };
    return ret || n->link.fd < 0 ? ret : loop_add(n->dev.loop, &n->link);
}

struct virtio_dev *net_new(struct gmem *mem, struct loop *loop, const struct net_opts *o,
                           struct err *e)
{
    unsigned pairs = o->tap->n;
    struct net *n = calloc(1, sizeof *n);

    if (!n || virtio_init(&n->dev, &net_class, o->name, 2 * pairs + 1, mem, loop, e)) {
        if (!n)
            err_set(e, ENOMEM, "%s: out of memory: free some", o->name);
        for (unsigned i = 0; o->vhost && i < pairs; i++)
            vhost_close(&o->vhost[i]);
        tap_close(o->tap);
        free(n);
        return NULL;
    }
    n->tap = o->tap;
    n->vhost = o->vhost;
    n->told_mtu = o->mtu;
    n->attached = 1; /* as tap_open leaves them */
    memcpy(n->mac, o->mac, sizeof n->mac);
    limit_init(&n->rx_limit, o->rx_bw, o->rx_bw_burst, o->rx_pps, o->rx_pps_burst);
    limit_init(&n->tx_limit, o->tx_bw, o->tx_bw_burst, o->tx_pps, o->tx_pps_burst);
    net_ctl_init(&n->ctl, 0, (uint16_t)pairs, n->mac);
    net_describe(n);
    int ret = net_alloc(n, loop);

    if (ret == 0)
        ret = net_wire(n);
    if (ret) {
        err_set(e, -ret, "%s: %s: %s", o->name, strerror(-ret), err_remedy(-ret, "report this"));
        net_free(&n->dev);
        return NULL;
    }
    return &n->dev;
}
