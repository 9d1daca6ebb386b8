/* A tap in use; see tap.h. How it is opened: tapopen.c.
 *
 * Each of these is one call, which the kernel carries out under its lock for all interfaces
 * (rtnetlink's): it may take milliseconds while others are changed.
 */
#include "host/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host/link.h"

#define USO ((unsigned)(TUN_F_USO4 | TUN_F_USO6))

void tap_close(struct tap *t)
{
    for (unsigned q = 0; q < t->n; q++) {
        close(t->fd[q]);
        t->fd[q] = -1;
    }
    t->n = 0;
    if (t->netlink >= 0)
        close(t->netlink);
    t->netlink = -1;
}

int tap_set_offload(struct tap *t, unsigned offloads)
{
    /* The kernel refuses these, and leaving more to us is never wrong. */
    offloads &= t->offloads;
    if ((offloads & USO) != USO)
        offloads &= ~USO;
    if (!(offloads & TUN_F_CSUM))
        offloads = 0;
    return t->control(t, 0, TUNSETOFFLOAD, (void *)(uintptr_t)offloads);
}

int tap_set_queue(struct tap *t, unsigned q, bool on)
{
    struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

    if (!t->multi)
        return 0;
    int ret = t->control(t, q, TUNSETQUEUE, &ifr);

    return ret == -EINVAL ? 0 : ret; /* it is so already */
}

/* struct tun_filter with its addresses. */
struct filter_words {
    uint16_t flags, count;
    uint8_t address[TAP_FILTER_MAX][6];
};

static void filter_add(struct filter_words *w, const struct tap_filter *f, bool groups)
{
    for (unsigned i = 0; i < f->n; i++)
        if ((f->address[i][0] & 1) == groups)
            memcpy(w->address[w->count++], f->address[i], sizeof w->address[0]);
}

int tap_set_filter(struct tap *t, const struct tap_filter *f)
{
    struct filter_words w = { 0 };

    if (!t->filters)
        return 0;
    /* No addresses mean all frames to the kernel, and an address of zeros none. The hosts' come
     * first: a group behind the eighth place is found by its hash, and a host turns the filter
     * off. */
    if (!f->all && f->n <= TAP_FILTER_MAX) {
        w.flags = f->all_multi ? TUN_FLT_ALLMULTI : 0;
        filter_add(&w, f, false);
        filter_add(&w, f, true);
        if (w.count == 0)
            w.count = 1;
    }
    return t->control(t, 0, TUNSETTXFILTER, &w);
}

bool tap_gone(const struct tap *t)
{
    return write(t->fd[0], "", 0) < 0 && errno == EBADFD;
}

bool tap_read_link(struct tap *t)
{
    struct link_report r = { .ifindex = t->ifindex, .link = t->link };

    if (t->netlink < 0)
        return false;
    link_read(t->netlink, &r);
    bool changed = r.link.up != t->link.up || r.link.gone != t->link.gone ||
                   r.link.mtu != t->link.mtu;

    t->ifindex = r.ifindex;
    t->link = r.link;
    return changed;
}

/* --- addresses -------------------------------------------------------------------------------- */

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t fnv1a(uint64_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * FNV_PRIME;
    return h;
}

void tap_mac(const char *name, uint8_t mac[6])
{
    char id[64]; /* 32 digits and a newline */
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : read(fd, id, sizeof id);
    uint64_t h = fnv1a(FNV_BASIS, id, n > 0 ? (size_t)n : 0);

    if (fd >= 0)
        close(fd);
    h = fnv1a(h, name, strlen(name));
    h ^= h >>
         32; /* a name's last letter is in the low bits, and of the high ones we take two bytes */
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)(h >> (8 * (5 - i)));
    mac[0] = (uint8_t)((mac[0] | 2) & ~1);
}
