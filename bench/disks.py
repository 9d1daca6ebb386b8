"""The rows of the disk: what a request costs, and whom (patterns.py says how that is told).

disk.c is the guest's init; it runs PATTERNS one after the other.

What is behind a disk costs the same for everyone and only dilutes: so it is a null_blk, which
completes at once and moves no byte, or, where buffered images are compared, a file whose pages are in
memory.
"""
import os
import subprocess
from contextlib import contextmanager

import patterns
import trace
from peers import Disk

# name: what disk.c does
PATTERNS = {
    "randread1": "randread,4096,1,200",
    "randread32": "randread,4096,32,640",
    "randwrite32": "randwrite,4096,32,640",
    "read128k": "read,131072,1,40",
    "write128k": "write,131072,1,40",
}
NULL_BLK = "nr_devices=1 gb=1 irqmode=0 submit_queues=1 max_sectors=1024"
BRD_KB = 131072
FILE_MB = 64


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


# --- the rows ---------------------------------------------------------------------------------------

def run(bench, t, peer, argv):
    """(pattern, its events, requests, the monitor's pid) of one run"""
    found = patterns.traced(bench, t, peer, argv, PATTERNS)
    for name, (events, pid) in found.items():
        yield name, events, int(PATTERNS[name].rpartition(",")[2]), pid


def run_times(*what):
    for name, events, n, pid in run(*what):
        total, host = patterns.shares(events, pid)
        yield f"{name}.total", total / 1000 / n, "µs"
        yield f"{name}.host", host / 1000 / n, "µs"


def run_counts(*what):
    for name, events, n, pid in run(*what):
        yield f"{name}.calls", patterns.calls(events, pid).total() / n, "each"
        yield f"{name}.exits", sum(e.event == "kvm_exit" for e in events) / n, "each"


def measure(bench, row, behind, events, run_each):
    with trace.tracing(*events) as t, behind(bench.stage) as disk, patterns.undisturbed():
        t.every_task()
        guest = bench.linux(" ".join(["nohz=off", *PATTERNS.values()]), initrd="initrd-disk")
        yield from bench.each(row, guest._replace(disk=disk), lambda *what: run_each(bench, t, *what))


def row_direct_times(bench):
    """A request of the guest's to a disk: its time in all, and the host's part of it; direct, on
    null_blk. 4 KiB at random at depth 1 and 32, 128 KiB in sequence at depth 1."""
    yield from measure(bench, "disk", null_disk, patterns.TIMES, run_times)


def row_direct_counts(bench):
    """The monitor's system calls and the VM exits a request."""
    yield from measure(bench, "disk", null_disk, patterns.COUNTS, run_counts)


def row_buffered_times(bench):
    """The same on a file in the host's page cache, on ext4."""
    yield from measure(bench, "disk-buffered", file_on_ext4, patterns.TIMES, run_times)


def row_buffered_counts(bench):
    """The monitor's system calls and the VM exits a request."""
    yield from measure(bench, "disk-buffered", file_on_ext4, patterns.COUNTS, run_counts)
