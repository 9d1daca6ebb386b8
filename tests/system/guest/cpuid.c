/* cpuid: runs on every CPU in turn and says in one line what that CPU tells of the topology:
 *
 *   cpu N apic A count C x2apic X levels TYPE:SHIFT:COUNT ... ext E
 *
 * A and C are leaf 1's initial APIC id and number of ids, X and the levels leaf 0xb's, E the id of
 * leaf 0x8000001e where there is one, else "-". */
#include <cpuid.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static void tell(int cpu)
{
    unsigned a, b, c, d;

    __cpuid(1, a, b, c, d);
    printf("cpu %d apic %u count %u", cpu, b >> 24, d >> 28 & 1 ? b >> 16 & 0xff : 1);
    if (__get_cpuid_max(0, NULL) >= 0xb) {
        __cpuid_count(0xb, 0, a, b, c, d);
        printf(" x2apic %u levels", d);
        for (unsigned i = 0; i < 8; i++) {
            __cpuid_count(0xb, i, a, b, c, d);
            if ((c >> 8 & 0xff) == 0)
                break;
            printf(" %u:%u:%u", c >> 8 & 0xff, a & 0x1f, b & 0xffff);
        }
    } else {
        printf(" x2apic - levels -");
    }
    __cpuid(0, a, b, c, d);
    if (b == signature_AMD_ebx && __get_cpuid_max(0x80000000, NULL) >= 0x8000001e) {
        __cpuid(0x8000001e, a, b, c, d);
        printf(" ext %u\n", a);
    } else {
        printf(" ext -\n");
    }
}

int main(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    for (int cpu = 0; cpu < n; cpu++) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set)) {
            perror("cpuid: sched_setaffinity");
            return 1;
        }
        tell(cpu);
    }
    return 0;
}
