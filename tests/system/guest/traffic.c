/* traffic: TCP and UDP whose every byte is known, between a guest and the host; both run this.
 *
 *   traffic serve PORT               answers any number of `up` and `down`, for ever
 *   traffic up ADDRESS PORT BYTES SEED
 *   traffic down ADDRESS PORT BYTES SEED
 *       moves that many bytes to the server or from it, over one connection. Both ends make a
 * CRC32C of what went through their hands, and the receiver's is told to the sender or the sender's
 *       to the receiver: "up 16777216 bytes, crc32c 0123abcd", and status 0, when they are the
 * same. traffic crc BYTES SEED           the same line's sum, from the bytes alone traffic storm
 * PORT ADDRESS PORT SECONDS SIZE datagrams from our port to that one as fast as they go, of up to
 * SIZE bytes, for SECONDS, while it takes what comes, and for two seconds more: "storm: sent 1000,
 * received 900, bad 0". Each has a CRC32C of its own.
 *
 * ADDRESS is IPv4 or IPv6. What moves nothing for LIMIT seconds has failed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <nmmintrin.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 60, CHUNK = 1 << 16, DATAGRAM_MAX = 65507 };

struct request {
    char way[8]; /* "up" or "down", for the client */
    uint64_t len, seed;
};

struct stream {
    uint64_t left, x; /* bytes to come, the generator's state */
};

struct datagram {
    uint32_t crc; /* of what follows it */
    uint16_t len; /* of all of it */
    uint16_t fill;
    uint64_t seed;
};

static uint64_t buf[CHUNK / 8];

__attribute__((noreturn)) static void die(const char *what)
{
    printf("traffic: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

__attribute__((target("sse4.2"))) static uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    const uint8_t *s = p;
    uint64_t c = ~crc;

    for (; len >= 8; len -= 8, s += 8) {
        uint64_t word;

        memcpy(&word, s, 8);
        c = _mm_crc32_u64(c, word);
    }
    for (; len; len--, s++)
        c = _mm_crc32_u8((uint32_t)c, *s);
    return ~(uint32_t)c;
}

/* len is a multiple of 8. */
static void fill(uint64_t *p, size_t len, uint64_t *x)
{
    for (size_t i = 0; i < len / 8; i++) {
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        p[i] = *x;
    }
}

/* The next bytes of the stream, in buf; how many. */
static size_t stream_next(struct stream *s)
{
    size_t n = s->left < sizeof buf ? (size_t)s->left : sizeof buf;

    fill(buf, (n + 7) & ~(size_t)7, &s->x);
    s->left -= n;
    return n;
}

static struct stream stream_new(uint64_t len, uint64_t seed)
{
    return (struct stream){ .left = len, .x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) };
}

/* --- TCP ---------------------------------------------------------------------------------- */

static void write_all(int fd, const void *p, size_t len)
{
    for (size_t off = 0; off < len;) {
        ssize_t n = send(fd, (const char *)p + off, len - off, MSG_NOSIGNAL);

        if (n < 0)
            die("send");
        off += (size_t)n;
    }
}

static void read_all(int fd, void *p, size_t len)
{
    for (size_t off = 0; off < len;) {
        ssize_t n = recv(fd, (char *)p + off, len - off, 0);

        if (n == 0)
            errno = ECONNRESET;
        if (n <= 0)
            die("recv");
        off += (size_t)n;
    }
}

/* Sends that much, or receives it. Its sum. */
static uint32_t give(int fd, uint64_t len, uint64_t seed)
{
    struct stream s = stream_new(len, seed);
    uint32_t crc = 0;

    while (s.left) {
        size_t n = stream_next(&s);

        crc = crc32c(crc, buf, n);
        write_all(fd, buf, n);
    }
    return crc;
}

static uint32_t take(int fd, uint64_t len)
{
    uint32_t crc = 0;

    while (len) {
        size_t n = len < sizeof buf ? (size_t)len : sizeof buf;

        read_all(fd, buf, n);
        crc = crc32c(crc, buf, n);
        len -= n;
    }
    return crc;
}

static void limits(int fd)
{
    struct timeval limit = { .tv_sec = LIMIT };

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
        die("setsockopt");
}

/* One client. It says the last word: then all is there. */
static void answer(int fd)
{
    struct request r;
    uint32_t crc;
    char bye;

    limits(fd);
    read_all(fd, &r, sizeof r);
    crc = r.way[0] == 'u' ? take(fd, r.len) : give(fd, r.len, r.seed);
    write_all(fd, &crc, sizeof crc);
    read_all(fd, &bye, 1);
}

static void address(const char *name, const char *port, struct sockaddr_storage *sa, socklen_t *len)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV }, *found;

    if (getaddrinfo(name, port, &hints, &found) != 0) {
        errno = EINVAL;
        die(name);
    }
    memcpy(sa, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
}

static int open_any(int type, const char *port, int family)
{
    struct sockaddr_storage sa;
    socklen_t len;
    int one = 1, off = 0, fd = socket(family, type | SOCK_CLOEXEC, 0);

    address(family == AF_INET6 ? "::" : "0.0.0.0", port, &sa, &len);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) ||
        bind(fd, (struct sockaddr *)&sa, len) < 0)
        die(port);
    return fd;
}

static int serve(char **arg)
{
    int listener = open_any(SOCK_STREAM, arg[0], AF_INET6);

    if (listen(listener, 64) < 0)
        die("listen");
    signal(SIGCHLD, SIG_IGN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            die("accept");
        if (fork() == 0) {
            close(listener);
            answer(fd);
            return 0;
        }
        close(fd);
    }
}

static int move(const char *way, char **arg)
{
    struct request r = { .len = strtoull(arg[2], NULL, 0), .seed = strtoull(arg[3], NULL, 0) };
    struct sockaddr_storage sa;
    socklen_t len;
    uint32_t here, there;

    address(arg[0], arg[1], &sa, &len);
    snprintf(r.way, sizeof r.way, "%s", way);
    int fd = socket(sa.ss_family, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket");
    limits(fd);
    if (connect(fd, (struct sockaddr *)&sa, len) < 0)
        die("connect");
    write_all(fd, &r, sizeof r);
    here = way[0] == 'u' ? give(fd, r.len, r.seed) : take(fd, r.len);
    read_all(fd, &there, sizeof there);
    write_all(fd, "", 1);
    if (here != there) {
        printf("%s %" PRIu64 " bytes, DIFFERENT: crc32c here %08x, there %08x\n", way, r.len, here,
               there);
        return 1;
    }
    printf("%s %" PRIu64 " bytes, crc32c %08x\n", way, r.len, here);
    return 0;
}

static int sum(char **arg)
{
    struct stream s = stream_new(strtoull(arg[0], NULL, 0), strtoull(arg[1], NULL, 0));
    uint32_t crc = 0;

    while (s.left) {
        size_t n = stream_next(&s);

        crc = crc32c(crc, buf, n);
    }
    printf("%08x\n", crc);
    return 0;
}

/* --- UDP ---------------------------------------------------------------------------------- */

struct storm {
    int fd;
    struct sockaddr_storage to;
    socklen_t to_len;
    size_t size;
    uint64_t sent, received, bad;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What a datagram of this seed holds: some bytes of buf, from a place of its own on. */
static const char *payload(uint64_t seed, size_t len)
{
    return (const char *)buf + seed % (sizeof buf - len + 1);
}

/* Lengths from the smallest on; every 16th is the largest there is, in fragments or not. */
static void storm_send(struct storm *s)
{
    static uint8_t out[DATAGRAM_MAX];
    struct datagram d = { .seed = s->sent * UINT64_C(0x9e3779b97f4a7c15) >> 20 };
    size_t len = sizeof d +
                 (size_t)(s->sent % 16 ? d.seed % (s->size - sizeof d + 1) : s->size - sizeof d);

    d.len = (uint16_t)len;
    memcpy(out + sizeof d, payload(d.seed, len - sizeof d), len - sizeof d);
    memcpy(out, &d, sizeof d);
    d.crc = crc32c(0, out + sizeof d.crc, len - sizeof d.crc);
    memcpy(out, &d.crc, sizeof d.crc);
    if (sendto(s->fd, out, len, MSG_DONTWAIT, (struct sockaddr *)&s->to, s->to_len) >= 0)
        s->sent++;
    else if (errno != EAGAIN && errno != ENOBUFS && errno != ENETDOWN && errno != ENETUNREACH)
        die("sendto");
}

/* Whether one was there. */
static bool storm_take(struct storm *s)
{
    static uint8_t in[1 << 16];
    struct datagram d;
    ssize_t n = recv(s->fd, in, sizeof in, MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN)
        die("recv");
    if (n < 0)
        return false;
    s->received++;
    memcpy(&d, in, sizeof d);
    if ((size_t)n < sizeof d || d.len != n ||
        d.crc != crc32c(0, in + sizeof d.crc, (size_t)n - sizeof d.crc) ||
        memcmp(in + sizeof d, payload(d.seed, (size_t)n - sizeof d), (size_t)n - sizeof d) != 0)
        s->bad++;
    return true;
}

static int storm(char **arg)
{
    struct storm s = { .size = strtoul(arg[4], NULL, 0) };
    double end = now() + strtod(arg[3], NULL);
    uint64_t x = 1;

    if (s.size < sizeof(struct datagram) || s.size > DATAGRAM_MAX)
        return 2;
    fill(buf, sizeof buf, &x);
    address(arg[1], arg[2], &s.to, &s.to_len);
    s.fd = open_any(SOCK_DGRAM, arg[0], s.to.ss_family);
    while (now() < end) {
        for (int i = 0; i < 16; i++)
            storm_send(&s);
        for (int i = 0; i < 16 && storm_take(&s); i++)
            ;
    }
    for (end = now() + 2; now() < end;)
        if (!storm_take(&s))
            usleep(1000);
    printf("storm: sent %" PRIu64 ", received %" PRIu64 ", bad %" PRIu64 "\n", s.sent, s.received,
           s.bad);
    return s.bad != 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (argc == 3 && strcmp(what, "serve") == 0)
        return serve(argv + 2);
    if (argc == 6 && (strcmp(what, "up") == 0 || strcmp(what, "down") == 0))
        return move(what, argv + 2);
    if (argc == 4 && strcmp(what, "crc") == 0)
        return sum(argv + 2);
    if (argc == 7 && strcmp(what, "storm") == 0)
        return storm(argv + 2);
    fprintf(stderr, "traffic: see the head of its source\n");
    return 2;
}
