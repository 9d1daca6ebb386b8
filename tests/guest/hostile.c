/* A driver that breaks every rule of the queue, one at a time. Each breach has to end with
 * DEVICE_NEEDS_RESET and a configuration interrupt, the queue untouched, and after a reset the
 * console works again, as the line that it prints shows. only=NAME runs one case. Input has to be
 * waiting for the receive queue's cases, and with -m 3G one chain gets as long as it should. */
#include "lib/virtio.h"

#define HOLE     UINT64_C(0xc0000000) /* behind 3 GiB of RAM, and no device */
#define PATIENCE 5000

static uint8_t data[64];
static struct desc table[2 * QUEUE_SIZE] __attribute__((aligned(16)));

static struct desc buffer(uint16_t flags, uint16_t next)
{
    return (struct desc){ (uintptr_t)data, sizeof data, flags, next };
}

static struct desc indirect(uint32_t len)
{
    return (struct desc){ (uintptr_t)table, len, DESC_INDIRECT, 0 };
}

static void send(struct vq *q, uint16_t head)
{
    queue_offer(q, head);
    set_reg(QUEUE_NOTIFY, q->index);
}

/* One descriptor, transmitted. */
static void send_one(struct desc d)
{
    vq[TX].desc[0] = d;
    send(&vq[TX], 0);
}

/* --- queues that can't be used: set up instead of the usual transmit queue --- */

static uint64_t place(const void *p)
{
    return (uintptr_t)p;
}

static void set_tx(uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
    queue_set(TX, size, desc ? desc : place(vq[TX].desc), avail ? avail : place(vq[TX].avail),
              used ? used : place(vq[TX].used));
}

static void size_3(void)
{
    set_tx(3, 0, 0, 0);
}

static void size_0(void)
{
    set_tx(0, 0, 0, 0);
}

static void size_128(void)
{
    set_tx(128, 0, 0, 0);
}

static void size_wraps(void)
{
    set_tx(0x10010, 0, 0, 0);
}

static void desc_unaligned(void)
{
    set_tx(QUEUE_SIZE, place(vq[TX].desc) + 8, 0, 0);
}

static void desc_in_hole(void)
{
    set_tx(QUEUE_SIZE, HOLE, 0, 0);
}

static void desc_on_device(void)
{
    set_tx(QUEUE_SIZE, CONSOLE_BASE, 0, 0);
}

static void desc_half_out(void)
{
    set_tx(QUEUE_SIZE, HOLE - 128, 0, 0);
}

static void desc_wraps(void)
{
    set_tx(QUEUE_SIZE, UINT64_MAX - 15, 0, 0);
}

static void avail_odd(void)
{
    set_tx(QUEUE_SIZE, 0, place(vq[TX].avail) + 1, 0);
}

static void avail_half_out(void)
{
    set_tx(QUEUE_SIZE, 0, HOLE - 4, 0);
}

static void avail_event_out(void)
{
    set_tx(QUEUE_SIZE, 0, HOLE - 4 - UINT64_C(2) * QUEUE_SIZE, 0);
}

static void used_unaligned(void)
{
    set_tx(QUEUE_SIZE, 0, 0, place(vq[TX].used) + 2);
}

static void used_in_hole(void)
{
    set_tx(QUEUE_SIZE, 0, 0, HOLE);
}

/* --- rings that break a rule --- */

static void head_range(void)
{
    send(&vq[TX], QUEUE_SIZE);
}

static void head_far(void)
{
    send(&vq[TX], 0xffff);
}

static void index_jumps(void)
{
    vq[TX].avail->idx = QUEUE_SIZE + 1;
    set_reg(QUEUE_NOTIFY, TX);
}

static void index_back(void)
{
    vq[TX].avail->idx = 0xffff;
    set_reg(QUEUE_NOTIFY, TX);
}

static void next_range(void)
{
    send_one(buffer(DESC_NEXT, QUEUE_SIZE));
}

static void loop_self(void)
{
    send_one(buffer(DESC_NEXT, 0));
}

static void loop_two(void)
{
    vq[TX].desc[1] = buffer(DESC_NEXT, 0);
    send_one(buffer(DESC_NEXT, 1));
}

/* Sixteen in the table behind one in the ring. */
static void chain_long(void)
{
    for (uint16_t i = 0; i < QUEUE_SIZE; i++)
        table[i] = buffer(i < QUEUE_SIZE - 1 ? DESC_NEXT : 0, i + 1);
    vq[TX].desc[1] = indirect(QUEUE_SIZE * sizeof table[0]);
    send_one(buffer(DESC_NEXT, 1));
}

static void chain_huge(void)
{
    for (uint16_t i = 0; i < 3; i++)
        vq[TX].desc[i] = (struct desc){ 0, 0x60000000, i < 2 ? DESC_NEXT : 0, i + 1 };
    send(&vq[TX], 0);
}

static void order(void)
{
    vq[TX].desc[1] = buffer(0, 0);
    send_one(buffer(DESC_WRITE | DESC_NEXT, 1));
}

static void order_empty(void)
{
    vq[TX].desc[1] = buffer(0, 0);
    send_one((struct desc){ 0, 0, DESC_WRITE | DESC_NEXT, 1 });
}

static void buffer_in_hole(void)
{
    send_one((struct desc){ .addr = HOLE, .len = 1 });
}

static void buffer_half_out(void)
{
    send_one((struct desc){ .addr = HOLE - 8, .len = 16 });
}

static void buffer_wraps(void)
{
    send_one((struct desc){ .addr = UINT64_MAX - 7, .len = 16 });
}

static void buffer_device(void)
{
    send_one((struct desc){ .addr = CONSOLE_BASE, .len = 16 });
}

static void table_uninvited(void)
{
    table[0] = buffer(0, 0);
    send_one(indirect(sizeof table[0]));
}

static void table_nested(void)
{
    table[0] = indirect(sizeof table[0]);
    send_one(indirect(sizeof table[0]));
}

static void table_and_next(void)
{
    struct desc d = indirect(sizeof table[0]);

    d.flags |= DESC_NEXT;
    table[0] = buffer(0, 0);
    send_one(d);
}

static void table_empty(void)
{
    send_one(indirect(0));
}

static void table_odd(void)
{
    send_one(indirect(sizeof table[0] + 1));
}

static void table_large(void)
{
    send_one(indirect((QUEUE_SIZE + 1) * sizeof table[0]));
}

static void table_enormous(void)
{
    send_one(indirect(0xfffffff0));
}

static void table_in_hole(void)
{
    struct desc d = indirect(sizeof table[0]);

    d.addr = HOLE;
    send_one(d);
}

static void table_half_out(void)
{
    struct desc d = indirect(2 * sizeof table[0]);

    d.addr = HOLE - sizeof table[0];
    send_one(d);
}

static void table_next_range(void)
{
    table[0] = buffer(DESC_NEXT, 2);
    send_one(indirect(2 * sizeof table[0]));
}

static void table_loop(void)
{
    table[0] = buffer(DESC_NEXT, 0);
    send_one(indirect(sizeof table[0]));
}

static void rx_readable(void)
{
    vq[RX].desc[0] = buffer(0, 0);
    send(&vq[RX], 0);
}

static void rx_no_room(void)
{
    vq[RX].desc[0] = (struct desc){ (uintptr_t)data, 0, DESC_WRITE, 0 };
    send(&vq[RX], 0);
}

static void rx_in_hole(void)
{
    vq[RX].desc[0] = (struct desc){ HOLE, 64, DESC_WRITE, 0 };
    send(&vq[RX], 0);
}

static void rx_range(void)
{
    send(&vq[RX], QUEUE_SIZE);
}

/* --- odd, but allowed --- */

static void fine_empty(void)
{
    send_one((struct desc){ .addr = (uintptr_t)data });
}

static void fine_writable(void)
{
    send_one(buffer(DESC_WRITE, 0));
}

static void fine_flags(void)
{
    vq[TX].avail->flags = 0xfffe;
    send_one(buffer(0xfff8, 0xffff));
}

static void fine_no_work(void)
{
    for (unsigned i = 0; i < 20; i++)
        set_reg(QUEUE_NOTIFY, i % 2);
}

/* 2.7.5.3.2: the flag WRITE of the descriptor of a table means nothing. */
static void fine_table_write(void)
{
    struct desc d = indirect(sizeof table[0]);

    d.flags |= DESC_WRITE;
    table[0] = (struct desc){ .addr = (uintptr_t)data };
    send_one(d);
}

/* The rings themselves as a buffer: sent, and written over by input. */
static void fine_rings(void)
{
    static const char none;

    vq[TX].desc[1] = (struct desc){ (uintptr_t)&none, 0, 0, 0 };
    send_one((struct desc){ place(vq[TX].used), 0, DESC_NEXT, 1 });
    vq[RX].desc[0] = (struct desc){ place(vq[RX].used), sizeof *vq[RX].used, DESC_WRITE, 0 };
    send(&vq[RX], 0);
}

struct breach {
    const char *name;
    void (*setup)(void);
    void (*ring)(void);
    uint64_t features;
    bool fine;
};

#define SETUP(f)                                                                                   \
    {                                                                                              \
        .name = #f, .setup = (f)                                                                   \
    }
#define RING(f)                                                                                    \
    {                                                                                              \
        .name = #f, .ring = (f)                                                                    \
    }
#define INDIRECT(f)                                                                                \
    {                                                                                              \
        .name = #f, .ring = (f), .features = F_INDIRECT                                            \
    }
#define FINE(f)                                                                                    \
    {                                                                                              \
        .name = #f, .ring = (f), .features = F_INDIRECT, .fine = true                              \
    }

static const struct breach breaches[] = {
    SETUP(size_3),
    SETUP(size_0),
    SETUP(size_128),
    SETUP(size_wraps),
    SETUP(desc_unaligned),
    SETUP(desc_in_hole),
    SETUP(desc_on_device),
    SETUP(desc_half_out),
    SETUP(desc_wraps),
    SETUP(avail_odd),
    SETUP(avail_half_out),
    SETUP(avail_event_out),
    SETUP(used_unaligned),
    SETUP(used_in_hole),
    RING(head_range),
    RING(head_far),
    RING(index_jumps),
    RING(index_back),
    RING(next_range),
    RING(loop_self),
    RING(loop_two),
    INDIRECT(chain_long),
    RING(chain_huge),
    RING(order),
    RING(order_empty),
    RING(buffer_in_hole),
    RING(buffer_half_out),
    RING(buffer_wraps),
    RING(buffer_device),
    RING(table_uninvited),
    INDIRECT(table_nested),
    INDIRECT(table_and_next),
    INDIRECT(table_empty),
    INDIRECT(table_odd),
    INDIRECT(table_large),
    INDIRECT(table_enormous),
    INDIRECT(table_in_hole),
    INDIRECT(table_half_out),
    INDIRECT(table_next_range),
    INDIRECT(table_loop),
    RING(rx_readable),
    RING(rx_no_room),
    RING(rx_in_hole),
    RING(rx_range),
    FINE(fine_empty),
    FINE(fine_writable),
    FINE(fine_flags),
    FINE(fine_no_work),
    FINE(fine_table_write),
    FINE(fine_rings),
};

static bool wait_broken(void)
{
    for (unsigned i = 0; i < PATIENCE; i++)
        if (reg(STATUS) & NEEDS_RESET)
            return true;
    return false;
}

/* What a breach has to lead to; each that it did not is named. */
static void judge(const struct breach *b, unsigned before)
{
    uint16_t used = vq[TX].used->idx;

    if (!wait_broken())
        check("NEEDS_RESET", 0, 1);
    check("interrupt status", reg(INTERRUPT_STATUS) & IRQ_CONFIG, IRQ_CONFIG);
    __asm__ volatile("sti");
    for (unsigned i = 0; i < PATIENCE && interrupts == before; i++)
        pause();
    __asm__ volatile("cli");
    check("interrupted", interrupts != before, true);
    set_reg(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    for (unsigned i = 0; i < 10; i++)
        set_reg(QUEUE_NOTIFY, i % 2);
    check("it waits for a reset", reg(STATUS), 15 | NEEDS_RESET);
    if (b->ring)
        check("nothing was used", used, 0);
}

static void run(const struct breach *b)
{
    unsigned before = interrupts;

    console_reset();
    console_negotiate(b->features | F_VERSION_1);
    queue_set_usual(RX);
    if (!b->setup)
        queue_set_usual(TX);
    else
        b->setup();
    console_driver_ok();
    if (b->ring)
        b->ring();
    if (b->fine) {
        for (unsigned i = 0; i < 200; i++)
            pause();
        check("it still runs", reg(STATUS), 15);
    } else {
        judge(b, before);
    }
    console_reset();
    check("after a reset", reg(INTERRUPT_STATUS), 0);
    console_start(0);
    print("%s: works again\n", b->name);
}

void guest_main(void)
{
    char only[24] = "";

    option("only", only, sizeof only);
    intr_start();
    console_start(0);
    for (size_t i = 0; i < ARRAY_LEN(breaches); i++)
        if (!*only || strcmp(only, breaches[i].name) == 0)
            run(&breaches[i]);
    print("%u checked, %u bad\n", checked, bad);
}
