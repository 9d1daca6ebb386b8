/* The base of every device; see dev.h.
 *
 * A kick is an eventfd: KVM signals it without an exit where the ioeventfd matched, the transport
 * where it did not. The loop reads it and calls the class. Kicks of a queue that does not run, or
 * of a broken device, are read and forgotten; after activation each running queue is kicked once,
 * since the driver may have made buffers available before DRIVER_OK.
 */
#include "virtio/dev.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/num.h"

static void dev_serve(struct virtio_queue *q)
{
    struct virtio_dev *d = q->dev;

    if (!d->broken && virtq_running(&q->vq))
        d->cls->kick(d, (unsigned)(q - d->queue));
}

static void dev_on_kick(struct watch *w, uint32_t revents)
{
    struct virtio_queue *q = w->arg;
    uint64_t count;

    (void)revents;
    if (read(w->fd, &count, sizeof count) == sizeof count)
        dev_serve(q);
}

int virtio_init(struct virtio_dev *d, const struct virtio_class *cls, const char *name, unsigned nq,
                struct gmem *mem, struct loop *loop, struct err *e)
{
    int code = ENOMEM;

    assert(nq <= cls->nq);
    *d = (struct virtio_dev){ .cls = cls,
                              .nq = (uint16_t)nq,
                              .offers = cls->features,
                              .mem = mem,
                              .loop = loop,
                              .irqfd = -1 };
    snprintf(d->name, sizeof d->name, "%s", name);
    pthread_mutex_init(&d->cfg_lock, NULL);
    d->queue = calloc(nq, sizeof *d->queue);
    if (!d->queue)
        goto out;
    for (unsigned i = 0; i < nq; i++)
        d->queue[i].kick.fd = -1;
    d->irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->irqfd < 0) {
        code = errno;
        goto out;
    }
    for (unsigned i = 0; i < nq; i++) {
        struct virtio_queue *q = &d->queue[i];

        q->dev = d;
        q->loop = loop;
        q->kick = (struct watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                  .events = EPOLLIN,
                                  .fn = dev_on_kick,
                                  .arg = q };
        if (q->kick.fd < 0) {
            code = errno;
            goto out;
        }
        code = -loop_add(loop, &q->kick);
        if (code)
            goto out;
    }
    return 0;
out:
    virtio_fini(d);
    return err_set(e, code,
                   "%s: no event descriptor: %s: raise the limit of open files (ulimit "
                   "-n)",
                   name, strerror(code));
}

void virtio_fini(struct virtio_dev *d)
{
    for (unsigned i = 0; d->queue && i < d->nq; i++) {
        if (d->queue[i].loop)
            loop_del(d->queue[i].loop, &d->queue[i].kick);
        if (d->queue[i].kick.fd >= 0)
            close(d->queue[i].kick.fd);
    }
    if (d->irqfd >= 0)
        close(d->irqfd);
    free(d->queue);
    d->queue = NULL;
    d->irqfd = -1;
    pthread_mutex_destroy(&d->cfg_lock);
}

int virtio_place(struct virtio_dev *d, unsigned q, struct loop *loop)
{
    struct virtio_queue *queue = &d->queue[q];

    loop_del(queue->loop, &queue->kick);
    queue->loop = loop;
    queue->kick.events = EPOLLIN;
    return loop_add(loop, &queue->kick);
}

uint64_t virtio_offered(const struct virtio_dev *d)
{
    return d->offers | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
}

static void dev_signal(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);

    (void)n; /* EAGAIN: 2^64 - 2 signals are waiting, one of them will do */
}

static void dev_raise(struct virtio_dev *d)
{
    if (d->pulse)
        d->pulse(d->pulse_arg);
    else
        dev_signal(d->irqfd);
}

void virtio_interrupt(struct virtio_dev *d, uint32_t why)
{
    /* The status first: the guest ignores an interrupt whose status reads 0. */
    atomic_fetch_or(&d->isr, why);
    if (d->signal)
        d->signal(d);
    else
        dev_raise(d);
}

void virtio_fail(struct virtio_dev *d, const char *fmt, ...)
{
    char text[200];
    uint32_t dropped;
    va_list ap;

    if (atomic_exchange(&d->broken, true))
        return;
    virtio_interrupt(d, VIRTIO_IRQ_CONFIG);
    if (!log_allow(&d->limit, &dropped))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_warn("%s: the guest broke it: %s; it waits for a reset", d->name, text);
    if (dropped)
        log_warn("%s: %u more such lines were left out", d->name, dropped);
}

void virtio_again(struct virtio_dev *d, unsigned q)
{
    dev_signal(d->queue[q].kick.fd);
}

int virtio_take_kick(struct virtio_dev *d, unsigned q)
{
    int fd = d->queue[q].kick.fd;

    loop_del(d->queue[q].loop, &d->queue[q].kick);
    /* io_uring gives a non-blocking file's EAGAIN back, where we want it to wait. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

void virtio_kicked(struct virtio_dev *d, unsigned q)
{
    dev_serve(&d->queue[q]);
}

void virtio_notify(struct virtio_dev *d, unsigned q)
{
    if (q < d->nq)
        dev_signal(d->queue[q].kick.fd);
}

void virtio_set_config(struct virtio_dev *d, unsigned off, const void *data, unsigned n)
{
    pthread_mutex_lock(&d->cfg_lock);
    bool changed = memcmp(d->cfg + off, data, n) != 0;

    if (changed) {
        memcpy(d->cfg + off, data, n);
        d->cfg_gen++;
    }
    pthread_mutex_unlock(&d->cfg_lock);
    if (changed && d->active)
        virtio_interrupt(d, VIRTIO_IRQ_CONFIG);
}

uint32_t virtio_config_generation(struct virtio_dev *d)
{
    pthread_mutex_lock(&d->cfg_lock);
    uint32_t gen = d->cfg_gen;

    pthread_mutex_unlock(&d->cfg_lock);
    return gen;
}

void virtio_read_config(struct virtio_dev *d, unsigned off, void *data, unsigned n)
{
    memset(data, 0, n);
    if (!range_within(off, n, d->cls->cfg_len))
        return;
    pthread_mutex_lock(&d->cfg_lock);
    memcpy(data, d->cfg + off, n);
    pthread_mutex_unlock(&d->cfg_lock);
}

/* What crosses to the loop, with its arguments. */
struct crossing {
    struct virtio_dev *dev;
    bool active;
    uint64_t features;
    const struct virtq_setup *setup;
    unsigned off, n;
    const void *data;
    struct rbuf *r;
    struct wbuf *w;
    int ret;
};

static void cross_write_config(void *arg)
{
    struct crossing *c = arg;

    c->dev->cls->cfg_write(c->dev, c->off, c->data, c->n);
}

void virtio_write_config(struct virtio_dev *d, unsigned off, const void *data, unsigned n)
{
    struct crossing c = { .dev = d, .off = off, .data = data, .n = n };

    if (d->cls->cfg_write && range_within(off, n, d->cls->cfg_len))
        loop_call(d->loop, cross_write_config, &c);
}

/* What is done with a queue, on its loop. */
struct queue_call {
    struct virtio_queue *queue;
    const struct virtq_setup *setup;
    struct rbuf *r;
    struct wbuf *w;
    struct err e;
    int ret;
};

static void queue_call(void (*fn)(void *), struct queue_call *c)
{
    if (c->queue->loop == c->queue->dev->loop)
        fn(c);
    else
        loop_call(c->queue->loop, fn, c);
}

static void queue_start(void *arg)
{
    struct queue_call *c = arg;
    const struct virtio_dev *d = c->queue->dev;

    c->ret = virtq_start(&c->queue->vq, d->mem, c->setup, d->cls->qmax, &c->e);
}

static void queue_stop(void *arg)
{
    virtq_stop(&((struct queue_call *)arg)->queue->vq);
}

static void queue_serve(void *arg)
{
    dev_serve(((struct queue_call *)arg)->queue);
}

static void queue_save(void *arg)
{
    struct queue_call *c = arg;

    if (virtq_running(&c->queue->vq))
        virtq_save(&c->queue->vq, c->w);
}

static void queue_load(void *arg)
{
    struct queue_call *c = arg;

    c->ret = virtq_running(&c->queue->vq) ? virtq_load(&c->queue->vq, c->r) : 0;
}

/* Starts every queue the driver made ready (size 0: it did not). 0 or -EPROTO. */
static int dev_start_queues(struct virtio_dev *d, uint64_t features,
                            const struct virtq_setup *setup)
{
    for (unsigned i = 0; i < d->nq; i++) {
        struct virtq_setup s = setup[i];

        if (s.size == 0)
            continue;
        s.indirect = features & VIRTIO_F_INDIRECT_DESC;
        s.event_idx = features & VIRTIO_F_EVENT_IDX;
        struct queue_call c = { .queue = &d->queue[i], .setup = &s };

        queue_call(queue_start, &c);
        if (c.ret) {
            virtio_fail(d, "queue %u: %s", i, c.e.msg);
            return -EPROTO;
        }
    }
    return 0;
}

static void cross_activate(void *arg)
{
    struct crossing *c = arg;
    struct virtio_dev *d = c->dev;

    d->features = c->features;
    d->active = true;
    if (dev_start_queues(d, c->features, c->setup))
        return;
    int ret = d->cls->activate ? d->cls->activate(d) : 0;

    if (ret) {
        virtio_fail(d, "it can't start: %s", strerror(-ret));
        return;
    }
    for (unsigned i = 0; i < d->nq; i++)
        if (c->setup[i].size)
            virtio_again(d, i);
}

void virtio_activate(struct virtio_dev *d, uint64_t features, const struct virtq_setup *setup)
{
    struct crossing c = { .dev = d, .features = features, .setup = setup };

    loop_call(d->loop, cross_activate, &c);
}

static void cross_reset(void *arg)
{
    struct crossing *c = arg;
    struct virtio_dev *d = c->dev;

    if (d->active && d->cls->quiesce)
        d->cls->quiesce(d);
    d->active = false;
    for (unsigned i = 0; i < d->nq; i++)
        queue_call(queue_stop, &(struct queue_call){ .queue = &d->queue[i] });
    d->features = 0;
    if (d->cls->reset)
        d->cls->reset(d);
    atomic_store(&d->broken, false);
    atomic_store(&d->isr, 0);
}

void virtio_reset(struct virtio_dev *d)
{
    struct crossing c = { .dev = d };

    loop_call(d->loop, cross_reset, &c);
}

static void cross_settle(void *arg)
{
    struct crossing *c = arg;

    struct virtio_dev *d = c->dev;

    for (unsigned i = 0; d->cls->last_words && i < d->nq; i++)
        queue_call(queue_serve, &(struct queue_call){ .queue = &d->queue[i] });
    if (d->active && d->cls->quiesce)
        d->cls->quiesce(d);
}

void virtio_settle(struct virtio_dev *d)
{
    struct crossing c = { .dev = d };

    loop_call(d->loop, cross_settle, &c);
}

static void cross_save(void *arg)
{
    struct crossing *c = arg;
    struct virtio_dev *d = c->dev;

    if (d->active && d->cls->quiesce)
        d->cls->quiesce(d);
    wbuf_u32(c->w, d->active);
    wbuf_u32(c->w, d->isr);
    wbuf_u32(c->w, d->broken);
    wbuf_u32(c->w, d->cfg_gen);
    /* The queues of a broken device only wait for its reset. */
    for (unsigned i = 0; d->active && !d->broken && i < d->nq; i++)
        queue_call(queue_save, &(struct queue_call){ .queue = &d->queue[i], .w = c->w });
    if (d->cls->save)
        d->cls->save(d, c->w);
}

void virtio_save(struct virtio_dev *d, struct wbuf *w)
{
    struct crossing c = { .dev = d, .w = w };

    loop_call(d->loop, cross_save, &c);
}

static void cross_load(void *arg)
{
    struct crossing *c = arg;
    struct virtio_dev *d = c->dev;
    bool active = rbuf_u32(c->r);

    atomic_store(&d->isr, rbuf_u32(c->r));
    atomic_store(&d->broken, rbuf_u32(c->r) != 0);
    d->cfg_gen = rbuf_u32(c->r);
    c->ret = -EPROTO;
    if (active != c->active || (d->broken && !active) ||
        d->isr & ~(VIRTIO_IRQ_QUEUE | VIRTIO_IRQ_CONFIG))
        return;
    if (active) {
        d->features = c->features;
        d->active = true;
    }
    if (active && !d->broken) {
        if (dev_start_queues(d, c->features, c->setup))
            return;
        for (unsigned i = 0; i < d->nq; i++) {
            struct queue_call load = { .queue = &d->queue[i], .r = c->r };

            queue_call(queue_load, &load);
            if (load.ret)
                return;
        }
    }
    c->ret = d->cls->load ? d->cls->load(d, c->r) : 0;
    if (c->ret == 0 && c->r->overrun)
        c->ret = -EPROTO;
    /* The interrupt of what was told last may have been on its way: one too many does no harm. */
    if (c->ret == 0 && (d->isr | d->isr_always))
        dev_raise(d);
    /* Whatever the saved driver had made available is found by looking. */
    for (unsigned i = 0; c->ret == 0 && active && !d->broken && i < d->nq; i++)
        if (c->setup[i].size)
            virtio_again(d, i);
}

int virtio_load(struct virtio_dev *d, bool active, uint64_t features,
                const struct virtq_setup *setup, struct rbuf *r)
{
    struct crossing c = {
        .dev = d, .active = active, .features = features, .setup = setup, .r = r
    };

    loop_call(d->loop, cross_load, &c);
    return c.ret;
}
