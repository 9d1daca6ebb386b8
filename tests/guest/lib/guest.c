/* The beginning, the end, and text; see guest.h. */
#include "guest.h"

#include "virtio.h"

const uint8_t *zero_page, *start_info;
const char *command_line = "";
unsigned checked, bad;
bool console_started;

void guest_start(const uint8_t *zero, const uint8_t *info);

void guest_start(const uint8_t *zero, const uint8_t *info)
{
    zero_page = zero;
    start_info = info;
    if (zero) /* boot.rst: cmd_line_ptr */
        command_line = at(read32((uintptr_t)zero + 0x228));
    else /* Xen's start_info.h: cmdline_paddr */
        command_line = at(read64((uintptr_t)info + 24));
    guest_main();
    power_off();
}

void power_off(void)
{
    out8(0x600, 0x20 | 5 << 2); /* ACPI's sleep control register: SLP_EN, S5 */
    halt();
}

void halt(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* --- memory; the compiler calls these --- */

void *memcpy(void *to, const void *from, size_t n)
{
    void *p = to;

    __asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void *memset(void *to, int c, size_t n)
{
    void *p = to;

    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(c) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;

    for (; n && *p == *q; n--, p++, q++)
        ;
    return n ? *p - *q : 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return (uint8_t)*a - (uint8_t)*b;
}

/* --- the command line --- */

bool option(const char *word, char *value, size_t size)
{
    size_t len = strlen(word), n = 0;

    for (const char *s = command_line; *s; s++) {
        if ((s > command_line && s[-1] != ' ') || memcmp(s, word, len) != 0)
            continue;
        if (s[len] != '=' && s[len] != ' ' && s[len] != 0)
            continue;
        if (!value)
            return true;
        if (s[len] == '=')
            for (s += len + 1; *s && *s != ' ' && n + 1 < size; s++)
                value[n++] = *s;
        value[n] = 0;
        return true;
    }
    return false;
}

uint64_t option_number(const char *word, uint64_t otherwise)
{
    char text[24];
    uint64_t v = 0;

    if (!option(word, text, sizeof text))
        return otherwise;
    for (const char *s = text; *s >= '0' && *s <= '9'; s++)
        v = v * 10 + (uint64_t)(*s - '0');
    return v;
}

/* --- text --- */

struct text {
    char buf[512];
    size_t n;
};

static void text_char(struct text *t, char c)
{
    if (t->n < sizeof t->buf)
        t->buf[t->n++] = c;
}

static void text_number(struct text *t, uint64_t v, unsigned base, unsigned width)
{
    char digits[24];
    unsigned n = 0;

    do
        digits[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    for (; width > n; width--)
        text_char(t, '0');
    while (n)
        text_char(t, digits[--n]);
}

/* One conversion, the percent sign behind us. */
static const char *text_convert(struct text *t, const char *f, va_list *ap)
{
    unsigned width = 0;
    bool wide = false;

    for (; *f >= '0' && *f <= '9'; f++)
        width = width * 10 + (unsigned)(*f - '0');
    for (; *f == 'l'; f++)
        wide = true;
    if (*f == 's') {
        for (const char *s = va_arg(*ap, const char *); *s; s++)
            text_char(t, *s);
    } else if (*f == 'c') {
        text_char(t, (char)va_arg(*ap, int));
    } else if (*f == 'd') {
        int64_t v = wide ? va_arg(*ap, int64_t) : va_arg(*ap, int);

        if (v < 0)
            text_char(t, '-');
        text_number(t, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, width);
    } else {
        uint64_t v = wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);

        text_number(t, v, *f == 'x' ? 16 : 10, width);
    }
    return f;
}

void print(const char *fmt, ...)
{
    struct text t = { .n = 0 };
    va_list ap;

    va_start(ap, fmt);
    for (; *fmt; fmt++)
        if (*fmt == '%')
            fmt = text_convert(&t, fmt + 1, &ap);
        else
            text_char(&t, *fmt);
    va_end(ap);
    if (console_started)
        console_write(t.buf, t.n);
    else
        for (size_t i = 0; i < t.n; i++)
            set_reg(CONFIG_EMERGENCY, (uint8_t)t.buf[i]);
}

void check(const char *what, uint64_t got, uint64_t want)
{
    checked++;
    if (got == want)
        return;
    bad++;
    print("BAD %s: 0x%lx, not 0x%lx\n", what, got, want);
}
