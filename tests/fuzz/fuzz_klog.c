/* The search for a dead guest's kernel log in memory that the guest wrote as it liked: rings as
 * Linux writes them, then words, ids and texts where they do not belong.
 *
 * Printable ASCII comes out, no more than asked for, and memory is only read. Where the input made
 * one ring and bent nothing, its last lines are what comes out; so it is after all of it, when
 * memory is wiped and a plain ring is written. */
#include <sys/mman.h>

#include "boot/klog.h"
#include "tests/fuzz/fuzz.h"

#define RAM_LEN  (64 * KIB)
#define PAGE     4096
#define OUT_MAX  4096
#define FIRST_ID UINT64_C(0xfffff000)
#define TEXT_MAX 80

struct fuzz {
    uint8_t *ram;
    uint64_t id;
    size_t at;             /* where the next record goes */
    size_t ring, ring_len; /* the ring it is in */
    bool bent, skipped;
    char said[RAM_LEN];
    size_t n_said;
};

/* A record as printk leaves it: id, text moved down over its prefix, padding. */
static void record_put(struct fuzz *z, const char *text)
{
    char store[TEXT_MAX + 8];
    size_t n = strlen(text);

    snprintf(store, sizeof store, "%c6%s\n", 1, text);
    memmove(store, store + 2, n);
    size_t block = (8 + n + 4 + 7) & ~(size_t)7;

    if (z->at + block > z->ring + z->ring_len) { /* its id alone, and round */
        if (z->at + 8 <= z->ring + z->ring_len)
            memcpy(z->ram + z->at, &z->id, 8);
        z->at = z->ring;
    }
    memcpy(z->ram + z->at, &z->id, 8);
    memcpy(z->ram + z->at + 8, store, n + 4);
    z->at += block;
    z->id++;
    n = (size_t)snprintf(z->said + z->n_said, sizeof z->said - z->n_said, "%s\n", text);
    z->n_said += n < sizeof z->said - z->n_said ? n : 0;
}

static void ring_begin(struct fuzz *z, size_t at, size_t len)
{
    z->ring = z->at = at / 8 * 8;
    z->ring_len = len;
    z->id = FIRST_ID;
    z->n_said = 0;
}

/* A text of the input's length and alphabet, never shorter than what counts as one. */
static void record_any(struct fuzz *z, struct input *in)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz 0123456789[]:";
    char text[TEXT_MAX];
    uint8_t how = in_u8(in);
    size_t n = 5 + how % 60;

    for (size_t i = 0; i < n; i++)
        text[i] = alphabet[(i * (how | 1U) + z->id) % (sizeof alphabet - 1)];
    text[n] = '\0';
    record_put(z, text);
}

static size_t search(struct fuzz *z, char *out, size_t max)
{
    struct gmem m;

    gmem_init_at(&m, z->ram, RAM_LEN);
    memset(out, 1, max + 1);
    mprotect(z->ram, RAM_LEN, PROT_READ); /* a write would be seen */
    size_t n = klog_find(&m, out, max);

    mprotect(z->ram, RAM_LEN, PROT_READ | PROT_WRITE);

    FUZZ_CHECK(n <= max && out[max] == 1, "%zu of %zu bytes", n, max);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(out[i] == '\n' || (out[i] >= ' ' && out[i] < 0x7f), "byte 0x%02x", out[i]);
    return n;
}

/* What came out ends as what was said does; whole lines of it. */
static void check_tail(const struct fuzz *z, const char *out, size_t n)
{
    FUZZ_CHECK(n <= z->n_said && memcmp(z->said + z->n_said - n, out, n) == 0,
               "not what was said last: %.*s", (int)n, out);
}

static void bend(struct fuzz *z, struct input *in)
{
    size_t at = in_u16(in) % (RAM_LEN - 16);
    uint8_t how = in_u8(in);
    uint64_t v;

    if (how & 1)
        at = z->ring + at % 1024; /* near where the ring begins */
    at = how & 2 ? at : at / 8 * 8;
    if (how & 32) /* the last words of memory */
        at = RAM_LEN - 8 * (1 + at % 4);
    switch (how >> 2 & 3) {
    case 0:
        v = FIRST_ID + in_u8(in);
        break;
    case 1:
        v = z->id + in_u8(in) % 32;
        break;
    case 2:
        memset(z->ram + at, how >> 4 | 0x40, 1 + in_u8(in) % 8);
        return;
    default:
        v = in_value(in);
        break;
    }
    memcpy(z->ram + at, &v, 8);
    if (how & 16 && at + 16 <= RAM_LEN)
        memcpy(z->ram + at + 8, "forged\n", 8);
}

/* A ring's worth of records in which every gap and length is the input's. */
static void play(struct fuzz *z, struct input *in)
{
    static char out[OUT_MAX + 1];
    unsigned rings = 0, records = 0;
    size_t max = OUT_MAX;

    while (in->left) {
        uint8_t op = in_u8(in);

        if (rings == 0 || op % 16 == 0) {
            ring_begin(z, 8 * (size_t)(in_u16(in) % 4096), 512U << op / 16 % 5);
            z->bent |= rings++ > 0;
            records = 0;
        } else if (op % 16 < 8) {
            z->skipped = false;
            for (unsigned i = 1 + op / 16; i; i--, records++)
                record_any(z, in);
        } else if (op % 16 == 8) {
            z->bent |= z->skipped;
            z->skipped = true;
            z->id += op / 16 % 8; /* empty records have no block */
        } else if (op % 16 == 9) {
            max = in_u16(in) % OUT_MAX;
        } else if (op % 16 == 10) {
            z->id += op; /* more of them than are put up with */
            z->bent = true;
        } else if (op % 16 == 11) { /* the other one that it passes by: a gap of zeros */
            z->at += op / 16 * 8U;
            z->bent = true;
        } else {
            bend(z, in);
            z->bent = true;
        }
    }
    size_t n = search(z, out, max);

    /* No ring of Linux's is so small that a lap has fewer records than the search puts up with
     * missing, or that neither part of it is long enough to be no chance. */
    if (z->bent || z->ring_len < 2048)
        return;
    check_tail(z, out, n);
    FUZZ_CHECK(records < 8 || max < 256 || n > 0, "a plain log was not found");
}

/* Zeros, and not there: pages that nobody touched are not looked at. */
static void wipe(struct fuzz *z)
{
    FUZZ_CHECK(mprotect(z->ram, RAM_LEN, PROT_READ | PROT_WRITE) == 0 &&
                   madvise(z->ram, RAM_LEN, MADV_DONTNEED) == 0,
               "no fresh memory");
}

static void play_valid(struct fuzz *z)
{
    char out[101];

    wipe(z);
    ring_begin(z, 4096, 4096);
    for (unsigned i = 0; i < 10; i++)
        record_put(z, "a line of the kernel's");
    record_put(z, "Kernel panic - not syncing");
    size_t n = search(z, out, 100);

    FUZZ_CHECK(n > 40, "%zu bytes of a plain log", n);
    check_tail(z, out, n);
}

void fuzz_one(struct input *in)
{
    static struct fuzz z;

    if (!z.ram) { /* an inaccessible page on either side */
        uint8_t *p = mmap(NULL, RAM_LEN + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        FUZZ_CHECK(p != MAP_FAILED, "out of memory");
        z.ram = p + PAGE;
    }
    wipe(&z);
    z.bent = z.skipped = false;
    ring_begin(&z, 0, 512);
    play(&z, in);
    play_valid(&z);
}
