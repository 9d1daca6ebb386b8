/* The AML encoder; see aml.h.
 *
 * A PkgLength counts itself and takes 1 to 4 bytes, so it is inserted when its object is closed and
 * what is inside is moved up. Tables are small; that costs nothing worth a second pass.
 */
#include "boot/aml.h"

#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
    OP_NOTIFY = 0x86,
};

static void aml_op(struct wbuf *a, uint8_t op)
{
    wbuf_bytes(a, &op, 1);
}

void aml_name(struct wbuf *a, const char name[4])
{
    aml_op(a, OP_NAME);
    wbuf_bytes(a, name, 4);
}

void aml_int(struct wbuf *a, uint32_t v)
{
    if (v <= 1) {
        aml_op(a, v ? OP_ONE : OP_ZERO);
        return;
    }
    size_t len = v <= UINT8_MAX ? 1 : v <= UINT16_MAX ? 2 : 4;

    aml_op(a, len == 1 ? OP_BYTE : len == 2 ? OP_WORD : OP_DWORD);
    wbuf_bytes(a, &v, len);
}

void aml_string(struct wbuf *a, const char *s)
{
    aml_op(a, OP_STRING);
    wbuf_bytes(a, s, strlen(s) + 1);
}

void aml_buffer(struct wbuf *a, const void *data, size_t len)
{
    aml_op(a, OP_BUFFER);
    size_t mark = a->len;

    aml_int(a, (uint32_t)len);
    wbuf_bytes(a, data, len);
    aml_close(a, mark);
}

size_t aml_scope(struct wbuf *a, const char name[4])
{
    aml_op(a, OP_SCOPE);
    size_t mark = a->len;

    wbuf_bytes(a, "\\", 1);
    wbuf_bytes(a, name, 4);
    return mark;
}

size_t aml_device(struct wbuf *a, const char name[4])
{
    aml_op(a, OP_EXT);
    aml_op(a, OP_EXT_DEVICE);
    size_t mark = a->len;

    wbuf_bytes(a, name, 4);
    return mark;
}

size_t aml_package(struct wbuf *a, uint8_t elements)
{
    aml_op(a, OP_PACKAGE);
    size_t mark = a->len;

    aml_op(a, elements);
    return mark;
}

size_t aml_method(struct wbuf *a, const char name[4], uint8_t args)
{
    aml_op(a, OP_METHOD);
    size_t mark = a->len;

    wbuf_bytes(a, name, 4);
    aml_op(a, args); /* not serialized */
    return mark;
}

void aml_notify(struct wbuf *a, const char name[4], uint8_t value)
{
    aml_op(a, OP_NOTIFY);
    wbuf_bytes(a, name, 4);
    aml_int(a, value);
}

void aml_close(struct wbuf *a, size_t mark)
{
    uint8_t pkg[4];
    size_t inner = a->len - mark, n = 1;

    /* One byte holds 6 bits. With n more, the first holds 4 and their count. */
    if (inner + n > 0x3f)
        for (n = 2; n < sizeof pkg && inner + n >= (size_t)1 << (4 + 8 * (n - 1)); n++)
            ;
    size_t len = inner + n;

    pkg[0] = (uint8_t)(n == 1 ? len : (n - 1) << 6 | (len & 0xf));
    for (size_t i = 1; i < n; i++)
        pkg[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
    wbuf_bytes(a, pkg, n); /* makes room, or says that there is none */
    if (a->overflow || len >= (size_t)1 << 28) {
        a->overflow = true;
        return;
    }
    memmove(a->data + mark + n, a->data + mark, inner);
    memcpy(a->data + mark, pkg, n);
}
