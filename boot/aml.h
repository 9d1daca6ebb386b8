/* A bounded buffer that ACPI tables and their AML are built in, and a little AML encoder. ACPI 6.3,
 * chapter 20. */
#ifndef MAYFLY_BOOT_AML_H
#define MAYFLY_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *p; /* the caller's */
    size_t len, cap;
    bool full; /* something did not fit; then the content is rubbish */
};

void aml_bytes(struct aml *a, const void *data, size_t len);

/* Names are 4 characters, as in the grammar's NameSeg. */
void aml_name(struct aml *a, const char name[4]); /* Name (name, what comes next) */
void aml_int(struct aml *a, uint32_t v);
void aml_string(struct aml *a, const char *s);
void aml_buffer(struct aml *a, const void *data, size_t len); /* at most UINT32_MAX bytes */
void aml_notify(struct aml *a, const char name[4], uint8_t value);

/* Objects with a PkgLength: open gives a mark for aml_close(), what comes between is inside. */
size_t aml_scope(struct aml *a, const char name[4]); /* at the root */
size_t aml_device(struct aml *a, const char name[4]);
size_t aml_package(struct aml *a, uint8_t elements);
size_t aml_method(struct aml *a, const char name[4], uint8_t args);
void aml_close(struct aml *a, size_t mark);

#endif
