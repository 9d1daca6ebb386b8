/* Every vCPU sets the device up, kicks it, prints and resets it again, all at the same time: none
 * may wait for ever, and afterwards the console works. */
#include "lib/smp.h"
#include "lib/virtio.h"

#define ROUNDS 60

static volatile unsigned finished;

static void disturb(void)
{
    static uint8_t rings[4096] __attribute__((aligned(4096)));
    uint64_t page = (uintptr_t)rings;

    for (unsigned i = 0; i < ROUNDS; i++) {
        set_reg(STATUS, 0);
        set_reg(STATUS, ACKNOWLEDGE);
        set_reg(STATUS, ACKNOWLEDGE | DRIVER);
        set_reg(DRIVER_FEATURES_SEL, 1);
        set_reg(DRIVER_FEATURES, 1);
        set_reg(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        queue_set(i % 2, QUEUE_SIZE, page, page + 1024, page + 2048);
        set_reg(QUEUE_NOTIFY, TX);
        set_reg(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        set_reg(QUEUE_NOTIFY, i % 3);
        set_reg(CONFIG_EMERGENCY, '.');
        set_reg(INTERRUPT_ACK, reg(INTERRUPT_STATUS));
    }
    __atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

static void other(unsigned id)
{
    (void)id;
    disturb();
}

void guest_main(void)
{
    unsigned cpus = (unsigned)option_number("cpus", 1);

    for (unsigned id = 1; id < cpus; id++)
        smp_start(id, other);
    disturb();
    while (finished < cpus)
        pause();
    console_start(0);
    print("\n%u vCPUs done\n", finished);
}
