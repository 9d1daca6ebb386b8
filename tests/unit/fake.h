/* A virtio device that does nothing but write down what it was asked, behind a real transport. Its
 * loop has no thread unless a test starts one, so that everything runs here and in order. */
#ifndef MAYFLY_TESTS_FAKE_H
#define MAYFLY_TESTS_FAKE_H

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"
#include "tests/unit/driver.h"

#define FAKE_ID   0x4d
#define FAKE_NQ   3
#define FAKE_QMAX 64
#define FAKE_CFG  22
#define FAKE_F    (UINT64_C(1) | UINT64_C(1) << 5 | UINT64_C(1) << 40)
#define FAKE_ALL  (FAKE_F | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)
#define FAKE_RAM  (64 * KIB)

struct fake {
    struct virtio_dev dev; /* first: found from its address */
    struct virtio_mmio t;
    struct loop loop;
    struct gmem *mem;
    int activate_ret; /* what activate answers */
    unsigned activated, quiesced, kicked[FAKE_NQ], cfg_written;
    unsigned cfg_off, cfg_n;
    uint8_t cfg_data[8];
};

static inline struct fake *fake_of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct fake, dev);
}

static inline int fake_activate(struct virtio_dev *d)
{
    fake_of(d)->activated++;
    return fake_of(d)->activate_ret;
}

static inline void fake_kick(struct virtio_dev *d, unsigned q)
{
    fake_of(d)->kicked[q]++;
}

static inline void fake_quiesce(struct virtio_dev *d)
{
    fake_of(d)->quiesced++;
}

static inline void fake_cfg_write(struct virtio_dev *d, unsigned off, const void *p, unsigned n)
{
    struct fake *f = fake_of(d);

    f->cfg_written++;
    f->cfg_off = off;
    f->cfg_n = n;
    memcpy(f->cfg_data, p, n);
}

static inline void fake_save(const struct virtio_dev *d, struct wbuf *w)
{
    wbuf_bytes(w, d->cfg, FAKE_CFG);
}

static inline int fake_load(struct virtio_dev *d, struct rbuf *r)
{
    rbuf_bytes(r, d->cfg, FAKE_CFG);
    return 0;
}

static const struct virtio_class fake_class = {
    .name = "fake",
    .last_words = true,
    .id = FAKE_ID,
    .features = FAKE_F,
    .nq = FAKE_NQ,
    .qmax = FAKE_QMAX,
    .cfg_len = FAKE_CFG,
    .activate = fake_activate,
    .kick = fake_kick,
    .quiesce = fake_quiesce,
    .cfg_write = fake_cfg_write,
    .save = fake_save,
    .load = fake_load,
};

static inline void fake_init(struct fake *f, struct gmem *mem)
{
    struct err e;

    *f = (struct fake){ .mem = mem };
    assert_int_equal(loop_init(&f->loop, &e), 0);
    assert_int_equal(virtio_init(&f->dev, &fake_class, "fake", fake_class.nq, mem, &f->loop, &e),
                     0);
    assert_int_equal(virtio_mmio_init(&f->t, &f->dev, &e), 0);
}

static inline void fake_fini(struct fake *f)
{
    virtio_mmio_fini(&f->t);
    virtio_fini(&f->dev);
    loop_fini(&f->loop);
}

/* Memory for rings, zeroed. */
static inline void fake_mem(struct gmem *m)
{
    void *host = calloc(1, FAKE_RAM);

    assert_non_null(host);
    gmem_init_at(m, host, FAKE_RAM);
}

/* Takes an eventfd's count. */
static inline uint64_t drain(int fd)
{
    uint64_t n = 0;

    if (read(fd, &n, sizeof n) < 0)
        assert_int_equal(errno, EAGAIN);
    return n;
}

/* Nobody shall see the lines that broken drivers make; but they are made. */
static inline int log_to_nowhere(void **state)
{
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    return unit_watchdog(state);
}

#endif
