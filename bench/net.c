/* The bench's load on a network card: one program for both of its ends.
 *
 *   net host TAP    makes the tap, with the host's address, says "ready", and serves who connects
 *   as init         runs the patterns that the kernel's command line names, one after the other,
 *                   against the host's end, and asks for a reboot
 *
 * A pattern is a word KIND,BYTES,COUNT:
 *
 *   tcp-tx, tcp-rx    a stream from the guest, or to it: COUNT writes of BYTES
 *   udp-tx, udp-rx    COUNT datagrams of BYTES, none of which may be lost
 *   tcp-rr, udp-rr    COUNT requests of BYTES, each with an answer of as many, one at a time
 *
 * The guest asks for each pattern on the TCP connection that it opened for it (struct ask). A tenth
 * of the pattern goes before, to warm up, to open TCP's windows and to find addresses; the rest
 * lies between two marks (mark.h). The second is made when the guest has heard that all of it
 * arrived: a queue is in order, so nothing of the pattern is left in one.
 *
 * Nothing slows down who sends datagrams to a tap: what the monitor does not take at once waits in
 * the tap's queue, so that is made long enough for all of them, and so are the sockets' buffers.
 * Then the monitor always has frames to read, as beneath a flood, and who loses some did it itself.
 *
 * What goes wrong ends it all: the guest's kernel panics, and the monitor's status tells.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/mark.h"

#define HOST      "10.77.0.1"
#define GUEST     "10.77.0.2"
#define MASK      "255.255.255.0"
#define PORT      7777
#define BYTES_MAX (1 << 20)
#define COUNT_MAX 16000
#define QUEUE_LEN 16384      /* of the tap: more than COUNT_MAX and its warming up */
#define SOCKET    (32 << 20) /* bytes a socket holds */
#define NO_IPV6   "/proc/sys/net/ipv6/conf/default/disable_ipv6"

struct ask {
    uint32_t kind, bytes;
    uint64_t count;
};

struct end {
    int tcp, udp;
    struct ask ask;
};

static uint8_t buffer[BYTES_MAX];

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --- the patterns, from either end. Those of the host return false when the guest has gone
 * -------- */

static bool read_all(int fd, void *p, size_t n)
{
    for (ssize_t got; n; n -= (size_t)got, p = (uint8_t *)p + got)
        if ((got = read(fd, p, n)) <= 0)
            return false;
    return true;
}

static bool write_all(int fd, const void *p, size_t n)
{
    for (ssize_t put; n; n -= (size_t)put, p = (const uint8_t *)p + put)
        if ((put = send(fd, p, n, MSG_NOSIGNAL)) <= 0)
            return false;
    return true;
}

/* Streams: who takes one says so in the end. */
static bool stream_give(const struct end *e)
{
    uint8_t taken;

    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!write_all(e->tcp, buffer, e->ask.bytes))
            return false;
    return read_all(e->tcp, &taken, 1);
}

static bool stream_take(const struct end *e)
{
    uint64_t left = e->ask.count * e->ask.bytes;

    while (left) {
        ssize_t got = read(e->tcp, buffer, left < e->ask.bytes ? left : e->ask.bytes);

        if (got <= 0)
            return false;
        left -= (uint64_t)got;
    }
    return write_all(e->tcp, buffer, 1);
}

static bool stream_ask(const struct end *e)
{
    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!write_all(e->tcp, buffer, e->ask.bytes) || !read_all(e->tcp, buffer, e->ask.bytes))
            return false;
    return true;
}

static bool stream_answer(const struct end *e)
{
    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!read_all(e->tcp, buffer, e->ask.bytes) || !write_all(e->tcp, buffer, e->ask.bytes))
            return false;
    return true;
}

static bool datagram_send(const struct end *e)
{
    return send(e->udp, buffer, e->ask.bytes, 0) == (ssize_t)e->ask.bytes;
}

static bool datagram_receive(const struct end *e, int flags)
{
    return recv(e->udp, buffer, sizeof buffer, flags) == (ssize_t)e->ask.bytes;
}

static bool all_arrived(const struct end *e, uint64_t arrived)
{
    if (arrived != e->ask.count)
        fprintf(stderr, "net: %llu of %llu datagrams arrived\n", (unsigned long long)arrived,
                (unsigned long long)e->ask.count);
    return arrived == e->ask.count;
}

/* Datagrams: behind the last one the stream says that it was the last, and is told how many came.
 */
static bool datagrams_give(const struct end *e)
{
    uint64_t arrived;

    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!datagram_send(e))
            return false;
    if (!write_all(e->tcp, buffer, 1) || !read_all(e->tcp, &arrived, sizeof arrived))
        return false;
    return all_arrived(e, arrived);
}

static bool datagrams_take(const struct end *e)
{
    struct pollfd p[2] = { { .fd = e->udp, .events = POLLIN }, { .fd = e->tcp, .events = POLLIN } };
    uint64_t arrived = 0;

    while (!p[1].revents) {
        poll(p, 2, -1);
        while (datagram_receive(e, MSG_DONTWAIT))
            arrived++;
    }
    return read_all(e->tcp, buffer, 1) && write_all(e->tcp, &arrived, sizeof arrived) &&
           all_arrived(e, arrived);
}

static bool datagrams_ask(const struct end *e)
{
    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!datagram_send(e) || !datagram_receive(e, 0))
            return false;
    return true;
}

static bool datagrams_answer(const struct end *e)
{
    for (uint64_t i = 0; i < e->ask.count; i++)
        if (!datagram_receive(e, 0) || !datagram_send(e))
            return false;
    return true;
}

static const struct kind {
    const char *name;
    bool (*guest)(const struct end *), (*host)(const struct end *);
} kinds[] = {
    { "tcp-tx", stream_give, stream_take },       { "tcp-rx", stream_take, stream_give },
    { "udp-tx", datagrams_give, datagrams_take }, { "udp-rx", datagrams_take, datagrams_give },
    { "tcp-rr", stream_ask, stream_answer },      { "udp-rr", datagrams_ask, datagrams_answer },
};
#define KINDS (sizeof kinds / sizeof *kinds)

static bool ask_sound(const struct ask *a)
{
    return a->kind < KINDS && a->bytes >= 1 && a->bytes <= BYTES_MAX && a->count >= 1 &&
           a->count <= COUNT_MAX;
}

/* --- interfaces and sockets
 * ------------------------------------------------------------------------ */

static struct sockaddr_in address(const char *text)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

    a.sin_addr.s_addr = inet_addr(text);
    return a;
}

static void configure(int s, unsigned long request, struct ifreq *r, const char *what)
{
    if (ioctl(s, request, r))
        die(what);
}

static void interface_up(const char *name, const char *text)
{
    struct ifreq r = { 0 };
    struct sockaddr_in own = address(text), mask = address(MASK);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    strncpy(r.ifr_name, name, sizeof r.ifr_name - 1);
    memcpy(&r.ifr_addr, &own, sizeof own);
    configure(s, SIOCSIFADDR, &r, "address");
    memcpy(&r.ifr_netmask, &mask, sizeof mask);
    configure(s, SIOCSIFNETMASK, &r, "netmask");
    configure(s, SIOCGIFFLAGS, &r, "flags");
    r.ifr_flags |= IFF_UP;
    configure(s, SIOCSIFFLAGS, &r, "up");
    close(s);
}

static void make_tap(const char *name)
{
    struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    strncpy(r.ifr_name, name, sizeof r.ifr_name - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) || ioctl(fd, TUNSETPERSIST, 1))
        die("/dev/net/tun");
    r.ifr_qlen = QUEUE_LEN;
    configure(s, SIOCSIFTXQLEN, &r, "txqueuelen");
    close(s);
    close(fd);
}

/* So that a second protocol does not look around in the middle. Not everybody has it. */
static void silence_ipv6(void)
{
    int fd = open(NO_IPV6, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "1", 1) != 1)
        die(NO_IPV6);
    close(fd);
}

static int udp_between(const char *here, const char *there)
{
    struct sockaddr_in from = address(here), to = address(there);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), bytes = SOCKET;

    if (bind(s, (struct sockaddr *)&from, sizeof from) ||
        connect(s, (struct sockaddr *)&to, sizeof to) ||
        setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
        die("udp");
    return s;
}

static void at_once(int tcp)
{
    if (setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)))
        die("nodelay");
}

/* --- the host
 * -------------------------------------------------------------------------------------- */

static void serve(int tcp, int udp)
{
    struct end e = { .tcp = tcp, .udp = udp };

    at_once(tcp);
    while (read_all(tcp, &e.ask, sizeof e.ask) && ask_sound(&e.ask) && kinds[e.ask.kind].host(&e))
        ;
    close(tcp);
}

static int host(const char *tap)
{
    struct sockaddr_in own = address(HOST);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), udp;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    silence_ipv6();
    make_tap(tap);
    interface_up(tap, HOST);
    udp = udp_between(HOST, GUEST);
    if (bind(s, (struct sockaddr *)&own, sizeof own) || listen(s, 1))
        die("tcp");
    puts("ready");
    fflush(stdout);
    for (int tcp; (tcp = accept(s, NULL, NULL)) >= 0;)
        serve(tcp, udp);
    die("accept");
}

/* --- the guest
 * ------------------------------------------------------------------------------------- */

static bool parse(const char *word, struct ask *a)
{
    size_t len = strcspn(word, ",");
    char *end;

    for (a->kind = 0; a->kind < KINDS; a->kind++)
        if (strlen(kinds[a->kind].name) == len && strncmp(kinds[a->kind].name, word, len) == 0)
            break;
    if (!word[len])
        return false;
    a->bytes = (uint32_t)strtoul(word + len + 1, &end, 10);
    a->count = *end == ',' ? strtoul(end + 1, &end, 10) : 0;
    return !*end && ask_sound(a);
}

static void run_part(struct end *e, uint64_t count)
{
    e->ask.count = count;
    if (!write_all(e->tcp, &e->ask, sizeof e->ask) || !kinds[e->ask.kind].guest(e))
        die(kinds[e->ask.kind].name);
}

/* Whether the word is a pattern, the i-th. */
static bool run(const char *word, int udp, unsigned i)
{
    struct sockaddr_in to = address(HOST);
    struct end e = { .udp = udp };

    if (!parse(word, &e.ask))
        return false;
    uint64_t count = e.ask.count;

    e.tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(e.tcp, (struct sockaddr *)&to, sizeof to))
        die("connect");
    at_once(e.tcp);
    run_part(&e, count / 10 + 1);
    mark(MARK_BEGIN(i));
    run_part(&e, count);
    mark(MARK_END(i));
    close(e.tcp);
    return true;
}

static int guest(int argc, char **argv)
{
    unsigned patterns = 0;
    int udp;

    mkdir("/proc", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL))
        die("/proc");
    silence_ipv6();
    interface_up("eth0", GUEST);
    udp = udp_between(GUEST, HOST);
    mark(MARK_INIT);
    for (int i = 1; i < argc; i++)
        patterns += run(argv[i], udp, patterns);
    reboot(RB_AUTOBOOT);
    return 1; /* not reached */
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "host") == 0)
        return host(argv[2]);
    if (getpid() == 1)
        return guest(argc, argv);
    fprintf(stderr, "usage: net host TAP\n");
    return 125;
}
