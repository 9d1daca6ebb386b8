/* libFuzzer's side of fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/log.h"
#include "core/num.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

uint64_t in_value(struct input *in)
{
    static const uint64_t edges[] = {
        0,
        0x10,
        0x7f,
        0xff,
        0x7fff,
        0xffff,
        0x7fffffff,
        0xffffffff,
        INT64_MAX,
        UINT64_MAX,
        GIB,
        3 * GIB,
        4 * GIB,
        1 * MIB,
        2 * MIB,
        64 * KIB,
        4 * KIB,
        UINT64_MAX - 4095,
        16,
        1024,
        0x20000000,
        0xd0000000,
        UINT64_MAX / 2,
        512,
    };
    uint8_t how = in_u8(in);
    unsigned off = how >> 3 & 3; /* 0: none, +1, -1, +16 */
    uint64_t v;

    switch (how & 7) {
    case 0:
    case 1:
        v = in_u8(in);
        break;
    case 2:
        v = UINT64_C(1) << in_below(in, 64);
        break;
    case 3:
    case 4:
        v = edges[in_below(in, ARRAY_LEN(edges))];
        break;
    case 5:
        v = in_u16(in);
        break;
    case 6:
        v = in_u32(in);
        break;
    default:
        v = in_u64(in);
        break;
    }
    return off == 1 ? v + 1 : off == 2 ? v - 1 : off == 3 ? v + 16 : v;
}

void in_text(struct input *in, char *buf, size_t max)
{
    size_t n = in_below(in, (unsigned)max);

    n = n < in->left ? n : in->left;
    in_bytes(in, buf, n);
    buf[n] = '\0';
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    /* The helpers of the unit tests assert by cmocka, which then aborts. */
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    signal(SIGPIPE, SIG_IGN); /* as main does */
    /* Lines are made, at every level, and nobody reads them. */
    log_init(open("/dev/null", O_WRONLY | O_CLOEXEC), LOG_DEBUG);
    return 0;
}

/* The lowest free descriptor: a run that leaves one open moves it. */
static int lowest_fd(void)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD, 0), number = fd;

    close(fd);
    return number;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool warm; /* the first run opens what the target keeps */
    struct input in = { .p = data, .left = size };
    int before = lowest_fd();

    fuzz_one(&in);
    FUZZ_CHECK(!warm || lowest_fd() == before, "descriptor %d is still open", before);
    warm = true;
    return 0;
}
