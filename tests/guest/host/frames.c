/* The host's end of a tap, frame by frame and past the host's network stack:
 * frames INTERFACE COMMAND [WORD=NUMBER]...
 *
 *   echo     n= min= max= burst= flows=   sends n frames, burst of them at a time, and has each
 *            come back, byte for byte and in order. With flows they are UDP, of so many flows.
 *   gso      kind=4|6|17 len= mss=   sends one large packet, TCP over IPv4, over IPv6, or UDP, to
 *            be cut up by whoever can't take it; its bytes have to come back, cut up or not
 *   send     n= len= type= to= group= gap=   to: the last byte of the address 02:00:00:00:00:xx, of
 *            03:00:00:00:00:xx with group=1, 255 for all; gap in us
 *   mirror   sends frames of the type 88b5 back, until it is ended
 *   watch    a line for each frame of the guest's, until it is ended
 *   flood    seed= gap=   frames of all sizes and kinds, until it is ended
 *
 * What comes is read with the vnet header that the guest gave it. Ends with 0, or 1 and a line that
 * says what was wrong. Says "ready" once it would miss nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    TYPE_ECHO = 0x88b5,
    MACS = 12,
    FRAME_MAX = 65600,
    PATIENCE_MS = 10000,
    BURST_MAX = 256,
    PORT = 20000,
    TCP_LEN = 20,
    UDP_LEN = 8,
    GSO_UDP_L4 = 5, /* of headers newer than ours */
};

static struct {
    int fd;
    uint8_t mac[6];
    struct virtio_net_hdr hdr; /* of the frame at hand */
    uint8_t frame[FRAME_MAX], want[FRAME_MAX];
} end;

static const char *const *words; /* of the command line */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("frames: ", stdout);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    exit(1);
}

static unsigned word(const char *name, unsigned otherwise)
{
    size_t n = strlen(name);

    for (const char *const *w = words; *w; w++)
        if (strncmp(*w, name, n) == 0 && (*w)[n] == '=')
            return (unsigned)strtoul(*w + n + 1, NULL, 0);
    return otherwise;
}

static uint32_t mix(uint32_t v)
{
    v = (v ^ v >> 16) * 0x7feb352du;
    v = (v ^ v >> 15) * 0x846ca68bu;
    return v ^ v >> 16;
}

/* --- the interface --- */

static void end_open(const char *name)
{
    const struct sockaddr_ll all = { .sll_family = AF_PACKET,
                                     .sll_protocol = htons(ETH_P_ALL),
                                     .sll_ifindex = (int)if_nametoindex(name) };
    int on = 1, room = 16 << 20;
    struct ifreq r = { 0 };

    end.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (end.fd < 0 || setsockopt(end.fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0 ||
        setsockopt(end.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0)
        fail("a packet socket: %s", strerror(errno));
    /* As much as it may. */
    if (setsockopt(end.fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
        setsockopt(end.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (ioctl(end.fd, SIOCGIFHWADDR, &r) < 0 ||
        bind(end.fd, (const struct sockaddr *)&all, sizeof all) < 0)
        fail("%s: %s", name, strerror(errno));
    memcpy(end.mac, r.ifr_hwaddr.sa_data, sizeof end.mac);
    puts("ready");
    fflush(stdout);
}

/* The next frame of the guest's: its length. 0: none within ms. */
static size_t receive(int ms)
{
    struct pollfd p = { .fd = end.fd, .events = POLLIN };
    struct iovec iov[2] = { { &end.hdr, sizeof end.hdr }, { end.frame, sizeof end.frame } };
    ssize_t n;

    if (poll(&p, 1, ms) == 0)
        return 0;
    n = readv(end.fd, iov, 2);
    if (n < 0)
        fail("reading: %s", strerror(errno));
    return (size_t)n - sizeof end.hdr;
}

/* False: the interface is down, or would not have it. */
static bool transmit(const struct virtio_net_hdr *h, const void *frame, size_t len)
{
    static const struct virtio_net_hdr plain;
    struct iovec iov[2] = { { (void *)(h ? h : &plain), sizeof *h }, { (void *)frame, len } };

    return writev(end.fd, iov, 2) >= 0;
}

/* --- frames --- */

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint32_t sum16(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;

    for (; n > 1; n -= 2, p += 2)
        sum += (uint32_t)p[0] << 8 | p[1];
    return sum;
}

static void ethernet(uint8_t *f, uint8_t last, unsigned type)
{
    static const uint8_t group[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    const uint8_t one[6] = { 2, 0, 0, 0, 0, last };

    memcpy(f, last == 255 ? group : one, 6);
    memcpy(f + 6, end.mac, 6);
    put16(f + MACS, type);
}

/* An IPv4 header from 10.9.0.1 to 10.9.0.2; len: of what follows. */
static uint8_t *ip4(uint8_t *p, unsigned protocol, size_t len)
{
    static const uint8_t from_to[8] = { 10, 9, 0, 1, 10, 9, 0, 2 };

    memset(p, 0, 20);
    p[0] = 0x45;
    put16(p + 2, (unsigned)(20 + len));
    p[8] = 64;
    p[9] = (uint8_t)protocol;
    memcpy(p + 12, from_to, 8);
    put16(p + 10, (uint16_t)~fold(sum16(p, 20)));
    return p + 20;
}

static uint8_t *ip6(uint8_t *p, unsigned protocol, size_t len)
{
    memset(p, 0, 40);
    p[0] = 0x60;
    put16(p + 4, (unsigned)len);
    p[6] = (uint8_t)protocol;
    p[7] = 64;
    p[8] = p[24] = 0xfd;
    p[23] = 1;
    p[39] = 2;
    return p + 40;
}

/* Frame seq of len bytes, in f: its number stands behind its headers, the rest follows from it. */
static size_t make(uint8_t *f, uint32_t seq, size_t len, unsigned flows)
{
    uint8_t *p = f + ETH_HLEN;
    uint32_t v = mix(seq);

    ethernet(f, 255, flows ? ETH_P_IP : TYPE_ECHO);
    if (flows) {
        p = ip4(p, IPPROTO_UDP, len - ETH_HLEN - 20);
        put16(p, PORT + seq % flows);
        put16(p + 2, PORT);
        put16(p + 4, (unsigned)(len - ETH_HLEN - 20));
        put16(p + 6, 0);
        p += UDP_LEN;
    }
    memcpy(p, &seq, 4);
    size_t at = (size_t)(p - f);

    for (p += 4; p < f + len; p++) {
        v = v * 1664525 + 1013904223;
        *p = (uint8_t)(v >> 24);
    }
    return at;
}

/* --- commands --- */

static size_t echo_len(uint32_t seq, size_t min, size_t max)
{
    return seq == 0 ? max : min + (size_t)(seq - 1) * 977 % (max - min + 1);
}

/* Whether the frame at hand is one that is out, and as it was sent: its number. */
static uint32_t echo_check(size_t n, const bool *out, uint32_t sent, unsigned flows, size_t min,
                           size_t max)
{
    size_t at = ETH_HLEN + (flows ? 20 + UDP_LEN : 0), len;
    uint32_t seq;

    memcpy(&seq, end.frame + at, 4);
    if (n < at + 4 || seq >= sent || !out[seq])
        fail("a frame of %zu bytes that is not out: %u", n, seq);
    len = echo_len(seq, min, max);
    if (n != len)
        fail("frame %u has %zu bytes, not %zu", seq, n, len);
    make(end.want, seq, len, flows);
    if (memcmp(end.frame, end.mac, 6) != 0)
        fail("frame %u is for somebody else", seq);
    for (size_t i = MACS; i < len; i++)
        if (end.frame[i] != end.want[i])
            fail("byte %zu of the %zu of frame %u is %02x, not %02x", i, len, seq, end.frame[i],
                 end.want[i]);
    return seq;
}

/* In order within a flow: the oldest of it that is out. */
static void echo_order(const bool *out, uint32_t seq, unsigned flows)
{
    for (uint32_t s = seq % (flows ? flows : 1); s < seq; s += flows ? flows : 1)
        if (out[s])
            fail("frame %u came before frame %u", seq, s);
}

static void echo(void)
{
    unsigned n = word("n", 100), burst = word("burst", 1), flows = word("flows", 0);
    size_t min = word("min", 60), max = word("max", 1514), len, bytes = 0;
    bool *out = calloc(n, sizeof *out);
    uint32_t sent = 0, back = 0;

    while (back < n) {
        for (; sent < n && sent - back < burst; sent++) {
            len = echo_len(sent, min, max);
            make(end.want, sent, len, flows);
            if (!transmit(NULL, end.want, len))
                fail("sending %zu bytes: %s", len, strerror(errno));
            out[sent] = true;
        }
        len = receive(PATIENCE_MS);
        if (!len)
            fail("%u of %u frames came back, then no more", back, sent);
        uint32_t seq = echo_check(len, out, sent, flows, min, max);

        echo_order(out, seq, flows);
        out[seq] = false;
        back++;
        bytes += len;
    }
    if (receive(50))
        fail("more came back than was sent");
    free(out);
    printf("%u frames, %zu bytes\n", back, bytes);
}

/* The packet and its header; where its payload begins. */
static size_t gso_make(struct virtio_net_hdr *h, unsigned kind, size_t len, unsigned mss)
{
    bool udp = kind == IPPROTO_UDP;
    size_t l4 = udp ? UDP_LEN : TCP_LEN;
    uint8_t *f = end.want, *ip = f + ETH_HLEN, *p;
    unsigned protocol = udp ? IPPROTO_UDP : IPPROTO_TCP;
    uint32_t sum;

    ethernet(f, 255, kind == 6 ? ETH_P_IPV6 : ETH_P_IP);
    p = kind == 6 ? ip6(ip, protocol, l4 + len) : ip4(ip, protocol, l4 + len);
    memset(p, 0, l4);
    put16(p, PORT);
    put16(p + 2, PORT);
    /* What the rest of the checksum is added to: addresses, protocol, length. */
    sum = (kind == 6 ? sum16(ip + 8, 32) : sum16(ip + 12, 8)) + protocol + (uint32_t)(l4 + len);
    if (udp) {
        put16(p + 4, (unsigned)(l4 + len));
        put16(p + 6, fold(sum));
    } else {
        p[12] = TCP_LEN / 4 << 4;
        p[13] = 0x10; /* ACK */
        put16(p + 14, 1000);
        put16(p + 16, fold(sum));
    }
    *h = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = udp         ? GSO_UDP_L4
                    : kind == 6 ? VIRTIO_NET_HDR_GSO_TCPV6
                                : VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = (uint16_t)((size_t)(p - f) + l4),
        .gso_size = (uint16_t)mss,
        .csum_start = (uint16_t)(p - f),
        .csum_offset = udp ? 6 : 16,
    };
    for (size_t i = 0; i < len; i++)
        p[l4 + i] = (uint8_t)mix((uint32_t)i);
    return (size_t)(p - f) + l4;
}

/* Segments of TCP say where they belong; datagrams come in order. */
static void gso(void)
{
    unsigned kind = word("kind", 4), mss = word("mss", 1448), frames = 0, cut = 0;
    size_t len = word("len", 20000), at, got = 0, largest = 0, n;
    struct virtio_net_hdr h;

    at = gso_make(&h, kind, len, mss);
    if (!transmit(&h, end.want, at + len))
        fail("sending a packet of %zu bytes: %s", at + len, strerror(errno));
    while (got < len) {
        size_t where = got;

        n = receive(PATIENCE_MS);
        if (n <= at)
            fail("%zu of %zu bytes came back, then no more", got, len);
        if (kind != IPPROTO_UDP)
            where = (size_t)end.frame[at - 16] << 24 | (size_t)end.frame[at - 15] << 16 |
                    (size_t)end.frame[at - 14] << 8 | end.frame[at - 13];
        /* The shortest frames are filled up. */
        size_t here = n - at < len - got ? n - at : len - got;

        if (where > len - here || memcmp(end.frame + at, end.want + at + where, here) != 0)
            fail("%zu bytes from %zu on are not what was sent", n - at, where);
        got += here;
        frames++;
        largest = n > largest ? n : largest;
        cut += end.hdr.gso_type == h.gso_type && end.hdr.gso_size == mss;
    }
    printf("%u back, largest %zu, %u to be cut up\n", frames, largest, cut);
}

static void pause_us(unsigned us)
{
    const struct timespec t = { us / 1000000, us % 1000000 * 1000 };

    nanosleep(&t, NULL);
}

static void send_some(void)
{
    unsigned n = word("n", 1), len = word("len", 60), gap = word("gap", 0), failed = 0;

    memset(end.want, 0xff, len);
    ethernet(end.want, (uint8_t)word("to", 255), word("type", 0x88b6));
    end.want[0] |= (uint8_t)word("group", 0);
    for (unsigned i = 0; i < n; i++) {
        put16(end.want + ETH_HLEN, i);
        failed += !transmit(NULL, end.want, len);
        if (gap)
            pause_us(gap);
    }
    printf("%u sent, %u not\n", n - failed, failed);
}

static void mirror(void)
{
    for (;;) {
        size_t n = receive(-1);

        if (n < ETH_HLEN || end.frame[MACS] != TYPE_ECHO >> 8 ||
            end.frame[MACS + 1] != (TYPE_ECHO & 0xff))
            continue;
        memcpy(end.frame, end.frame + 6, 6);
        memcpy(end.frame + 6, end.mac, 6);
        transmit(NULL, end.frame, n);
    }
}

static void watch(void)
{
    for (;;) {
        size_t n = receive(-1);
        const uint8_t *f = end.frame;

        printf(
            "%02x%02x len %zu flags %u gso %u,%u csum %u,%u from %02x:%02x:%02x:%02x:%02x:%02x\n",
            f[MACS], f[MACS + 1], n, end.hdr.flags, end.hdr.gso_type, end.hdr.gso_size,
            end.hdr.csum_start, end.hdr.csum_offset, f[6], f[7], f[8], f[9], f[10], f[11]);
        fflush(stdout);
    }
}

static void flood(void)
{
    unsigned gap = word("gap", 0);
    uint32_t v = word("seed", 1);

    memset(end.want, 0xff, sizeof end.want);
    for (;;) {
        struct virtio_net_hdr h;

        v = mix(v + 1);
        if (v % 16 == 0) {
            size_t len = 1 + v / 16 % 60000;
            size_t at = gso_make(&h, v & 0x10000 ? 4 : 6, len, 1000 + v / 64 % 400);

            transmit(&h, end.want, at + len);
        } else {
            ethernet(end.want, 255, v % 16 == 1 ? TYPE_ECHO : 0x88b6);
            transmit(NULL, end.want, v % 4 ? 14 + v / 16 % 100 : 14 + v / 16 % 1500);
        }
        if (gap)
            pause_us(gap);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {
    { "echo", echo },     { "gso", gso },     { "send", send_some },
    { "mirror", mirror }, { "watch", watch }, { "flood", flood },
};

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: frames INTERFACE COMMAND [WORD=NUMBER]...\n", stderr);
        return 2;
    }
    words = (const char *const *)argv + 3;
    end_open(argv[1]);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[2], commands[i].name) == 0) {
            commands[i].run();
            return 0;
        }
    fail("no command %s", argv[2]);
}
