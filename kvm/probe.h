/* `mayfly probe`: can this host's KVM boot Linux? Found out by trying. */
#ifndef MAYFLY_KVM_PROBE_H
#define MAYFLY_KVM_PROBE_H

#include <stdbool.h>
#include <stdio.h>

/* Prints what KVM can do, a line each, and a verdict as the last line. Whether Linux will boot. */
bool probe_run(FILE *out);

#endif
