/* See vhost.h; of the kernel, include/uapi/linux/vhost.h and drivers/vhost/net.c.
 *
 * The kernel reads and writes guest memory through our address space, as the process that set the
 * owner has it mapped, and checks each address of the guest's against the table that it is given
 * here. A ring runs while it has a backend, the tap: attached last, detached first, and what is
 * under way the kernel finishes before the detaching call returns.
 */
#include "host/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/num.h"

#define DEVICE "/dev/vhost-net"

/* That it speaks of and we never ask for: a log of the pages it wrote to, headers of its own making
 * (the tap makes them), and addresses that it has to ask us for. */
#define F_LOG_ALL         (UINT64_C(1) << 26)
#define F_NET_HEADER      (UINT64_C(1) << 27)
#define F_ACCESS_PLATFORM (UINT64_C(1) << 33)
#define F_NEVER           (F_LOG_ALL | F_NET_HEADER | F_ACCESS_PLATFORM)

static int vhost_control(const struct vhost *v, unsigned long request, void *arg)
{
    return ioctl(v->fd, (int)request, arg) < 0 ? -errno : 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int device_failed(const char *name, int code, struct err *e)
{
    const char *remedy = "load the module (modprobe vhost_net), or leave out vhost=on";

    if (code == EACCES || code == EPERM)
        remedy = "allow this user to open it (chmod 666 " DEVICE "), or leave out vhost=on";
    return err_set(e, code, "net %s: can't open " DEVICE ": %s: %s", name, strerror(code),
                   err_remedy(code, remedy));
}

/* struct vhost_memory with its regions. */
struct memory_table {
    uint32_t n, padding;
    struct vhost_memory_region region[ARRAY_LEN(((struct gmem *)0)->region)];
};

_Static_assert(offsetof(struct memory_table, region) == offsetof(struct vhost_memory, regions),
               "where the kernel has them");

static int share_memory(const struct vhost *v, const struct gmem *mem)
{
    struct memory_table table = { .n = (uint32_t)mem->n };

    for (int i = 0; i < mem->n; i++)
        table.region[i] = (struct vhost_memory_region){
            .guest_phys_addr = mem->region[i].base,
            .memory_size = mem->region[i].len,
            .userspace_addr = (uintptr_t)mem->region[i].host,
        };
    return vhost_control(v, VHOST_SET_MEM_TABLE, &table);
}

int vhost_open(struct vhost *v, const struct gmem *mem, const char *name, struct err *e)
{
    *v = (struct vhost){ .fd = open(DEVICE, O_RDWR | O_CLOEXEC) };
    if (v->fd < 0)
        return device_failed(name, errno, e);
    int ret = vhost_control(v, VHOST_SET_OWNER, NULL);

    if (ret == 0)
        ret = vhost_control(v, VHOST_GET_FEATURES, &v->features);
    if (ret == 0)
        ret = share_memory(v, mem);
    if (ret) {
        vhost_close(v);
        return err_set(e, -ret, "net %s: " DEVICE " does not serve us: %s: %s", name,
                       strerror(-ret), err_remedy(-ret, "leave out vhost=on"));
    }
    v->features &= ~F_NEVER;
    return 0;
}

void vhost_close(struct vhost *v)
{
    if (v->fd >= 0)
        close(v->fd);
    v->fd = -1;
}

/* --- running ---------------------------------------------------------------------------------- */

static int ring_set_up(const struct vhost *v, unsigned i, const struct vhost_ring *r)
{
    struct vhost_vring_state num = { .index = i, .num = r->size };
    struct vhost_vring_state base = { .index = i, .num = r->base };
    struct vhost_vring_addr addr = {
        .index = i,
        .desc_user_addr = (uintptr_t)r->desc,
        .avail_user_addr = (uintptr_t)r->avail,
        .used_user_addr = (uintptr_t)r->used,
    };
    struct vhost_vring_file kick = { .index = i, .fd = r->kick };
    struct vhost_vring_file call = { .index = i, .fd = r->call };
    struct vhost_vring_file broken = { .index = i, .fd = r->broken };
    const struct {
        unsigned long request;
        void *arg;
    } steps[] = {
        { VHOST_SET_VRING_NUM, &num },   { VHOST_SET_VRING_BASE, &base },
        { VHOST_SET_VRING_ADDR, &addr }, { VHOST_SET_VRING_KICK, &kick },
        { VHOST_SET_VRING_CALL, &call }, { VHOST_SET_VRING_ERR, &broken },
    };

    for (unsigned s = 0; s < ARRAY_LEN(steps); s++) {
        int ret = vhost_control(v, steps[s].request, steps[s].arg);

        if (ret)
            return ret;
    }
    return 0;
}

/* tap -1: none, and when this returns nothing is in flight. */
static int ring_set_backend(const struct vhost *v, unsigned i, int tap)
{
    struct vhost_vring_file backend = { .index = i, .fd = tap };

    return vhost_control(v, VHOST_NET_SET_BACKEND, &backend);
}

int vhost_start(struct vhost *v, uint64_t features, const struct vhost_ring ring[VHOST_RINGS],
                int tap)
{
    uint16_t base[VHOST_RINGS];

    features &= v->features;
    int ret = vhost_control(v, VHOST_SET_FEATURES, &features);

    for (unsigned i = 0; ret == 0 && i < VHOST_RINGS; i++)
        ret = ring_set_up(v, i, &ring[i]);
    for (unsigned i = 0; ret == 0 && i < VHOST_RINGS; i++)
        ret = ring_set_backend(v, i, tap);
    if (ret)
        vhost_stop(v, base);
    return ret;
}

void vhost_stop(struct vhost *v, uint16_t base[VHOST_RINGS])
{
    for (unsigned i = 0; i < VHOST_RINGS; i++)
        ring_set_backend(v, i, -1);
    for (unsigned i = 0; i < VHOST_RINGS; i++) {
        struct vhost_vring_state state = { .index = i };

        vhost_control(v, VHOST_GET_VRING_BASE, &state);
        base[i] = (uint16_t)state.num;
    }
}
