/* Where the probe's guest has its things, for C and assembly. All below 64 KiB. */
#ifndef MAYFLY_KVM_PROBE_GUEST_H
#define MAYFLY_KVM_PROBE_GUEST_H

#define PROBE_PML4    0x1000
#define PROBE_PDPT    0x2000
#define PROBE_GDT     0x3000
#define PROBE_IDT     0x4000
#define PROBE_IDT_LEN 64 /* vectors 0 to 3 */
#define PROBE_PD      0x5000
#define PROBE_CODE    0x8000
#define PROBE_STACK   0x7ff0
#define PROBE_PASSED  0x600d

#endif
