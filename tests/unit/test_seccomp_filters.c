/* The filters as they were compiled, run by an interpreter of classic BPF: every call of every role
 * against the policy's table, and against a list of what no role may ever have. What happens then
 * in a thread is tests/guest/seccomp.bats's. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "core/num.h"
#include "seccomp/enter.h"
#include "seccomp/filters.h"

#ifndef SYS_SECCOMP /* as in enter.c */
#define SYS_SECCOMP 1
#endif

/* What the program makes of a call. Fails on an instruction that libseccomp does not write. */
static uint32_t run(unsigned role, const struct seccomp_data *d)
{
    const struct sock_filter *code = seccomp_filters[role].code;
    uint32_t a = 0;

    for (size_t pc = 0; pc < seccomp_filters[role].n; pc++) {
        const struct sock_filter *i = &code[pc];

        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k % 4 == 0 && i->k + 4 <= sizeof *d);
            memcpy(&a, (const char *)d + i->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            pc += a > i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("instruction %zu: code 0x%x", pc, i->code);
        }
    }
    fail_msg("role %u: it runs off its end", role);
    return 0;
}

static bool allowed(unsigned role, const struct seccomp_data *d)
{
    uint32_t ret = run(role, d);

    assert_true(ret == SECCOMP_RET_ALLOW || ret == SECCOMP_RET_TRAP);
    return ret == SECCOMP_RET_ALLOW;
}

static struct seccomp_data call(int nr)
{
    return (struct seccomp_data){ .nr = nr, .arch = AUDIT_ARCH_X86_64 };
}

/* --- against the table -------------------------------------------------------------------- */

#define LINES_MAX 256

struct row {
    unsigned role;
    int nr;
    unsigned conds;
    struct {
        unsigned arg;
        uint32_t mask, value;
    } cond[2];
};

static struct row rows[LINES_MAX];
static size_t n_rows;

static void read_table(void)
{
    FILE *f = fopen("build/gen/seccomp/policy.tsv", "re");
    char line[1024], *field[6];

    assert_non_null(f);
    for (n_rows = 0; fgets(line, sizeof line, f); n_rows++) {
        struct row *r = &rows[n_rows];
        char *rest = line;

        assert_true(n_rows < LINES_MAX);
        for (size_t i = 0; i < ARRAY_LEN(field); i++)
            assert_non_null(field[i] = strsep(&rest, "\t\n"));
        *r = (struct row){ .nr = atoi(field[2]) };
        while (r->role < SECCOMP_ROLES && strcmp(seccomp_filters[r->role].name, field[0]) != 0)
            r->role++;
        assert_true(r->role < SECCOMP_ROLES);
        for (char *c = field[3]; c && *c == 'a'; c = strstr(c, "; ") ? strstr(c, "; ") + 2 : NULL) {
            unsigned k = r->conds++;

            assert_true(k < ARRAY_LEN(r->cond));
            assert_int_equal(
                sscanf(c, "a%u&0x%x=0x%x", &r->cond[k].arg, &r->cond[k].mask, &r->cond[k].value),
                3);
        }
    }
    fclose(f);
    assert_true(n_rows > 30);
}

/* Whether the table lets it through. */
static bool listed(unsigned role, const struct seccomp_data *d)
{
    for (size_t i = 0; i < n_rows; i++) {
        bool match = rows[i].role == role && rows[i].nr == d->nr;

        for (unsigned k = 0; match && k < rows[i].conds; k++)
            match = ((uint32_t)d->args[rows[i].cond[k].arg] & rows[i].cond[k].mask) ==
                    rows[i].cond[k].value;
        if (match)
            return true;
    }
    return false;
}

/* Arguments near those that lines name, and the upper halves that nobody reads. */
static void every_call_is_judged_as_the_table_says(void **state)
{
    struct rng rng = { 3 };
    unsigned passed = 0, refused = 0;

    (void)state;
    read_table();
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (int nr = -2; nr < 1200; nr++)
            for (int try = 0; try < 200; try++) {
                struct seccomp_data d = call(nr);

                for (unsigned a = 0; a < 6; a++) {
                    const struct row *r = &rows[rng_below(&rng, n_rows)];
                    unsigned k = (unsigned)rng_below(&rng, 2);

                    d.args[a] = rng_chance(&rng, 50) ? r->cond[k].value : rng_next(&rng);
                    if (rng_chance(&rng, 10))
                        d.args[a] ^= 1ull << rng_below(&rng, 64);
                }
                /* Its own line's, so that each is met. */
                for (size_t i = 0; i < n_rows; i++)
                    if (rows[i].nr == nr && rng_chance(&rng, 30))
                        for (unsigned k = 0; k < rows[i].conds; k++)
                            d.args[rows[i].cond[k].arg] = rows[i].cond[k].value;
                bool yes = allowed(role, &d);

                if (yes != listed(role, &d))
                    fail_msg("role %u, call %d(%llx, %llx, %llx): %s", role, nr, d.args[0],
                             d.args[1], d.args[2], yes ? "allowed" : "refused");
                passed += yes;
                refused += !yes;
            }
    assert_true(passed > 1000 && refused > 100000);
}

/* --- what nobody may have ----------------------------------------------------------------- */

/* clang-format off */
static const int way_out[] = {
    SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_open, SYS_openat,
    SYS_openat2, SYS_creat, SYS_socket, SYS_connect, SYS_bind, SYS_sendto, SYS_sendmsg, SYS_mmap,
    SYS_mprotect, SYS_mremap, SYS_pkey_mprotect, SYS_shmat, SYS_remap_file_pages, SYS_ptrace,
    SYS_kill, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_pidfd_send_signal,
    SYS_bpf, SYS_io_uring_setup, SYS_io_uring_register, SYS_userfaultfd,
    SYS_perf_event_open, SYS_rt_sigaction, SYS_prctl, SYS_arch_prctl, SYS_seccomp, SYS_setuid,
    SYS_setgid, SYS_setns, SYS_unshare, SYS_mount, SYS_chroot, SYS_pivot_root, SYS_rename,
    SYS_link, SYS_symlink, SYS_chmod, SYS_truncate, SYS_init_module, SYS_kexec_load, SYS_reboot,
    SYS_memfd_create, SYS_dup, SYS_dup2, SYS_dup3, SYS_unlinkat, SYS_rmdir, SYS_renameat,
    SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_fchmod, SYS_fchmodat, SYS_chown, SYS_fchown,
    SYS_fchownat, SYS_mkdir, SYS_mkdirat, SYS_mknod, SYS_sendmmsg, SYS_recvmsg, SYS_recvfrom,
    SYS_socketpair, SYS_accept, SYS_accept4, SYS_listen, SYS_pidfd_open, SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo, SYS_prlimit64, SYS_setrlimit, SYS_ioperm, SYS_iopl, SYS_capset,
    SYS_open_by_handle_at, SYS_fsopen, SYS_move_mount, SYS_finit_module, SYS_kexec_file_load,
    SYS_process_madvise, SYS_personality, SYS_modify_ldt, SYS_keyctl, SYS_add_key,
};
/* clang-format on */

static void no_role_has_a_way_out(void **state)
{
    struct rng rng = { 4 };

    (void)state;
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (size_t i = 0; i < ARRAY_LEN(way_out); i++)
            for (int try = 0; try < 50; try++) {
                struct seccomp_data d = call(way_out[i]);

                for (unsigned a = 0; a < 6 && try; a++)
                    d.args[a] = rng_chance(&rng, 50) ? rng_below(&rng, 4) : rng_next(&rng);
                assert_false(allowed(role, &d));
            }
}

/* A ring does what no filter sees. One role has one, restricted before its filter is put on. */
static void one_role_has_a_ring(void **state)
{
    const struct seccomp_data d = call(SYS_io_uring_enter);

    (void)state;
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        assert_int_equal(allowed(role, &d), role == SECCOMP_BLK);
}

/* Arguments that make an allowed call another one. */
static void no_role_has_these_arguments(void **state)
{
    static const struct {
        int nr;
        unsigned arg;
        uint32_t value;
    } never[] = {
        { SYS_ioctl, 1, TIOCSTI },
        { SYS_ioctl, 1, TIOCLINUX },
        { SYS_ioctl, 1, KVM_CREATE_VM },
        { SYS_ioctl, 1, KVM_SET_USER_MEMORY_REGION },
        { SYS_ioctl, 1, KVM_IRQFD },
        { SYS_fcntl, 1, F_SETOWN },
        { SYS_fcntl, 1, F_DUPFD },
        { SYS_fcntl, 1, F_SETPIPE_SZ },
        { SYS_futex, 1, FUTEX_LOCK_PI },
        { SYS_futex, 1, FUTEX_CMP_REQUEUE_PI },
        { SYS_getpgid, 0, 1 },
        { SYS_madvise, 2, MADV_DONTNEED },
        { SYS_madvise, 2, MADV_HUGEPAGE },
    };
    static const int of_main[] = { SYS_unlink, SYS_munmap, SYS_close, SYS_tgkill, SYS_madvise };
    struct rng rng = { 6 };

    (void)state;
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (int try = 0; try < 50; try++) {
            for (size_t i = 0; i < ARRAY_LEN(never); i++) {
                struct seccomp_data d = call(never[i].nr);

                for (unsigned a = 0; a < 6; a++)
                    d.args[a] = rng_below(&rng, 8);
                d.args[never[i].arg] = never[i].value;
                assert_false(allowed(role, &d));
            }
            for (size_t i = 0; i < ARRAY_LEN(of_main) && role != SECCOMP_MAIN; i++) {
                struct seccomp_data d = call(of_main[i]);

                for (unsigned a = 0; a < 6; a++)
                    d.args[a] = rng_below(&rng, 64);
                assert_false(allowed(role, &d));
            }
        }
}

static void other_architectures_and_x32_are_refused(void **state)
{
    static const uint32_t arch[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, 0,
                                     UINT32_MAX };

    (void)state;
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (int nr = 0; nr < 1200; nr++) {
            struct seccomp_data d = call(nr | 0x40000000);

            assert_false(allowed(role, &d));
            for (size_t i = 0; i < ARRAY_LEN(arch); i++) {
                d = call(nr);
                d.arch = arch[i];
                assert_false(allowed(role, &d));
            }
        }
}

/* A role that could change another process would not be one. */
static void signals_reach_ourselves_alone(void **state)
{
    struct rng rng = { 5 };

    (void)state;
    for (unsigned role = 0; role < SECCOMP_ROLES; role++)
        for (int try = 0; try < 10000; try++) {
            struct seccomp_data d = call(rng_chance(&rng, 50) ? SYS_tkill : SYS_tgkill);

            /* Linux's ids end at 2^22; seccomp_enter puts the own ones in. */
            d.args[0] = rng_below(&rng, 1 << 22);
            d.args[1] = rng_below(&rng, 1 << 22);
            d.args[2] = rng_below(&rng, 65);
            assert_false(allowed(role, &d));
        }
}

/* --- the line about it -------------------------------------------------------------------- */

static const char *described(int nr, unsigned arch, int code)
{
    static char text[SECCOMP_LINE + 1];
    siginfo_t si = { .si_signo = SIGSYS, .si_code = code };
    ucontext_t uc;

    memset(&uc, 0, sizeof uc);
    si.si_syscall = nr;
    si.si_arch = arch;
    uc.uc_mcontext.gregs[REG_RDI] = -1;
    uc.uc_mcontext.gregs[REG_RSI] = 0x1234;
    uc.uc_mcontext.gregs[REG_R9] = (greg_t)0xfedcba9876543210;
    text[seccomp_describe(&si, &uc, text)] = 0;
    return text;
}

static void a_line_names_role_call_and_arguments(void **state)
{
    const char *args = "(0xffffffffffffffff, 0x1234, 0x0, 0x0, 0x0, 0xfedcba9876543210) is not "
                       "allowed; Mayfly ends\n";
    char want[SECCOMP_LINE];

    (void)state;
    /* This thread entered no role: it is main, and no filter is put on by a sanitizer's build. */
    for (int nr = 0; nr < 3; nr++) {
        static const char *const names[] = { "read", "write", "open" };

        snprintf(want, sizeof want, "mayfly: seccomp: role main: %s%s", names[nr], args);
        assert_string_equal(described(nr, AUDIT_ARCH_X86_64, SYS_SECCOMP), want);
    }
    assert_int_equal(seccomp_enter(SECCOMP_CONSOLE, SECCOMP_TRAP), 0);
    snprintf(want, sizeof want, "mayfly: seccomp: role console: openat%s", args);
    assert_string_equal(described(SYS_openat, AUDIT_ARCH_X86_64, SYS_SECCOMP), want);
    snprintf(want, sizeof want, "mayfly: seccomp: role console: system call 9999%s", args);
    assert_string_equal(described(9999, AUDIT_ARCH_X86_64, SYS_SECCOMP), want);
    snprintf(want, sizeof want, "mayfly: seccomp: role console: system call 4294967295%s", args);
    assert_string_equal(described(-1, AUDIT_ARCH_X86_64, SYS_SECCOMP), want);
    snprintf(want, sizeof want,
             "mayfly: seccomp: role console: a system call of another "
             "architecture%s",
             args);
    assert_string_equal(described(5, AUDIT_ARCH_I386, SYS_SECCOMP), want);
}

static void another_sigsys_is_none_of_it(void **state)
{
    (void)state;
    assert_string_equal(described(0, AUDIT_ARCH_X86_64, SI_USER), "");
    assert_string_equal(described(0, AUDIT_ARCH_X86_64, SI_TKILL), "");
}

static void no_filters_where_they_are_off(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(seccomp_prepare(SECCOMP_OFF, &e), 0);
    assert_int_equal(seccomp_enter(SECCOMP_VCPU, SECCOMP_OFF), 0);
    assert_true(syscall(SYS_getppid) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_is_judged_as_the_table_says),
        cmocka_unit_test(no_role_has_a_way_out),
        cmocka_unit_test(one_role_has_a_ring),
        cmocka_unit_test(no_role_has_these_arguments),
        cmocka_unit_test(other_architectures_and_x32_are_refused),
        cmocka_unit_test(signals_reach_ourselves_alone),
        cmocka_unit_test(a_line_names_role_call_and_arguments),
        cmocka_unit_test(another_sigsys_is_none_of_it),
        cmocka_unit_test(no_filters_where_they_are_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
