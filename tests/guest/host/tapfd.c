/* A parent that opens a tap and hands it on: tapfd FD NAME WORD[,WORD]... CMD ARG...
 *
 * CMD runs with the interface NAME open as descriptor FD, as the words say: tap or tun, vnet for a
 * header before each frame, short for one of 10 bytes, info for packet information, multi for one
 * queue of several, none for a file that was not given an interface yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Words are no parts of each other. */
static bool has(const char *words, const char *word)
{
    return strstr(words, word) != NULL;
}

static int tap(const char *name, const char *words)
{
    struct ifreq r = { 0 };
    int fd = open("/dev/net/tun", O_RDWR), len = has(words, "short") ? 10 : 12;

    if (fd < 0 || has(words, "none"))
        return fd;
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    r.ifr_flags = (short)((has(words, "tun") ? IFF_TUN : IFF_TAP) |
                          (has(words, "info") ? 0 : IFF_NO_PI) |
                          (has(words, "vnet") ? IFF_VNET_HDR : 0) |
                          (has(words, "multi") ? IFF_MULTI_QUEUE : 0));
    if (ioctl(fd, TUNSETIFF, &r) < 0 ||
        (has(words, "vnet") && ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)) {
        int code = errno;

        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fputs("usage: tapfd FD NAME WORD[,WORD]... CMD ARG...\n", stderr);
        return 2;
    }
    int want = atoi(argv[1]), fd = tap(argv[2], argv[3]);

    if (fd < 0 || (fd != want && (dup2(fd, want) < 0 || close(fd) < 0))) {
        fprintf(stderr, "tapfd: %s: %s\n", argv[2], strerror(errno));
        return 2;
    }
    execvp(argv[4], argv + 4);
    fprintf(stderr, "tapfd: %s: %s\n", argv[4], strerror(errno));
    return 2;
}
