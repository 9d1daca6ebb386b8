/* Numbers, sizes and durations as people write them.
 *
 * Each function reads one whole NUL-terminated text: no blanks, no sign, no fraction, decimal
 * digits and then at most one unit. They return 0, -EINVAL when the text is not of that form, or
 * -ERANGE when the value does not fit; then *out is untouched. Any thread; no state.
 */
#ifndef MAYFLY_CONFIG_UNITS_H
#define MAYFLY_CONFIG_UNITS_H

#include <stdint.h>

/* "64" -> 64 */
int units_number(const char *text, uint64_t *out);

/* Bytes. K, M, G or T in either case, alone or followed by "iB", are powers of 1024; a number alone
 * counts MiB, as with QEMU's and kvmtool's -m and Firecracker's mem_size_mib. "MB" is refused: to
 * some it means 10^6. */
int units_size(const char *text, uint64_t *out);

/* The same, but a number alone counts bytes: of rates, where nobody thinks in MiB. */
int units_bytes(const char *text, uint64_t *out);

/* Milliseconds. "ms", "s", "m", "h"; a number alone counts seconds, as with timeout(1). At most
 * INT64_MAX. */
int units_duration(const char *text, uint64_t *out);

#endif
