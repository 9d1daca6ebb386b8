/* The policy: which role may make which system call, and the compiler of it.
 *
 * The build runs this program; it is no part of Mayfly. One table says everything: a line is a
 * call, the roles that may make it, what its arguments must be, and the code that makes it.
 * libseccomp turns the lines of a role into a BPF program that tries them in the table's order, so
 * what a running guest costs stands at the top.
 *
 *   policy --filters   the programs as C arrays, and the calls' names (filters.h, for enter.c)
 *   policy --table     the lines, tab-separated, for tests and the census (policy.tsv)
 *
 * A line for what tests rarely meet says why in `rare`; all others must be seen to happen. Calls
 * that are made before a thread enters its role need no line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/num.h"
#include "core/thread.h"
#include "seccomp/enter.h"

#define MAIN    (1u << SECCOMP_MAIN)
#define VCPU    (1u << SECCOMP_VCPU)
#define CONSOLE (1u << SECCOMP_CONSOLE)
#define URING   (1u << SECCOMP_BLK)
#define SYNC    (1u << SECCOMP_BLK_SYNC)
#define BLK     (URING | SYNC)
#define OWN     (1u << SECCOMP_NET)
#define VHOST   (1u << SECCOMP_VHOST)
#define NET     (OWN | VHOST)
#define DEVICES (CONSOLE | BLK | NET)
#define ALL     (MAIN | VCPU | DEVICES)

static const char *const role_names[SECCOMP_ROLES] = {
    [SECCOMP_MAIN] = "main",   [SECCOMP_VCPU] = "vcpu",        [SECCOMP_CONSOLE] = "console",
    [SECCOMP_BLK] = "blk",     [SECCOMP_BLK_SYNC] = "blksync", [SECCOMP_NET] = "net",
    [SECCOMP_VHOST] = "vhost",
};

#define RARE_MAX  12
#define CONDS_MAX 2

/* The low 32 bits of argument `arg`, under mask, are value. The kernel reads no more of these
 * arguments than 32 bits, and musl sign-extends some. */
struct cond {
    bool used;
    unsigned arg;
    uint32_t mask, value;
    const char *text;
};

#define COND(n, m, v, t)                                                                           \
    {                                                                                              \
        .used = true, .arg = (n), .mask = (uint32_t)(m), .value = (uint32_t)(v), .text = (t)       \
    }
#define IS(n, v) COND(n, UINT32_MAX, v, #v)
/* The private flag says that only this process uses the word: the same operation. */
#define FUTEX(op) COND(1, ~FUTEX_PRIVATE_FLAG, op, #op)

struct line {
    unsigned roles;
    const char *call;
    struct cond cond[CONDS_MAX];
    const char *where; /* the code that needs it */
    const char *rare;  /* why a test rarely sees it; NULL: it does */
};

/* clang-format off */
static const struct line policy[] = {
    /* --- a running guest --- */
    { VCPU, "ioctl", { IS(1, KVM_RUN) }, "kvm/vcpu.c vcpu_main", NULL },
    { URING, "io_uring_enter", { { 0 } }, "host/uring.c uring_round", NULL },
    { OWN, "readv", { { 0 } }, "virtio/netio.c rx_read", NULL },
    { OWN, "writev", { { 0 } }, "virtio/netio.c tx_write", NULL },
    { CONSOLE | SYNC | OWN, "ioctl", { IS(1, KVM_IRQ_LINE) }, "kvm/vm.c vm_irq", NULL },
    { SYNC, "preadv", { { 0 } }, "host/disk.c sync_start", NULL },
    { SYNC, "pwritev", { { 0 } }, "host/disk.c sync_start", NULL },
    { SYNC, "fdatasync", { { 0 } }, "host/disk.c sync_start", NULL },
    { SYNC, "fallocate", { { 0 } }, "host/disk.c sync_start", NULL },
    { MAIN | DEVICES, "epoll_pwait", { { 0 } }, "core/loop.c loop_run", NULL },
    { MAIN | DEVICES, "read", { { 0 } }, "kicks, the loop's door, signals, the console's input", NULL },
    { ALL, "write", { { 0 } }, "interrupts, kicks, the loop's door, core/log.c", NULL },
    { MAIN | CONSOLE, "writev", { { 0 } }, "host/outring.c; dprintf of report.c", NULL },
    { ALL, "futex", { FUTEX(FUTEX_WAKE) }, "pthread_mutex_unlock; pthread_cond_broadcast of core/loop.c", NULL },
    { ALL, "futex", { FUTEX(FUTEX_WAIT) }, "pthread_mutex_lock; pthread_cond_wait of core/loop.c; pthread_join", NULL },
    { CONSOLE, "timerfd_settime", { { 0 } }, "virtio/console.c knock_timer", NULL },
    { BLK, "timerfd_settime", { { 0 } }, "virtio/blk.c blk_set_timer", NULL },
    { OWN, "timerfd_settime", { { 0 } }, "virtio/netio.c timer_set", NULL },
    { MAIN | CONSOLE | NET, "epoll_ctl", { { 0 } }, "core/loop.c loop_arm", NULL },
    { NET, "ioctl", { IS(1, TUNSETOFFLOAD) }, "host/tap.c tap_set_offload", NULL },
    { NET, "ioctl", { IS(1, TUNSETTXFILTER) }, "host/tap.c tap_set_filter", NULL },
    { NET, "ioctl", { IS(1, TUNSETQUEUE) }, "host/tap.c tap_set_queue", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_FEATURES) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_NUM) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_BASE) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_ADDR) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_KICK) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_CALL) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_SET_VRING_ERR) }, "host/vhost.c vhost_start", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_NET_SET_BACKEND) }, "host/vhost.c vhost_start, vhost_stop", NULL },
    { VHOST, "ioctl", { IS(1, VHOST_GET_VRING_BASE) }, "host/vhost.c vhost_stop", NULL },
    { CONSOLE, "ioctl", { IS(1, TIOCGWINSZ) }, "host/stream.c stream_size", NULL },

    /* --- main: signals, timers, the end --- */
    { MAIN, "timerfd_settime", { { 0 } }, "vmm.c timer_set, --grace", NULL },
    { MAIN, "ioctl", { IS(1, TCSETS) }, "host/term.c term_raw after a stop, term_restore", NULL },
    { MAIN, "ioctl", { IS(1, TIOCGPGRP) }, "host/term.c term_restore", NULL },
    { MAIN, "getpgid", { IS(0, 0) }, "host/term.c term_restore", NULL },
    { MAIN, "getpid", { { 0 } }, "kvm/vcpu.c vcpus_join", NULL },
    { MAIN, "tgkill", { IS(0, SECCOMP_OWN_PID), IS(2, THREAD_KICK_SIGNAL) }, "kvm/vcpu.c vcpus_join", NULL },
    { MAIN, "poll", { { 0 } }, "virtio/console.c console_finish", NULL },
    { MAIN, "nanosleep", { { 0 } }, "host/stream.c stream_drain", NULL },
    { MAIN, "ioctl", { IS(1, FIONREAD) }, "host/stream.c stream_drain", NULL },
    { MAIN, "ioctl", { IS(1, KVM_GET_REGS) }, "kvm/vcpu.c vcpu_rip", NULL },
    { MAIN, "mincore", { { 0 } }, "boot/klog.c klog_find", NULL },
    { MAIN, "fcntl", { IS(1, F_GETFL) }, "host/stream.c stream_restore", NULL },
    { MAIN, "fcntl", { IS(1, F_SETFL) }, "host/stream.c stream_restore", NULL },
    { MAIN, "fcntl", { IS(1, F_OFD_SETLK) }, "host/image.c image_close", NULL },
    { MAIN, "close", { { 0 } }, "vmm.c free_all", NULL },
    { MAIN, "munmap", { { 0 } }, "vmm.c free_all; the stack of a thread that was joined", NULL },
    { MAIN, "unlink", { { 0 } }, "vmm.c free_all: the pidfile", NULL },
    { MAIN, "exit_group", { { 0 } }, "the end of main", NULL },

    /* --- threads end --- */
    { ALL, "rt_sigprocmask", { { 0 } }, "musl's pthread_exit, and raise", NULL },
    { VCPU | DEVICES, "exit", { { 0 } }, "musl's pthread_exit", NULL },
    { VCPU, "rt_sigreturn", { { 0 } }, "kvm/vcpu.c on_kick", NULL },

    /* --- what goes wrong --- */
    { MAIN, "madvise", { IS(2, MADV_FREE) }, "musl's free: whole pages of a slot; vmm.c free_all",
      "depends on an allocation's size, and on what lay beside it" },
    { VCPU | BLK | VHOST, "writev", { { 0 } }, "musl's assert: virtio/mmio.c, virtio/blk.c, virtio/queue.c; virtio/netio.c tx_write after vhost", "a failed assertion is a bug" },
    { ALL, "clock_gettime", { { 0 } }, "core/log.c log_allow; core/clock.h; virtio/console.c now_ms",
      "the vDSO answers, unless the host's clock source has no user-space part" },
    { VHOST, "timerfd_settime", { { 0 } }, "virtio/netio.c timer_set",
      "a tap that was deleted under vhost: its frames come back to us, to be dropped" },
    { VCPU | DEVICES, "exit_group", { { 0 } }, "vmm.c on_fatal: a forbidden call was tried",
      "ends the process after the report, which no healthy run makes" },
    { MAIN | DEVICES, "rt_sigreturn", { { 0 } }, "vmm.c on_fatal: back to the fault, which then kills",
      "a thread that faults is a bug" },
    { ALL, "tkill", { IS(0, SECCOMP_OWN_TID) }, "vmm.c on_fatal: raise; abort",
      "kills this thread's process by the signal it would have died of" },
    { VCPU | DEVICES, "ioctl", { IS(1, TCSETS) }, "vmm.c on_fatal: term_restore",
      "a thread that faults is a bug" },
    { VCPU | DEVICES, "ioctl", { IS(1, TIOCGPGRP) }, "vmm.c on_fatal: term_restore",
      "a thread that faults is a bug" },
    { VCPU | DEVICES, "getpgid", { IS(0, 0) }, "vmm.c on_fatal: term_restore",
      "a thread that faults is a bug" },
    { VCPU | DEVICES, "fcntl", { IS(1, F_GETFL) }, "vmm.c on_fatal: stream_restore",
      "a thread that faults is a bug" },
    { VCPU | DEVICES, "fcntl", { IS(1, F_SETFL) }, "vmm.c on_fatal: stream_restore",
      "a thread that faults is a bug" },
    { MAIN | VCPU | OWN, "futex", { FUTEX(FUTEX_REQUEUE) }, "pthread_cond_wait of core/loop.c",
      "two threads at one door at one moment, which the one processor of the lab rarely shows" },
    { MAIN, "restart_syscall", { { 0 } }, "the kernel, for a wait that SIGSTOP broke off",
      "waits with a time limit that a stop and SIGCONT met" },
};
/* clang-format on */

static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("policy: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static int call_number(const char *name)
{
    int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);

    if (nr < 0)
        die("%s: no such system call", name);
    return nr;
}

/* What a reader may rely on: rare lines have a bound, and every line has its place. */
static void check_policy(void)
{
    for (unsigned role = 0; role < SECCOMP_ROLES; role++) {
        unsigned rare = 0;

        for (size_t i = 0; i < ARRAY_LEN(policy); i++)
            if (policy[i].roles & 1u << role && policy[i].rare)
                rare++;
        if (rare > RARE_MAX)
            die("role %s: %u rare lines, more than %d", role_names[role], rare, RARE_MAX);
    }
    for (size_t i = 0; i < ARRAY_LEN(policy); i++)
        if (!policy[i].where || !*policy[i].where || (policy[i].rare && !*policy[i].rare))
            die("line %zu, %s: it does not say where or why", i, policy[i].call);
}

/* --- filters.h ---------------------------------------------------------------------------- */

static void add_line(scmp_filter_ctx ctx, const struct line *l, unsigned place)
{
    struct scmp_arg_cmp arg[CONDS_MAX];
    unsigned n = 0;
    int nr = call_number(l->call);

    for (; n < CONDS_MAX && l->cond[n].used; n++)
        arg[n] = (struct scmp_arg_cmp){ .arg = l->cond[n].arg,
                                        .op = SCMP_CMP_MASKED_EQ,
                                        .datum_a = l->cond[n].mask,
                                        .datum_b = l->cond[n].value };
    int ret = seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, nr, n, arg);

    if (ret == 0)
        ret = seccomp_syscall_priority(ctx, nr, (uint8_t)(UINT8_MAX - place));
    if (ret)
        die("%s: %s", l->call, strerror(-ret));
}

/* The role's program in f, a temporary file; how many instructions it has. */
static size_t compile(unsigned role, FILE *f)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);

    /* Calls of i386 and x32 have other numbers: none of them passes. */
    if (!ctx || seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP))
        die("libseccomp does not start");
    for (size_t i = ARRAY_LEN(policy); i-- > 0;) /* the first line of a call decides its place */
        if (policy[i].roles & 1u << role)
            add_line(ctx, &policy[i], (unsigned)i);
    int ret = seccomp_export_bpf(ctx, fileno(f));

    if (ret)
        die("role %s: %s", role_names[role], strerror(-ret));
    seccomp_release(ctx);
    return (size_t)lseek(fileno(f), 0, SEEK_END) / 8;
}

static void write_names(void)
{
    int last = 0;

    for (int nr = 0; nr < 1024; nr++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);

        if (name)
            last = nr;
        free(name);
    }
    printf("static const char seccomp_call_names[] =\n");
    for (int nr = 0; nr <= last; nr++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);

        printf("    \"%s\\0\"\n", name ? name : "");
        free(name);
    }
    printf("    ;\n");
}

static void write_filters(void)
{
    size_t n[SECCOMP_ROLES], max = 0;

    printf("/* Made by seccomp/policy.c. */\n\n");
    for (unsigned role = 0; role < SECCOMP_ROLES; role++) {
        struct {
            uint16_t code;
            uint8_t jt, jf;
            uint32_t k;
        } insn;
        FILE *f = tmpfile();

        if (!f)
            die("a temporary file: %s", strerror(errno));
        n[role] = compile(role, f);
        max = n[role] > max ? n[role] : max;
        rewind(f);
        printf("static const struct sock_filter seccomp_filter_%s[] = {\n", role_names[role]);
        while (fread(&insn, sizeof insn, 1, f) == 1)
            printf("    { 0x%02x, %u, %u, 0x%08x },\n", insn.code, insn.jt, insn.jf, insn.k);
        printf("};\n\n");
        fclose(f);
    }
    printf("#define SECCOMP_FILTER_MAX %zu\n\n", max);
    printf("static const struct {\n    const char *name;\n    const struct sock_filter *code;\n"
           "    size_t n;\n} seccomp_filters[] = {\n");
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        printf("    { \"%s\", seccomp_filter_%s, %zu },\n", role_names[role], role_names[role],
               n[role]);
    printf("};\n\n");
    write_names();
}

/* --- the table ---------------------------------------------------------------------------- */

/* role, call, its number, conditions ("-" or "aN&MASK=VALUE TEXT", joined by "; "), where, why it
 * is rare ("-": it is not). */
static void write_table(void)
{
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (size_t i = 0; i < ARRAY_LEN(policy); i++) {
            const struct line *l = &policy[i];

            if (!(l->roles & 1u << role))
                continue;
            printf("%s\t%s\t%d\t", role_names[role], l->call, call_number(l->call));
            for (unsigned c = 0; c < CONDS_MAX && l->cond[c].used; c++)
                printf("%sa%u&0x%x=0x%x %s", c ? "; " : "", l->cond[c].arg, l->cond[c].mask,
                       l->cond[c].value, l->cond[c].text);
            printf("%s\t%s\t%s\n", l->cond[0].used ? "" : "-", l->where, l->rare ? l->rare : "-");
        }
}

int main(int argc, char **argv)
{
    check_policy();
    if (argc == 2 && strcmp(argv[1], "--filters") == 0) {
        write_filters();
    } else if (argc == 2 && strcmp(argv[1], "--table") == 0) {
        write_table();
    } else {
        fprintf(stderr, "usage: policy --filters|--table\n");
        return 2;
    }
    return fflush(stdout) ? 1 : 0;
}
