"""The rows of the network card: what a byte, a packet and a round trip cost, and whom (patterns.py
says how that is told).

net.c is the guest's init and runs PATTERNS one after the other; it is the far end, too, a process on
this host with sockets behind the tap. Each run has a tap of its own, in a network of its own, so that
what one monitor asked of it never meets the next.

What the far end takes is not the monitor's: its process by itself, and the host's TCP and UDP, which
a frame that is written to a tap enters in the writer's thread, since the trace tells of each frame
when that begins and ends.
"""
import ctypes
import os
import subprocess
from contextlib import contextmanager

import patterns
import trace
from peers import Net

# name: what net.c does, what one of the units is that are told, and how many there are
PATTERNS = {
    "tcp-tx": ("tcp-tx,65536,128", "µs/MiB", 8),
    "tcp-rx": ("tcp-rx,65536,128", "µs/MiB", 8),
    "udp64-tx": ("udp-tx,64,4000", "µs", 4000),
    "udp64-rx": ("udp-rx,64,4000", "µs", 4000),
    "tcp1-rr": ("tcp-rr,1,200", "µs", 200),
    "udp1-rr": ("udp-rr,1,200", "µs", 200),
}
TAP = "bench0"
MAC = "52:54:00:12:34:56"
CLONE_NEWNET = 0x40000000
FAR = (("net/netif_receive_skb",), ("net/netif_receive_skb_exit",))

libc = ctypes.CDLL(None, use_errno=True)


def must(result):
    if result:
        raise trace.Unavailable(f"a network of its own: {os.strerror(ctypes.get_errno())}")


@contextmanager
def own_network():
    """For this thread and whom it starts."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        must(libc.unshare(CLONE_NEWNET))
        try:
            yield
        finally:
            must(libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


@contextmanager
def far_end(bench):
    """net.c's, ready, and the tap."""
    with own_network():
        p = subprocess.Popen([bench.path("net"), "host", TAP], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
        try:
            if p.stdout.readline() != b"ready\n":
                raise trace.Unavailable("no tap")
            yield
        finally:
            p.kill()
            p.wait()
            p.stdout.close()


def run(bench, t, peer, argv):
    """(pattern, its unit, its events, units, the monitor's pid) of one run"""
    found = patterns.traced(bench, t, peer, argv, PATTERNS, lambda: far_end(bench))
    for name, (events, pid) in found.items():
        _, unit, n = PATTERNS[name]
        yield name, unit, events, n, pid


def run_times(*what):
    for name, unit, events, n, pid in run(*what):
        total, host = patterns.shares(events, pid)
        yield f"{name}.total", total / 1000 / n, unit
        yield f"{name}.host", host / 1000 / n, unit


def run_counts(*what):
    for name, unit, events, n, pid in run(*what):
        each = unit.replace("µs", "each")
        yield f"{name}.calls", patterns.calls(events, pid).total() / n, each
        yield f"{name}.exits", sum(e.event == "kvm_exit" for e in events) / n, each


def measure(bench, row, vhost, events, run_each):
    words = " ".join(["nohz=off", *(word for word, _, _ in PATTERNS.values())])
    guest = bench.linux(words, initrd="initrd-net")._replace(net=Net(TAP, MAC, vhost))
    with trace.tracing(*events) as t, patterns.undisturbed():
        t.every_task()
        yield from bench.each(row, guest, lambda *what: run_each(bench, t, *what))


def row_times(bench):
    """TCP streams from the guest (tx) and to it (rx), 64-byte UDP datagrams, a round trip of one byte
    (rr): the time of it all, and the host's part."""
    yield from measure(bench, "net", False, patterns.TIMES + FAR, run_times)


def row_counts(bench):
    """The monitor's system calls and the VM exits."""
    yield from measure(bench, "net", False, patterns.COUNTS, run_counts)


def row_vhost_times(bench):
    """The same with vhost=on on every side."""
    yield from measure(bench, "net-vhost", True, patterns.TIMES + FAR, run_times)


def row_vhost_counts(bench):
    """The monitor's system calls and the VM exits."""
    yield from measure(bench, "net-vhost", True, patterns.COUNTS, run_counts)
