"""Patterns: what a guest's init does one after the other between marks (mark.h), and what that costs,
and whom.

A run is traced whole and cut at the marks afterwards, so that one boot serves all patterns.

Of the time between two marks each moment belongs to the task that is on the processor, and of a
vCPU's to the guest or not (kvm_entry, kvm_exit, sched_switch). The host's part is the monitor's
process outside the guest, and the kernel's own threads: KVM injects some interrupts by one of them, a
block device may complete by one, and vhost has its own. Left out, where netif_receive_skb is traced,
is what lies between its begin and its end: there a frame that was written to a tap goes up the host's
stack, to whoever the far end is, on the writer's time. Times and counts are of runs of their own,
since each traced system call would cost some of the time.

A lab has one processor, on which each kick would let the I/O thread displace the guest before it
could submit a second request: so a thread that wakes does not preempt there, which comes closer to
machines with a processor for each.
"""
import collections
import os
import re
import threading
import time
from contextlib import contextmanager, nullcontext

import trace
from peers import Failed

MARK_BEGIN = 16  # mark.h
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
    return task.tgid != 0 and re.match(r"kworker|ksoftirqd|vhost-", task.comm)


def shares(events, pid):
    """(ns in all, ns of the host's part) of the events of one span; pid: the monitor's."""
    host, guests, far, since = 0, set(), set(), {}
    for e in events:
        # Up to now its processor was with whoever the event says it is with.
        if (e.tgid == pid and e.pid not in guests or kernel_thread(e)) and e.pid not in far:
            host += e.ns - since.get(e.cpu, e.ns)
        since[e.cpu] = e.ns
        if e.event == "kvm_entry":
            guests.add(e.pid)
        elif e.event == "kvm_exit":
            guests.discard(e.pid)
        elif e.event == "netif_receive_skb":
            far.add(e.pid)
        elif e.event == "netif_receive_skb_exit":
            far.discard(e.pid)
    return events[-1].ns - events[0].ns, host


def calls(events, pid):
    """Counter of the monitor's system calls by number"""
    return collections.Counter(int(e.text.split()[1]) for e in events
                               if e.event == "sys_enter" and e.tgid == pid)


# --- a run -----------------------------------------------------------------------------------------

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


@contextmanager
def undisturbed():
    with no_preemption(), beat():
        yield


def run_once(bench, t, argv):
    """What launch.c says of it; the trace is of this run."""
    os.sync()  # what the run before wrote costs this one nothing
    t.clear()
    t.write("tracing_on", "1")
    with bench.launched(argv, limit=LIMIT_ICOUNT if bench.icount else LIMIT) as p:
        said = dict(line.split() for line in p.stdout.read().decode().splitlines())
    t.write("tracing_on", "0")  # or reading it would be traced
    return said


def traced(bench, t, peer, argv, patterns, beside=nullcontext):
    """{pattern: (its events, the monitor's pid)} of one run, beside() entered around it"""
    for _ in range(TRIES):
        with beside():
            said = run_once(bench, t, argv)
        if said.get("status") != "124":
            break
        bench.out(f"# {peer.name}: a guest with patterns stood still; it was begun anew")
    if said.get("status") != "0":
        raise Failed(f"it ended with status {said.get('status')}: {bench.said()}")
    found = spans(t.tasks())
    if len(found) != len(patterns):
        raise Failed(f"{len(found)} of {len(patterns)} patterns left marks")
    return {name: (found[i], int(said["pid"])) for i, name in enumerate(patterns)}
