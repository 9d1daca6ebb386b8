/* features: what a program may expect of the guest's kernel, by trying it. A line for each:
 * "NAME: yes", or "NAME: " and the error. Each is the smallest use that would fail without the
 * feature; the files it makes are in /tmp.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/keyctl.h>
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* A feature's function returns 0, or -1 and errno. */
static int check(long r)
{
    return r < 0 ? -1 : 0;
}

static int wrong(void)
{
    errno = EBADMSG;
    return -1;
}

/* A filter under which getppid() is refused by a number of our own. */
static int try_seccomp(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { .len = sizeof code / sizeof code[0], .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
        return -1;
    return syscall(SYS_getppid) == -1 && errno == 77 ? 0 : wrong();
}

/* Puts a no-op into a ring whose parts are mapped, and takes it out again. */
static int ring_nop(int fd, const struct io_uring_params *p, uint8_t *ring,
                    struct io_uring_sqe *sqe)
{
    const struct io_uring_cqe *cqe = (void *)(ring + p->cq_off.cqes);

    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = 4711;
    ((uint32_t *)(ring + p->sq_off.array))[0] = 0;
    __atomic_store_n((uint32_t *)(ring + p->sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -1;
    return cqe->user_data == 4711 && cqe->res == 0 ? 0 : wrong();
}

static int try_io_uring(void)
{
    struct io_uring_params p = { 0 };
    int fd = (int)syscall(SYS_io_uring_setup, 2, &p), ret = -1;

    if (fd < 0)
        return -1;
    size_t len = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    size_t sqes = p.sq_entries * sizeof(struct io_uring_sqe);
    void *ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)IORING_OFF_SQ_RING);
    void *sqe = mmap(NULL, sqes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)IORING_OFF_SQES);

    if (ring != MAP_FAILED && sqe != MAP_FAILED)
        ret = ring_nop(fd, &p, ring, sqe);
    if (ring != MAP_FAILED)
        munmap(ring, len);
    if (sqe != MAP_FAILED)
        munmap(sqe, sqes);
    return ret;
}

/* A datagram to ourselves over loopback. */
static int try_loopback(const struct sockaddr *any, socklen_t len)
{
    struct sockaddr_storage self;
    char c = 0;
    int s = socket(any->sa_family, SOCK_DGRAM, 0);

    if (s < 0 || bind(s, any, len) < 0 || getsockname(s, (struct sockaddr *)&self, &len) < 0 ||
        sendto(s, "x", 1, 0, (struct sockaddr *)&self, len) < 0 || recv(s, &c, 1, 0) < 0)
        return -1;
    return c == 'x' ? 0 : wrong();
}

static int try_inet(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    return try_loopback((struct sockaddr *)&a, sizeof a);
}

static int try_inet6(void)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

    return try_loopback((struct sockaddr *)&a, sizeof a);
}

static int try_unix(void)
{
    int s[2];

    return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
}

static int try_packet(void)
{
    struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(3), .sll_ifindex = 1 };
    int s = socket(AF_PACKET, SOCK_RAW, 0);

    return s < 0 ? -1 : bind(s, (struct sockaddr *)&a, sizeof a);
}

static int try_vsock(void)
{
    struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024 };
    int s = socket(AF_VSOCK, SOCK_STREAM, 0);

    return s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) < 0 ? -1 : listen(s, 1);
}

/* Into new ones of every kind, as a container's first process. */
static int try_namespaces(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID |
                   CLONE_NEWNET | CLONE_NEWCGROUP | 0x80 /* CLONE_NEWTIME */);
}

static int try_epoll(void)
{
    return check(epoll_create1(0));
}

static int try_eventfd(void)
{
    return check(eventfd(0, 0));
}

static int try_signalfd(void)
{
    sigset_t set;

    sigemptyset(&set);
    return check(signalfd(-1, &set, 0));
}

static int try_timerfd(void)
{
    return check(timerfd_create(CLOCK_MONOTONIC, 0));
}

static int try_timer(void)
{
    struct sigevent ev = { .sigev_notify = SIGEV_NONE };
    timer_t t;

    return timer_create(CLOCK_MONOTONIC, &ev, &t);
}

static int try_inotify(void)
{
    return check(inotify_add_watch(inotify_init1(0), "/tmp", IN_CREATE));
}

static int try_fanotify(void)
{
    return check(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
}

static int try_aio(void)
{
    aio_context_t ctx = 0;

    return check(syscall(SYS_io_setup, 1, &ctx));
}

static int try_memfd(void)
{
    return check(memfd_create("m", 0));
}

static int try_mqueue(void)
{
    return check((long)mq_open("/features", O_CREAT | O_RDWR, 0600, NULL));
}

static int try_sysvipc(void)
{
    return shmget(IPC_PRIVATE, 4096, 0600) < 0 || semget(IPC_PRIVATE, 1, 0600) < 0 ||
                   msgget(IPC_PRIVATE, 0600) < 0
               ? -1
               : 0;
}

static int try_locks(void)
{
    struct flock l = { .l_type = F_WRLCK };
    int fd = open("/tmp/locks", O_CREAT | O_RDWR, 0600);

    return flock(fd, LOCK_EX) < 0 ? -1 : fcntl(fd, F_OFD_SETLK, &l);
}

static int try_xattr(void)
{
    /* The ACL that the mode 0700 says: version 2, then owner, group, others. */
    static const struct {
        uint32_t version;
        struct {
            uint16_t tag, perm;
            uint32_t id;
        } e[3];
    } acl = { 2, { { 1, 7, UINT32_MAX }, { 4, 0, UINT32_MAX }, { 32, 0, UINT32_MAX } } };
    int fd = open("/tmp/xattr", O_CREAT | O_RDWR, 0600);

    return fsetxattr(fd, "trusted.a", "b", 1, 0) < 0
               ? -1
               : fsetxattr(fd, "system.posix_acl_access", &acl, sizeof acl, 0);
}

static int try_fhandle(void)
{
    union {
        struct file_handle h;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } u = { .h.handle_bytes = MAX_HANDLE_SZ };
    int mount_id;

    return name_to_handle_at(AT_FDCWD, "/tmp", &u.h, &mount_id, 0);
}

static int try_process_vm(void)
{
    char a = 1, b = 2;
    struct iovec to = { &a, 1 }, from = { &b, 1 };

    return check(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
}

static int try_kcmp(void)
{
    return check(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILES, 0, 0));
}

static int try_membarrier(void)
{
    return check(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
}

static int try_rseq(void)
{
    static struct rseq area __attribute__((aligned(32)));

    return check(syscall(SYS_rseq, &area, sizeof area, 0, 0x53053053));
}

static int try_madvise(void)
{
    void *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return madvise(p, 4 << 20, MADV_HUGEPAGE);
}

static int try_keyring(void)
{
    return check(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "features"));
}

/* What lets a cgroup decide on devices; attaching it needs a cgroup, loading it does not. */
static int try_bpf_devices(void)
{
    const struct bpf_insn code[] = {
        { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
        { .code = BPF_JMP | BPF_EXIT },
    };
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uintptr_t)code,
        .insn_cnt = 2,
        .license = (uintptr_t) "",
    };

    return check(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));
}

static int try_random(void)
{
    char b[16];

    return check(getrandom(b, sizeof b, GRND_NONBLOCK));
}

static int try_pty(void)
{
    int fd = open("/dev/ptmx", O_RDWR);

    return fd < 0 ? -1 : check((long)(ptsname(fd) ? 0 : -1));
}

/* A core file of a child that died; its name is relative, so it is put into /tmp. */
static int try_coredump(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (chdir("/tmp") == 0)
            raise(SIGABRT);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WCOREDUMP(status) ? 0 : wrong();
}

static const struct {
    const char *name;
    int (*try)(void);
} features[] = {
    { "aio", try_aio },
    { "bpf_devices", try_bpf_devices },
    { "coredump", try_coredump },
    { "epoll", try_epoll },
    { "eventfd", try_eventfd },
    { "fanotify", try_fanotify },
    { "fhandle", try_fhandle },
    { "inet", try_inet },
    { "inet6", try_inet6 },
    { "inotify", try_inotify },
    { "io_uring", try_io_uring },
    { "kcmp", try_kcmp },
    { "keyring", try_keyring },
    { "locks", try_locks },
    { "madvise_huge", try_madvise },
    { "membarrier", try_membarrier },
    { "memfd", try_memfd },
    { "mqueue", try_mqueue },
    { "namespaces", try_namespaces },
    { "packet", try_packet },
    { "process_vm", try_process_vm },
    { "pty", try_pty },
    { "random", try_random },
    { "rseq", try_rseq },
    { "seccomp", try_seccomp },
    { "signalfd", try_signalfd },
    { "sysvipc", try_sysvipc },
    { "timer", try_timer },
    { "timerfd", try_timerfd },
    { "unix", try_unix },
    { "vsock", try_vsock },
    { "xattr", try_xattr },
};

/* Each in a process of its own: a filter or a namespace must not meet the next. */
int main(void)
{
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        fflush(stdout);
        pid_t pid = fork();

        if (pid == 0) {
            if (features[i].try() == 0)
                printf("%s: yes\n", features[i].name);
            else
                printf("%s: %s\n", features[i].name, strerror(errno));
            fflush(stdout);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
    }
    return 0;
}
