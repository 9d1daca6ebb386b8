"""The rows of the disk: what a request costs, and whom.

disk.c is the guest's init; it runs PATTERNS one after the other between marks. A run is traced whole
and cut at the marks afterwards, so that one boot serves all patterns.

Of the time between two marks each moment belongs to the task that is on the processor, and of a
vCPU's to the guest or not (kvm_entry, kvm_exit, sched_switch). The host's part is the monitor's
process outside the guest, and the kernel's own threads: KVM injects some interrupts by one of them,
and a block device may complete by one. Times and counts are of runs of their own, since each traced
system call would cost some of the time.

What is behind a disk costs the same for everyone and only dilutes: so it is a null_blk, which
completes at once and moves no byte, or, where buffered images are compared, a file whose pages are in
memory. A lab has one processor, on which each kick would let the I/O thread displace the guest before
it could submit a second request: so a thread that wakes does not preempt there, which comes closer to
machines with a processor for each.
"""
import collections
import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager

import trace
from peers import Disk, Failed

# name: what disk.c does
PATTERNS = {
    "randread1": "randread,4096,1,200",
    "randread32": "randread,4096,32,640",
    "randwrite32": "randwrite,4096,32,640",
    "read128k": "read,131072,1,40",
    "write128k": "write,131072,1,40",
}
MARK_BEGIN = 16  # mark.h
NULL_BLK = "nr_devices=1 gb=1 irqmode=0 submit_queues=1 max_sectors=1024"
BRD_KB = 131072
FILE_MB = 64
FEATURES = "/sys/kernel/debug/sched/features"
BEAT = 0.2  # seconds
# A run that takes so many seconds stands still, some ten times what the slowest needs; it is begun
# anew. In the lab that happens now and then. One that was looked into had its guest's only processor
# on the stack of interrupts, with interrupts off, waiting for a spinlock.
LIMIT, LIMIT_ICOUNT, TRIES = 60, 4, 4

TIMES = (trace.MARK, ("kvm/kvm_entry",), trace.EXIT, ("sched/sched_switch",))
COUNTS = (trace.MARK, trace.EXIT, ("raw_syscalls/sys_enter",))


# --- what a trace says ------------------------------------------------------------------------------

def spans(events):
    """{number of a pattern: its events, the two marks among them}"""
    found, begun = {}, None
    for e in events:
        for place in trace.marks([(e.ns, e.event, e.text)]):
            i, end = divmod(place - MARK_BEGIN, 2)
            if i >= 0 and not end:
                begun = []
            elif i >= 0 and begun is not None:
                found[i] = begun + [e]
                begun = None
        if begun is not None:
            begun.append(e)
    return found


def kernel_thread(task):
    return task.tgid != 0 and re.match(r"kworker|ksoftirqd", task.comm)


def shares(events, pid):
    """(ns in all, ns of the host's part) of the events of one span; pid: the monitor's."""
    host, guests, since = 0, set(), {}
    for e in events:
        # Up to now its processor was with whoever the event says it is with.
        if e.tgid == pid and e.pid not in guests or kernel_thread(e):
            host += e.ns - since.get(e.cpu, e.ns)
        since[e.cpu] = e.ns
        if e.event == "kvm_entry":
            guests.add(e.pid)
        elif e.event == "kvm_exit":
            guests.discard(e.pid)
    return events[-1].ns - events[0].ns, host


def calls(events, pid):
    """Counter of the monitor's system calls by number"""
    return collections.Counter(int(e.text.split()[1]) for e in events
                               if e.event == "sys_enter" and e.tgid == pid)


# --- what stands behind the disk --------------------------------------------------------------------

def command(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise trace.Unavailable(f"{' '.join(argv)}: {done.stderr.strip()}")


@contextmanager
def module(name, device, parameters):
    """The device of a module that nobody else has loaded."""
    if os.path.exists(f"/sys/module/{name}"):
        raise trace.Unavailable(f"the module {name} is in use")
    command("modprobe", name, *parameters.split())
    try:
        yield device
    finally:
        subprocess.run(["modprobe", "-r", name], check=False)


@contextmanager
def null_disk(_):
    with module("null_blk", "/dev/nullb0", NULL_BLK) as device:
        yield Disk(device, direct=True)


@contextmanager
def file_on_ext4(directory):
    """Written once, so that it has all its blocks and its pages are in memory."""
    where = f"{directory}/ext4"
    os.makedirs(where, exist_ok=True)
    with module("brd", "/dev/ram0", f"rd_nr=1 rd_size={BRD_KB}") as device:
        command("mke2fs", "-q", "-t", "ext4", device)
        command("mount", device, where)
        try:
            with open(f"{where}/image", "wb") as f:
                for _ in range(FILE_MB):
                    f.write(bytes(1 << 20))
                f.flush()
                os.fsync(f.fileno())
            yield Disk(f"{where}/image", direct=False)
        finally:
            command("umount", where)


@contextmanager
def no_preemption():
    """On one processor, see above."""
    if os.cpu_count() > 1:
        yield
        return
    with open(FEATURES, "w") as f:
        f.write("NO_WAKEUP_PREEMPTION")
    try:
        yield
    finally:
        with open(FEATURES, "w") as f:
            f.write("WAKEUP_PREEMPTION")


@contextmanager
def beat():
    """The lab loses an interrupt now and then, and goes on with the next (docs/architecture.md): here
    is one. With --icount a machine that waits for nothing else would wait for ever."""
    end = threading.Event()

    def run():
        while not end.is_set():
            time.sleep(BEAT)
    t = threading.Thread(target=run, daemon=True)
    t.start()
    try:
        yield
    finally:
        end.set()
        t.join()


# --- the rows ---------------------------------------------------------------------------------------

def run_once(bench, t, argv):
    """What launch.c says of it; the trace is of this run."""
    os.sync()  # what the run before wrote costs this one nothing
    t.clear()
    t.write("tracing_on", "1")
    with bench.launched(argv, limit=LIMIT_ICOUNT if bench.icount else LIMIT) as p:
        said = dict(line.split() for line in p.stdout.read().decode().splitlines())
    t.write("tracing_on", "0")  # or reading it would be traced
    return said


def traced(bench, t, peer, argv):
    """{pattern: (events, requests, pid)} of one run"""
    for _ in range(TRIES):
        said = run_once(bench, t, argv)
        if said.get("status") != "124":
            break
        bench.out(f"# {peer.name}: a guest with a disk stood still; it was begun anew")
    if said.get("status") != "0":
        raise Failed(f"it ended with status {said.get('status')}: {bench.said()}")
    found = spans(t.tasks())
    if len(found) != len(PATTERNS):
        raise Failed(f"{len(found)} of {len(PATTERNS)} patterns left marks")
    return {name: (found[i], int(word.rpartition(",")[2]), int(said["pid"]))
            for i, (name, word) in enumerate(PATTERNS.items())}


def run_times(bench, t, peer, argv):
    for name, (events, n, pid) in traced(bench, t, peer, argv).items():
        total, host = shares(events, pid)
        yield f"{name}.total", total / 1000 / n, "µs"
        yield f"{name}.host", host / 1000 / n, "µs"


def run_counts(bench, t, peer, argv):
    for name, (events, n, pid) in traced(bench, t, peer, argv).items():
        yield f"{name}.calls", calls(events, pid).total() / n, "each"
        yield f"{name}.exits", sum(e.event == "kvm_exit" for e in events) / n, "each"


def measure(bench, row, behind, events, run):
    with trace.tracing(*events) as t, behind(bench.stage) as disk, no_preemption(), beat():
        t.every_task()
        guest = bench.linux(" ".join(["nohz=off", *PATTERNS.values()]), initrd="initrd-disk")
        yield from bench.each(row, guest._replace(disk=disk), lambda *what: run(bench, t, *what))


def row_direct_times(bench):
    """A request of the guest's to a disk: its time in all, and the host's part of it; direct, on
    null_blk. 4 KiB at random at depth 1 and 32, 128 KiB in sequence at depth 1."""
    yield from measure(bench, "disk", null_disk, TIMES, run_times)


def row_direct_counts(bench):
    """The monitor's system calls and the VM exits a request."""
    yield from measure(bench, "disk", null_disk, COUNTS, run_counts)


def row_buffered_times(bench):
    """The same on a file in the host's page cache, on ext4."""
    yield from measure(bench, "disk-buffered", file_on_ext4, TIMES, run_times)


def row_buffered_counts(bench):
    """The monitor's system calls and the VM exits a request."""
    yield from measure(bench, "disk-buffered", file_on_ext4, COUNTS, run_counts)
