/* Mayfly, a microVM monitor.
 *
 * main reads as phases: parse what was asked; open what can fail for the user's reasons; build the
 * machine (memory, kernel, devices, VM, vCPUs); spawn its threads, each of which confines itself to
 * the system calls of its role before it serves the guest, and last this one; run, which is waiting
 * for the first thing that ends it; tell how it ended and exit with its status.
 *
 * Threads: this one, one per vCPU, one per device. A vCPU that ends the machine records why and
 * wakes this thread; signals, timers and Ctrl-] arrive on this thread's own loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "config/args.h"
#include "config/help.h"
#include "core/log.h"
#include "core/num.h"
#include "core/relro.h"
#include "host/term.h"
#include "kvm/probe.h"
#include "seccomp/enter.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "vmm.h"

/* Signal handlers restore the terminal and the machine's stream; and it is large for a stack. */
static struct term terminal;
static struct machine machine;

/* --- ends --------------------------------------------------------------------------------- */

static void machine_end(struct machine *m, enum ending why, unsigned vcpu, const char *text)
{
    int none = END_NONE;
    uint64_t one = 1;

    if (atomic_compare_exchange_strong(&m->ending, &none, (int)why)) {
        m->end_vcpu = vcpu;
        snprintf(m->end_text, sizeof m->end_text, "%s", text);
    }
    vcpus_request_stop(&m->vcpus);
    if (write(m->ended.fd, &one, sizeof one) < 0)
        abort(); /* an eventfd takes a 1 unless we broke it */
}

static void on_vcpu_end(void *arg, const struct vcpu *v, enum vcpu_end why, const char *text)
{
    machine_end(arg, why == VCPU_TRIPLE_FAULT ? END_TRIPLE : END_FAULT, v->id, text);
}

static void on_ended(struct watch *w, uint32_t revents)
{
    (void)revents;
    loop_stop(&((struct machine *)w->arg)->loop);
}

static void on_timeout(struct watch *w, uint32_t revents)
{
    (void)revents;
    machine_end(w->arg, END_TIMEOUT, 0, "");
}

static void on_grace(struct watch *w, uint32_t revents)
{
    (void)revents;
    machine_end(w->arg, END_SIGNAL, 0, "");
}

/* Ctrl-] three times; on the console's thread. */
static void on_escape(void *arg)
{
    struct machine *m = arg;

    atomic_store(&m->escaped, true);
    machine_end(m, END_SIGNAL, 0, "");
}

static int timer_set(int fd, int64_t ms)
{
    struct itimerspec t = { .it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 } };

    if (ms == 0)
        t.it_value.tv_nsec = 1;
    return timerfd_settime(fd, 0, &t, NULL) < 0 ? -errno : 0;
}

static void on_signal(struct watch *w, uint32_t revents)
{
    struct machine *m = w->arg;
    struct signalfd_siginfo si;
    uint64_t one = 1;

    (void)revents;
    if (read(w->fd, &si, sizeof si) != sizeof si)
        return;
    int sig = (int)si.ssi_signo;

    if (sig == SIGWINCH || sig == SIGCONT) {
        if (terminal.raw)
            term_raw(&terminal, STDIN_FILENO);
        if (m->cfg.console.kind == CONFIG_CONSOLE_STDIO)
            console_resize(m->slot[0].dev);
        return;
    }
    if (m->signal) { /* asked twice */
        machine_end(m, END_SIGNAL, 0, "");
        return;
    }
    m->signal = sig;
    if (m->button >= 0 && write(m->button, &one, sizeof one) < 0)
        log_warn("the guest's power button: %s", strerror(errno));
    log_info("%s: the guest has %" PRId64 " ms to end", strsignal(sig), m->cfg.grace_ms);
    timer_set(m->grace.fd, m->cfg.grace_ms);
}

/* Before a signal kills us the terminal, and what else is the caller's, is put back. The handler is
 * gone when it runs (SA_RESETHAND): a fault faults again and another signal is raised again, and
 * both kill as they would have. A call that a filter trapped would not be made again: it is told
 * of, and that is the end. */
static void on_fatal(int sig, siginfo_t *si, void *ucontext)
{
    char line[SECCOMP_LINE];
    size_t n = seccomp_describe(si, ucontext, line);

    term_restore(&terminal);
    stream_restore(&machine.stream);
    if (n) {
        int said = write(STDERR_FILENO, line, n) > 0;

        if (machine.log_opened)
            said |= write(log_fd(), line, n) > 0;
        (void)said; /* nobody may be there to hear it */
        _exit(EXIT_SIGNALLED + SIGSYS);
    }
    bool fault = sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE;

    if (!fault || si->si_code <= 0) /* somebody sent it, be it the kernel's timer: raised again */
        raise(sig);
}

/* A thread can't begin its work, and others may be at theirs: this is the end. */
__attribute__((noreturn)) static void give_up(const struct machine *m, const char *what, int ret,
                                              const char *remedy)
{
    term_restore(&terminal);
    stream_restore(&m->stream);
    if (m->pidfile_made)
        unlink(m->cfg.pidfile);
    if (m->stream.made)
        unlink(m->cfg.console.path);
    dprintf(STDERR_FILENO, "mayfly: %s: %s: %s\n", what, strerror(-ret), err_remedy(-ret, remedy));
    _exit(EXIT_MAYFLY);
}

/* From here on this thread makes the calls of its role and no other. */
static void enter_role(const struct machine *m, enum seccomp_role role)
{
    int ret = seccomp_enter(role, (enum seccomp_deny)m->cfg.seccomp);

    if (ret)
        give_up(m, "seccomp: a filter can't be put on", ret, "do without by --seccomp=off");
}

static void on_device_start(void *arg)
{
    const struct slot *s = arg;
    int ret = s->dev->cls->enter ? s->dev->cls->enter(s->dev) : 0;

    if (ret) /* the ring was there when it was made; only a disk has one */
        give_up(&machine, "io_uring: a ring can't be restricted", ret, "say io=sync");
    enter_role(&machine, s->role);
}

/* Of a further loop, which only has queues. */
static void on_queues_start(void *arg)
{
    enter_role(&machine, ((const struct slot *)arg)->role);
}

static void on_vcpu_start(void *arg)
{
    enter_role(arg, SECCOMP_VCPU);
}

/* --- opening ------------------------------------------------------------------------------ */

static int open_log(struct machine *m, struct err *e)
{
    const struct config *c = &m->cfg;
    int fd = STDERR_FILENO;

    if (c->log_file) {
        fd = open(c->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
        if (fd < 0)
            return err_set(e, errno, "log file %s: %s: %s", c->log_file, strerror(errno),
                           err_remedy(errno, "give a path that can be written"));
        m->log_opened = true;
    }
    log_init(fd, c->log_level);
    return 0;
}

static int open_pidfile(struct machine *m, struct err *e)
{
    const char *path = m->cfg.pidfile;

    if (!path)
        return 0;
    /* Removed at the end, so it is a file or nothing; and a pipe must not wait for its reader. */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0644);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        return err_set(e, EINVAL, "pidfile %s: is no regular file: give the path of one", path);
    }
    if (fd < 0 || ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", getpid()) < 0) {
        int code = errno;

        if (fd >= 0)
            close(fd);
        return err_set(e, code, "pidfile %s: %s: %s", path, strerror(code),
                       err_remedy(code, "give a path that can be written"));
    }
    close(fd);
    m->pidfile_made = true;
    return 0;
}

static int open_console(struct machine *m, struct err *e)
{
    const struct config_console *c = &m->cfg.console;
    int ret = 0;

    switch (c->kind) {
    case CONFIG_CONSOLE_STDIO:
        return stream_stdio(&m->stream, e);
    case CONFIG_CONSOLE_NONE:
        stream_none(&m->stream);
        return 0;
    case CONFIG_CONSOLE_FILE:
        return stream_file(&m->stream, c->path, e);
    case CONFIG_CONSOLE_PTY:
        ret = stream_pty(&m->stream, e);
        if (ret == 0)
            dprintf(STDERR_FILENO, "mayfly: console: %s\n", m->stream.path);
        return ret;
    }
    return ret;
}

static int open_watch(struct machine *m, struct watch *w, int fd,
                      void (*fn)(struct watch *, uint32_t), const char *what, struct err *e)
{
    *w = (struct watch){ .fd = fd, .events = EPOLLIN, .fn = fn, .arg = m };
    int ret = fd < 0 ? -errno : loop_add(&m->loop, w);

    return ret ? err_set(e, -ret, "%s: %s: raise the limit of open files (ulimit -n)", what,
                         strerror(-ret))
               : 0;
}

/* Signals are blocked in every thread and read here; those of our own faults put the terminal
 * back and kill. */
static int open_events(struct machine *m, struct err *e)
{
    static const int read_here[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT };
    /* Those of our own faults, and all others that would kill without a word to the terminal. */
    static const int fatal[] = { SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,   SIGABRT,   SIGSYS,
                                 SIGTRAP, SIGUSR1, SIGUSR2, SIGALRM,  SIGVTALRM, SIGPROF,
                                 SIGXCPU, SIGIO,   SIGPWR,  SIGSTKFLT };
    struct sigaction sa = { .sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | (int)SA_RESETHAND };
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(read_here); i++)
        sigaddset(&set, read_here[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
        sigaction(fatal[i], &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that went away, and a limit of the file's size, show */
    signal(SIGXFSZ, SIG_IGN); /* as errors where we write */

    int ret = loop_init(&m->loop, e);

    if (ret)
        return ret;
    ret = open_watch(m, &m->signals, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), on_signal,
                     "signals", e);
    if (ret == 0)
        ret = open_watch(m, &m->ended, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), on_ended, "events",
                         e);
    if (ret == 0)
        ret = open_watch(m, &m->timeout, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), on_timeout,
                         "timer", e);
    if (ret == 0)
        ret = open_watch(m, &m->grace, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), on_grace,
                         "timer", e);
    return ret;
}

static int open_all(struct machine *m, struct err *e)
{
    int ret = seccomp_prepare((enum seccomp_deny)m->cfg.seccomp, e);

    _Static_assert(
        (int)CONFIG_SECCOMP_KILL == SECCOMP_KILL && (int)CONFIG_SECCOMP_TRAP == SECCOMP_TRAP &&
            (int)CONFIG_SECCOMP_LOG == SECCOMP_LOG && (int)CONFIG_SECCOMP_OFF == SECCOMP_OFF,
        "one order");
    /* Before any file of ours can have that number. */
    if (ret == 0 && m->cfg.ready_fd >= 0 && fcntl(m->cfg.ready_fd, F_GETFD) < 0)
        ret = err_set(e, EBADF,
                      "option --ready-fd: descriptor %d is not open: pass it on to "
                      "mayfly",
                      m->cfg.ready_fd);
    if (ret == 0)
        ret = open_log(m, e);
    if (ret == 0)
        ret = vm_open(&m->vm, e);
    if (ret == 0)
        ret = open_events(m, e);
    if (ret == 0)
        ret = open_pidfile(m, e);
    if (ret == 0)
        ret = open_console(m, e);
    return ret;
}

/* --- building ----------------------------------------------------------------------------- */

/* The sleep, reset and 8042 ports. A vCPU that switched the machine off does not run on. */
static void port_read(void *ctx, uint64_t off, void *data, unsigned len)
{
    const struct port_window *w = ctx;

    power_io_read(&w->machine->power, (uint16_t)(w->port + off), data, len);
}

static void port_write(void *ctx, uint64_t off, const void *data, unsigned len)
{
    const struct port_window *w = ctx;
    struct machine *m = w->machine;

    switch (power_io_write(&m->power, (uint16_t)(w->port + off), data, len)) {
    case POWER_NONE:
        break;
    case POWER_OFF:
        machine_end(m, END_POWEROFF, 0, "");
        break;
    case POWER_RESET:
        machine_end(m, END_RESET, 0, "");
        break;
    }
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write };

#ifdef MAYFLY_DEBUG
/* make DEBUG=1: what a kernel with earlyprintk=serial tells before it has a console. The line
 * status register says that the transmitter is empty. */
static void debug_port_read(void *ctx, uint64_t off, void *data, unsigned len)
{
    (void)ctx;
    memset(data, off == 5 ? 0x60 : 0, len);
}

static void debug_port_write(void *ctx, uint64_t off, const void *data, unsigned len)
{
    (void)ctx;
    if (off == 0 && write(STDERR_FILENO, data, len) < 0)
        errno = 0;
}

static const struct bus_ops debug_port_ops = { .read = debug_port_read, .write = debug_port_write };
#endif

static int build_ports(struct machine *m, struct err *e)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < ARRAY_LEN(m->port); i++)
        ret = bus_add(&m->pio, m->port[i].port, m->port[i].len, &port_ops, &m->port[i]);
#ifdef MAYFLY_DEBUG
    if (ret == 0)
        ret = bus_add(&m->pio, 0x3f8, 8, &debug_port_ops, NULL);
#endif
    return ret ? err_set(e, -ret, "I/O ports: %s", strerror(-ret)) : 0;
}

static void free_loops(struct slot *s)
{
    while (s->n_loops)
        loop_fini(&s->loop[--s->n_loops]);
    free(s->loop);
    s->loop = NULL;
}

/* The loops of the device that gets the next slot. */
static int build_loops(struct machine *m, unsigned n, struct err *e)
{
    struct slot *s = &m->slot[m->n_slots];
    int ret = m->n_slots < BOOT_DEVICES_MAX
                  ? 0
                  : boot_device_slot(m->n_slots, m->cfg.mmio_cmdline, &s->at, e);

    if (ret)
        return ret;
    s->loop = calloc(n, sizeof *s->loop);
    if (!s->loop)
        return err_set(e, ENOMEM, "event loop: out of memory: free some");
    while (ret == 0 && s->n_loops < n) {
        ret = loop_init(&s->loop[s->n_loops], e);
        s->n_loops += ret == 0;
    }
    if (ret)
        free_loops(s);
    return ret;
}

/* Gives a device its loops' slot, window and interrupt; it is wired to KVM in build_vm. */
static int build_slot(struct machine *m, struct slot *s, struct virtio_dev *dev,
                      enum seccomp_role role, struct err *e)
{
    int ret = boot_device_slot(m->n_slots, m->cfg.mmio_cmdline, &s->at, e);

    if (ret == 0)
        ret = virtio_mmio_init(&s->mmio, dev, e);
    if (ret) {
        dev->cls->free(dev);
        free_loops(s);
        return ret;
    }
    s->dev = dev;
    s->role = role;
    m->n_slots++;
    ret = bus_add(&m->mmio, s->at.base.v, s->at.len, &virtio_mmio_ops, &s->mmio);
    return ret ? err_set(e, -ret, "%s: window: %s", dev->name, strerror(-ret)) : 0;
}

static int build_console(struct machine *m, struct err *e)
{
    struct slot *s = &m->slot[m->n_slots];
    struct console_opts o = { .stream = &m->stream, .escape = on_escape, .escape_arg = m };
    int ret = build_loops(m, 1, e);

    if (ret)
        return ret;
    struct virtio_dev *console = console_new(&m->mem, s->loop, &o, e);

    if (!console) {
        free_loops(s);
        return -e->code;
    }
    return build_slot(m, s, console, SECCOMP_CONSOLE, e);
}

static int build_disk(struct machine *m, const struct config_disk *c, unsigned i, struct err *e)
{
    char name[16], id[16];
    struct slot *s = &m->slot[m->n_slots];
    struct disk_opts d = {
        .path = c->path,
        .read_only = c->ro,
        .direct = c->direct,
        .overlay = c->overlay,
        .overlay_dir = c->overlay_dir,
        .engine = (enum disk_engine_choice)c->io,
        .depth = (unsigned)c->queues * BLK_QMAX,
    };
    struct blk_opts o = {
        .name = name,
        .id = c->id[0] ? c->id : id,
        .queues = (unsigned)c->queues,
        .bw = c->bw,
        .bw_burst = c->bw_burst,
        .iops = c->iops,
        .iops_burst = c->iops_burst,
    };
    struct virtio_dev *blk = NULL;
    int ret = build_loops(m, 1, e);

    _Static_assert((int)CONFIG_IO_AUTO == DISK_ENGINE_AUTO &&
                       (int)CONFIG_IO_URING == DISK_ENGINE_URING &&
                       (int)CONFIG_IO_SYNC == DISK_ENGINE_SYNC,
                   "one order");
    if (ret)
        return ret;
    snprintf(id, sizeof id, "disk%u", i);
    o.disk = disk_open(&d, s->loop, e);
    if (o.disk) {
        bool sync = o.disk->engine->listen == NULL;

        snprintf(name, sizeof name, "%s%u", sync ? "blksync" : "blk", i);
        blk = blk_new(&m->mem, s->loop, &o, e);
        if (blk)
            return build_slot(m, s, blk, sync ? SECCOMP_BLK_SYNC : SECCOMP_BLK, e);
    }
    free_loops(s);
    return -e->code;
}

/* A handle of vhost's for each queue of the tap. */
static int build_vhost(struct machine *m, struct vhost *v, const struct tap *tap, struct err *e)
{
    for (unsigned i = 0; i < tap->n; i++) {
        int ret = vhost_open(&v[i], &m->mem, tap->name, e);

        while (ret && i > 0)
            vhost_close(&v[--i]);
        if (ret)
            return ret;
    }
    return 0;
}

static int build_net(struct machine *m, struct net_place *at, const struct config_net *c,
                     unsigned i, struct err *e)
{
    char name[16];
    struct slot *s = &m->slot[m->n_slots];
    bool vhost = c->vhost == CONFIG_ON;
    struct tap_opts t = {
        .name = c->tap, .fd = c->fd, .queues = (unsigned)c->queues, .mtu = (unsigned)c->mtu
    };
    struct net_opts o = { .name = name,
                          .tap = &at->tap,
                          .vhost = vhost ? at->vhost : NULL,
                          .mtu = (uint16_t)c->mtu,
                          .rx_bw = c->rx_bw,
                          .rx_bw_burst = c->rx_bw_burst,
                          .rx_pps = c->rx_pps,
                          .rx_pps_burst = c->rx_pps_burst,
                          .tx_bw = c->tx_bw,
                          .tx_bw_burst = c->tx_bw_burst,
                          .tx_pps = c->tx_pps,
                          .tx_pps_burst = c->tx_pps_burst };
    int ret = build_loops(m, vhost ? 1 : (unsigned)c->queues, e);

    if (ret)
        return ret;
    ret = tap_open(&at->tap, &t, e);
    if (ret == 0 && vhost) {
        ret = build_vhost(m, at->vhost, &at->tap, e);
        if (ret)
            tap_close(&at->tap);
    }
    if (ret == 0) {
        memcpy(o.mac, c->mac, sizeof o.mac);
        if (!c->mac_given)
            tap_mac(at->tap.name, o.mac);
        snprintf(name, sizeof name, "%s%u", vhost ? "vhost" : "net", i);
        struct virtio_dev *net = net_new(&m->mem, s->loop, &o, e);

        if (net)
            return build_slot(m, s, net, vhost ? SECCOMP_VHOST : SECCOMP_NET, e);
    }
    free_loops(s);
    return -e->code;
}

static int build_nets(struct machine *m, struct err *e)
{
    int ret = 0;

    if (m->cfg.nets.n)
        m->net = calloc(m->cfg.nets.n, sizeof *m->net);
    if (m->cfg.nets.n && !m->net)
        return err_set(e, ENOMEM, "net: out of memory: free some");
    for (unsigned i = 0; ret == 0 && i < m->cfg.nets.n; i++)
        ret = build_net(m, &m->net[i], &m->cfg.nets.net[i], i, e);
    return ret;
}

/* In the order in which the guest finds them. */
static int build_devices(struct machine *m, struct err *e)
{
    int ret = build_console(m, e);

    for (unsigned i = 0; ret == 0 && i < m->cfg.disks.n; i++)
        ret = build_disk(m, &m->cfg.disks.disk[i], i, e);
    return ret ? ret : build_nets(m, e);
}

static int build_guest(struct machine *m, struct boot_state *state, struct err *e)
{
    const struct config *c = &m->cfg;
    struct boot_device devices[BOOT_DEVICES_MAX];
    struct boot_config b = {
        .kernel = c->kernel,
        .initrds = c->initrd.path,
        .n_initrds = (int)c->initrd.n,
        .cmdline_extra = c->cmdline,
        .cmdline_raw = c->cmdline_raw,
        .entry = (enum boot_entry)c->entry,
        .mmio_cmdline = c->mmio_cmdline,
        .cpus = (unsigned)c->cpus,
        .devices = devices,
        .n_devices = (int)m->n_slots,
    };

    _Static_assert((int)CONFIG_ENTRY_AUTO == BOOT_ENTRY_AUTO &&
                       (int)CONFIG_ENTRY_ELF == BOOT_ENTRY_ELF &&
                       (int)CONFIG_ENTRY_PVH == BOOT_ENTRY_PVH,
                   "one order");
    for (unsigned i = 0; i < m->n_slots; i++)
        devices[i] = m->slot[i].at;
    /* At boot time of the host it could block: then the guest does without a seed, as on a PC. */
    if (getrandom(b.seed, sizeof b.seed, GRND_NONBLOCK) != (ssize_t)sizeof b.seed)
        log_warn("the host has no random seed for the guest yet");
    int ret = boot_load(&m->mem, &b, state, e);

    explicit_bzero(b.seed, sizeof b.seed);
    return ret;
}

/* A signal to us presses it; a guest without ACPI has none. */
static int build_button(struct machine *m, struct err *e)
{
    m->button = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->button < 0)
        return err_set(e, errno, "power button: %s: %s", strerror(errno),
                       err_remedy(errno, "report this"));
    return vm_irqfd(&m->vm, BOOT_BUTTON_GSI, m->button, e);
}

/* The interrupt of a device whose threads can raise it themselves. */
static void slot_pulse(void *arg)
{
    struct slot *s = arg;

    pthread_mutex_lock(&s->pulse);
    vm_irq(s->vm, s->at.gsi);
    pthread_mutex_unlock(&s->pulse);
}

/* Between a device and KVM. Kicks come by ioeventfds. The interrupt goes out by this process's own
 * call, unless somebody else signals an irqfd for the device: io_uring, or vhost. */
static int build_wires(struct machine *m, struct slot *s, struct err *e)
{
    gpa_t notify = { s->at.base.v + VIRTIO_MMIO_QUEUE_NOTIFY };
    int ret = 0;

    pthread_mutex_init(&s->pulse, NULL);
    s->vm = &m->vm;
    if (s->dev->signal || s->role == SECCOMP_VHOST) {
        ret = vm_irqfd(&m->vm, s->at.gsi, s->dev->irqfd, e);
    } else {
        s->dev->pulse = slot_pulse;
        s->dev->pulse_arg = s;
    }
    for (unsigned q = 0; ret == 0 && q < s->dev->nq; q++)
        ret = vm_ioeventfd(&m->vm, notify, q, s->dev->queue[q].kick.fd, e);
    return ret;
}

/* VM, vCPUs, and last the wires between devices and KVM: the irqchip's memslots and its bus want
 * this order (docs/architecture.md). */
static int build_vm(struct machine *m, const struct boot_state *b, struct err *e)
{
    const struct vcpu_start start = {
        .long_mode = b->mode == BOOT_MODE_LONG64,
        .rip = b->rip,
        .rsp = b->rsp,
        .rsi = b->rsi,
        .rbx = b->rbx,
        .cr3 = b->cr3,
        .gdt_base = b->gdt_base,
        .gdt_limit = b->gdt_limit,
        .cs = b->code.selector,
        .ds = b->data.selector,
        .tr = b->tss.selector,
    };
    int ret = vm_create(&m->vm, &m->mem, e);

    m->vcpus.vm = &m->vm;
    m->vcpus.mmio = &m->mmio;
    m->vcpus.pio = &m->pio;
    m->vcpus.on_start = on_vcpu_start;
    m->vcpus.on_end = on_vcpu_end;
    m->vcpus.arg = m;
    if (ret == 0)
        ret = vcpus_create(&m->vcpus, (unsigned)m->cfg.cpus, &start, e);
    if (ret == 0 && !m->cfg.mmio_cmdline)
        ret = build_button(m, e);
    for (unsigned i = 0; ret == 0 && i < m->n_slots; i++)
        ret = build_wires(m, &m->slot[i], e);
    return ret;
}

static int build_all(struct machine *m, struct err *e)
{
    const struct gmem_opts o = { .hugepages = m->cfg.hugepages, .prefault = m->cfg.prefault };
    struct boot_state state;
    int ret = gmem_init(&m->mem, m->cfg.memory, &o, e);

    if (ret == 0)
        ret = build_ports(m, e);
    if (ret == 0)
        ret = build_devices(m, e);
    if (ret == 0)
        ret = build_guest(m, &state, e);
    if (ret == 0)
        ret = build_vm(m, &state, e);
    return ret;
}

/* --- running ------------------------------------------------------------------------------ */

/* A thread for each loop: "net0", and for its further queues "net0q1". */
static int spawn_slot(struct slot *s, struct err *e)
{
    char name[32];
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < s->n_loops; i++) {
        if (i)
            snprintf(name, sizeof name, "%sq%u", s->dev->name, i);
        ret = loop_start(&s->loop[i], i ? name : s->dev->name,
                         i ? on_queues_start : on_device_start, s, e);
    }
    return ret;
}

static int spawn_all(struct machine *m, struct err *e)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < m->n_slots; i++)
        ret = spawn_slot(&m->slot[i], e);
    if (ret)
        return ret;
    if (m->cfg.console.kind == CONFIG_CONSOLE_STDIO && m->stream.in_tty)
        log_set_raw(term_raw(&terminal, STDIN_FILENO));
    if (m->cfg.timeout_ms)
        timer_set(m->timeout.fd, m->cfg.timeout_ms);
    stream_start(&m->stream);
    ret = vcpus_run(&m->vcpus, e);
    if (ret == 0)
        enter_role(m, SECCOMP_MAIN); /* before anybody is told, in a write that may wait */
    if (ret == 0 && m->cfg.ready_fd >= 0) {
        if (write(m->cfg.ready_fd, "R", 1) != 1)
            log_warn("option --ready-fd: %s", strerror(errno));
        close(m->cfg.ready_fd);
    }
    return ret;
}

/* Brings every thread in; what the guest printed last still goes out. */
static void join_all(struct machine *m)
{
    vcpus_join(&m->vcpus);
    for (unsigned i = 0; i < m->n_slots; i++) {
        virtio_settle(m->slot[i].dev);
        for (unsigned j = 0; j < m->slot[i].n_loops; j++)
            loop_join(&m->slot[i].loop[j]);
    }
    if (m->n_slots) {
        uint64_t lost = console_finish(m->slot[0].dev, (int)min_u64(m->cfg.grace_ms, INT32_MAX));

        if (lost)
            log_warn("console: the reader did not take the last %" PRIu64 " bytes", lost);
    }
    term_restore(&terminal);
    log_set_raw(false);
}

static void free_all(struct machine *m)
{
    vcpus_free(&m->vcpus);
    for (unsigned i = 0; i < m->n_slots; i++) {
        virtio_mmio_fini(&m->slot[i].mmio);
        m->slot[i].dev->cls->free(m->slot[i].dev);
        free_loops(&m->slot[i]);
    }
    free(m->net);
    vm_close(&m->vm);
    stream_close(&m->stream);
    gmem_fini(&m->mem);
    if (m->pidfile_made)
        unlink(m->cfg.pidfile);
    /* Descriptors and the main loop end with the process. */
}

static int fail(const struct err *e)
{
    dprintf(STDERR_FILENO, "mayfly: %s\n", e->msg);
    return EXIT_MAYFLY;
}

static int run(struct machine *m)
{
    struct err e;
    int ret = open_all(m, &e);

    if (ret == 0)
        ret = build_all(m, &e);
    if (ret == 0)
        ret = spawn_all(m, &e);
    if (ret == 0)
        loop_run(&m->loop);
    join_all(m);
    int status = ret ? fail(&e) : report_end(m);

    if (ret && m->log_opened)
        log_error("%s", e.msg);

    if (ret && m->stream.made)
        unlink(m->cfg.console.path);
    free_all(m);
    return status;
}

/* The place of a closed standard descriptor would go to the next file opened, and then the console
 * or a message into that. Each is held by one open the wrong way round. */
static void hold_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) {
            int held = open("/dev/null", fd ? O_RDONLY : O_WRONLY);

            if (held != fd)
                _exit(EXIT_MAYFLY); /* and there may be nowhere to say so */
        }
}

int main(int argc, char **argv)
{
    struct machine *m = &machine;
    struct err e;

    relro_protect();
    hold_standard_fds();
    stream_none(&m->stream);
    m->vm.kvm = m->vm.fd = m->button = -1;
    m->port[0] = (struct port_window){ m, POWER_PORT_SLEEP_CONTROL, 3 };
    m->port[1] = (struct port_window){ m, POWER_PORT_8042, 1 };
    if (config_from_args(&m->cfg, argc, argv, &e))
        return fail(&e);
    switch (m->cfg.command) {
    case CONFIG_RUN:
        return run(m);
    case CONFIG_PROBE:
        return probe_run(stdout) ? 0 : 1;
    case CONFIG_VERSION:
        return printf("mayfly %s\n", MAYFLY_VERSION) < 0 || fflush(stdout) ? EXIT_MAYFLY : 0;
    case CONFIG_NONE:
    case CONFIG_HELP:
        break;
    }
    config_help(stdout);
    return fflush(stdout) ? EXIT_MAYFLY : 0;
}
