/* A little AML encoder over core's writer, in which the ACPI tables are built. ACPI 6.3,
 * chapter 20. What did not fit shows in the writer's overflow, once, at the end. */
#ifndef MAYFLY_BOOT_AML_H
#define MAYFLY_BOOT_AML_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* Names are 4 characters, as in the grammar's NameSeg. */
void aml_name(struct wbuf *a, const char name[4]); /* Name (name, what comes next) */
void aml_int(struct wbuf *a, uint32_t v);
void aml_string(struct wbuf *a, const char *s);
void aml_buffer(struct wbuf *a, const void *data, size_t len); /* at most UINT32_MAX bytes */
void aml_notify(struct wbuf *a, const char name[4], uint8_t value);

/* Objects with a PkgLength: open gives a mark for aml_close(), what comes between is inside. */
size_t aml_scope(struct wbuf *a, const char name[4]); /* at the root */
size_t aml_device(struct wbuf *a, const char name[4]);
size_t aml_package(struct wbuf *a, uint8_t elements);
size_t aml_method(struct wbuf *a, const char name[4], uint8_t args);
void aml_close(struct wbuf *a, size_t mark);

#endif
