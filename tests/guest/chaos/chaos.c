/* A guest with two vCPUs that fights the monitor: vCPU 0 drives a device, more or less by the
 * rules, and vCPU 1 rewrites everything under it: descriptors, rings, tables, buffers, registers.
 *
 * A phase has one victim among the devices, and so many rounds. While the victim is still under
 * attack the other devices have to work; then vCPU 1 rests, and all of them have to. At the end the
 * canaries around all that was ever offered to a device have to be whole, and the guest powers off
 * with vCPU 1 at it again.
 *
 *   seed=N      what both vCPUs do follows from it (how they interleave does not)
 *   phases=N    the devices take turns as victims
 *   rounds=N    in a phase
 *   input       there is some, all 0xff bytes
 *   alias       see chaos.h; not together with input
 *
 * Last it says "N checked, M bad", with a line for each that was.
 */
#include "chaos.h"
#include "../lib/smp.h"

#define FAULTS_MAX 16

static const struct chaos_device *const devices[] = { &chaos_console, &chaos_power, &chaos_blk,
                                                      &chaos_net };

static struct fault {
    const char *what, *device;
    unsigned phase;
} faults[FAULTS_MAX];

static struct rng bender_rng;
static const struct chaos_device *volatile victim;
static volatile bool resting;

/* --- vCPU 1 --- */

static void bender(unsigned id)
{
    (void)id;
    for (;;) {
        const struct chaos_device *v = victim;

        if (v) {
            v->bend(&bender_rng);
            continue;
        }
        resting = true;
        while (!victim)
            pause();
        resting = false;
    }
}

static void attack(const struct chaos_device *v)
{
    victim = v;
    while (resting)
        pause();
}

static void rest(void)
{
    victim = NULL;
    while (!resting)
        pause();
}

/* --- vCPU 0 --- */

/* Told at the end: while devices are under attack nothing can be printed. */
static void claim(bool good, const char *what, const char *device, unsigned phase)
{
    checked++;
    if (good)
        return;
    if (bad < FAULTS_MAX)
        faults[bad] = (struct fault){ what, device, phase };
    bad++;
}

static void run_phase(unsigned phase, unsigned rounds, struct rng *r)
{
    const struct chaos_device *v = devices[phase % ARRAY_LEN(devices)];

    attack(v);
    for (unsigned i = 0; i < rounds; i++)
        v->drive(r);
    for (size_t i = 0; i < ARRAY_LEN(devices); i++)
        if (devices[i] != v)
            claim(devices[i]->prove(r), "did not work beside", devices[i]->name, phase);
    rest();
    for (size_t i = 0; i < ARRAY_LEN(devices); i++)
        claim(devices[i]->prove(r), "did not work after", devices[i]->name, phase);
}

static void report(uint64_t seed)
{
    uint64_t where = 0;
    unsigned damage = memory_damage(&where);

    checked++;
    if (damage) {
        bad++;
        print("BAD seed %lu: %u words of canaries changed, the first at 0x%lx\n", seed, damage,
              where);
    }
    for (unsigned i = 0; i < bad && i < FAULTS_MAX; i++)
        if (faults[i].what)
            print("BAD seed %lu: %s %s phase %u\n", seed, faults[i].device, faults[i].what,
                  faults[i].phase);
    print("seed %lu: %u checked, %u bad\n", seed, checked, bad);
}

void guest_main(void)
{
    uint64_t seed = option_number("seed", 1);
    unsigned phases = (unsigned)option_number("phases", 2);
    unsigned rounds = (unsigned)option_number("rounds", 20);
    struct rng r;

    alias = option("alias", NULL, 0);
    if (!memory_init() || (alias && option("input", NULL, 0))) {
        print("BAD options: too much memory, or alias with input\n");
        return;
    }
    rng_seed(&r, 2 * seed);
    rng_seed(&bender_rng, 2 * seed + 1);
    intr_start();
    smp_start(1, bender);
    rest();
    for (unsigned i = 0; i < phases; i++)
        run_phase(i, rounds, &r);
    report(seed);
    const struct chaos_device *const lasts[] = { &chaos_blk, &chaos_console, &chaos_net };
    const struct chaos_device *last = lasts[seed % ARRAY_LEN(lasts)];

    attack(last);
    for (unsigned i = 0; i < rounds / 4; i++)
        last->drive(&r);
    power_off();
}
