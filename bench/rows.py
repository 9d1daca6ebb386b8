"""What is measured: a row is a function that yields samples and takes a Bench.

Rounds go A B A B ...: each round starts every peer once, so that what the machine does meanwhile
hits all of them alike; stats.py discards the first round. A peer that can't do a row, or fails in
it, is left out of it with the reason (Bench.leave_out).
"""
import os
import re
import select
import subprocess
import time
from contextlib import contextmanager

import disks
import nets
import size
import trace
from peers import Absent, Disk, Failed, Guest
from stats import Sample

MARK_ENTRY, MARK_INIT = 1, 2  # mark.h
SETTLE = 0.3  # seconds between a mark and a look at the memory
LIMIT = 120   # seconds for a start, in the slowest place


class Bench:
    """peers: those that are there; stage: the directory that holds what the guests are made of;
    rounds: how many, with the one that will be discarded; out(line): takes what is to be told;
    icount: whether the clock counts instructions."""

    def __init__(self, peers, stage, rounds, out, icount=False):
        self.peers, self.stage, self.rounds, self.out = peers, stage, rounds, out
        self.icount = icount

    def path(self, name):
        return f"{self.stage}/{name}"

    def bare(self, name="guest", disk=None):
        return Guest(self.path(name), directory=self.stage, disk=disk)

    def image(self):
        """An empty one of 64 MiB, for a disk that only has to be there."""
        path = self.path("image")
        with open(path, "wb") as f:
            f.truncate(64 << 20)
        return Disk(path, direct=True)

    def linux(self, arguments="", initrd="initrd"):
        bzimage = self.path("bzImage")
        return Guest(self.path("vmlinux"), self.path(initrd), arguments=arguments,
                     bzimage=bzimage if os.path.exists(bzimage) else None, directory=self.stage)

    def leave_out(self, row, peer, why):
        self.out(f"! {row} {peer.name} {why}")

    def each(self, row, guest, run):
        """run(peer, argv) for every peer in every round; what it yields, as samples."""
        argvs = {}
        for peer in self.peers:
            if peer.buffered_only and (not guest.disk or guest.disk.direct):
                continue
            try:
                argvs[peer] = peer.argv(guest)
            except Absent as e:
                self.leave_out(row, peer, e)
        for _ in range(self.rounds):
            for peer in list(argvs):
                try:
                    for metric, value, unit in run(peer, argvs[peer]):
                        yield Sample(row, peer.name, metric, value, unit)
                except Failed as e:
                    self.leave_out(row, peer, e)
                    del argvs[peer]

    @contextmanager
    def launched(self, argv, n=1, limit=LIMIT):
        """A running launch.c; it and its copies are gone afterwards, whatever happens."""
        with open(self.path("stderr"), "wb") as errors:
            p = subprocess.Popen([self.path("launch"), "-n", str(n), "-t", str(limit), "--", *argv],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                 bufsize=0)
        try:
            yield p
        finally:
            p.kill()
            p.wait()
            p.stdout.close()

    def said(self):
        with open(self.path("stderr"), errors="replace") as f:
            return " ".join(f.read().split())[-300:]

    def launch(self, argv, n=1):
        """To the end: {"start": ns, "end": ns, "byte": ns, ...}"""
        with self.launched(argv, n) as p:
            at = {k: int(v) for k, v in (line.split() for line in p.stdout.read().decode().splitlines())}
        if at.get("status") != 0:
            raise Failed(f"it ended with status {at.get('status')}: {self.said()}")
        return at


# --- times ----------------------------------------------------------------------------------------

def times(at, events, place, names):
    """(metric, ms, unit) from the launcher's times and the trace's."""
    run, mark = trace.first_run(events), trace.marks(events).get(place)
    for name, ns in zip(names, (run, mark, at["end"])):
        if ns is None:
            raise Failed(f"no trace event for {name}")
        yield name, (ns - at["start"]) / 1e6, "ms"


def exec_times(bench, row, guest):
    try:
        with trace.tracing(trace.MARK, trace.ENTRY, trace.ENTRY_EMULATED) as t:
            def traced(_, argv):
                t.clear()
                at = bench.launch(argv)
                yield from times(at, t.events(), MARK_ENTRY, ("run", "guest", "end"))
            yield from bench.each(row, guest, traced)
    except trace.Unavailable as e:
        bench.out(f"# {row}: {e}: the guest's first byte instead of the first KVM_RUN")

        def untraced(_, argv):
            at = bench.launch(argv)
            if "byte" not in at:
                raise Failed("its guest printed nothing")
            yield "byte", (at["byte"] - at["start"]) / 1e6, "ms"
            yield "end", (at["end"] - at["start"]) / 1e6, "ms"
        yield from bench.each(row, guest, untraced)


def row_exec(bench):
    """Exec to the first KVM_RUN, to the guest's first instruction, to the end: on this host's
    /dev/kvm, a freestanding guest of 128 MiB."""
    yield from exec_times(bench, "exec", bench.bare())


def row_exec_disk(bench):
    """The same with a disk, an image in memory, which the guest leaves alone."""
    yield from exec_times(bench, "exec-disk", bench.bare(disk=bench.image()))


def row_boot(bench):
    """Exec to the first entry of the guest, to its init, to the end after init's reboot."""
    with trace.tracing(trace.MARK, trace.ENTRY) as t:
        def run(_, argv):
            t.clear()
            at = bench.launch(argv)
            yield from times(at, t.events(), MARK_INIT, ("entry", "init", "end"))
        yield from bench.each("boot", bench.linux(), run)


def row_starts(bench):
    """Starts at once of a freestanding guest: until all have ended."""
    for n in (1, 10, 100):
        def run(_, argv, n=n):
            at = bench.launch(argv, n)
            ms = (at["end"] - at["start"]) / 1e6
            yield f"{n}.all", ms, "ms"
            if n > 1:
                yield f"{n}.each", ms / n, "ms"
        yield from bench.each("starts", bench.bare(), run)


# --- memory ---------------------------------------------------------------------------------------

def mappings(pid):
    """[(kB, {field: kB})] of /proc/PID/smaps"""
    found = []
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                low, high = line.split()[0].split("-")
                found.append(((int(high, 16) - int(low, 16)) // 1024, {}))
            elif m := re.match(r"(\w+): +(\d+) kB", line):
                found[-1][1][m[1]] = int(m[2])
    return found


def memory_beside(pid, guest_kb):
    """Private and proportional kB of all mappings but the guest's memory, which is the only one of
    exactly its size. Raises Failed if there are none or several."""
    found = mappings(pid)
    beside = [fields for kb, fields in found if kb != guest_kb]
    if len(beside) != len(found) - 1:
        raise Failed(f"{len(found) - len(beside)} mappings are as large as the guest's memory")

    def total(*names):
        return sum(fields.get(name, 0) for fields in beside for name in names)
    return total("Private_Clean", "Private_Dirty"), total("Private_Dirty"), total("Pss")


def await_mark(p, t, place):
    """Until the guest has made its mark, or without traces its first byte."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and p.poll() is None:
        if t:
            if place in trace.marks(t.events()):
                return
            time.sleep(0.02)
        elif select.select([p.stdout], [], [], 1)[0] and b"byte" in os.read(p.stdout.fileno(), 4096):
            return
    raise Failed("the guest did not come up")


def memory(bench, row, guest, place, prefix, t):
    def run(_, argv):
        if t:
            t.clear()
        with bench.launched(argv) as p:
            pid = int(p.stdout.readline().split()[1])
            await_mark(p, t, place)
            time.sleep(SETTLE)
            private, dirty, pss = memory_beside(pid, guest.memory * 1024)
        for name, kb in (("private", private), ("dirty", dirty), ("pss", pss)):
            yield f"{prefix}.{name}", kb, "KiB"
    yield from bench.each(row, guest, run)


def idle_memory(bench, row, guest):
    try:
        with trace.tracing(trace.MARK) as t:
            yield from memory(bench, row, guest, MARK_ENTRY, "idle", t)
    except trace.Unavailable:
        yield from memory(bench, row, guest, MARK_ENTRY, "idle", None)


def row_mem(bench):
    """Memory beside the guest's 128 MiB, a freestanding guest asleep: private, of that written to
    (dirty), proportional."""
    yield from idle_memory(bench, "mem", bench.bare("guest-wait"))


def row_mem_disk(bench):
    """Memory beside the guest's with a disk, a freestanding guest asleep."""
    yield from idle_memory(bench, "mem-disk", bench.bare("guest-wait", disk=bench.image()))


def row_mem_boot(bench):
    """The same with Linux, its init asleep."""
    with trace.tracing(trace.MARK) as t:
        yield from memory(bench, "mem", bench.linux("wait"), MARK_INIT, "boot", t)


# --- exits ----------------------------------------------------------------------------------------

def count_exits(events, place):
    """{reason: number} before the mark"""
    n = {}
    for _, event, text in events:
        if event == "kvm_exit":
            reason = re.search(r"reason (\S+)", text)[1].lower().removeprefix("exit_")
            n[reason] = n.get(reason, 0) + 1
        elif place in trace.marks([(0, event, text)]):
            return n
    raise Failed("the guest's init made no mark")


def row_exits(bench):
    """VM exits from the start to the guest's init, by reason; one device on every side."""
    counted = {}
    with trace.tracing(trace.MARK, trace.EXIT) as t:
        def run(peer, argv):
            t.clear()
            bench.launch(argv)
            counted.setdefault(peer.name, []).append(count_exits(t.events(), MARK_INIT))
            return ()
        yield from bench.each("exits", bench.linux(), run)
    # A reason that a round did not see is a 0, so samples are made when all are known.
    reasons = sorted({r for rounds in counted.values() for n in rounds for r in n})
    for name, rounds in counted.items():
        for n in rounds:
            apart = n.get("cpuid", 0) + n.get("msr", 0)
            yield Sample("exits", name, "all-but-cpuid-msr", sum(n.values()) - apart, "exits")
            for reason in reasons:
                yield Sample("exits", name, reason, n.get(reason, 0), "exits")


def row_size(bench):
    """Bytes of the binary, of the libraries that it loads, and of ours by room."""
    for peer in bench.peers:
        if peer.variant:
            continue
        sizes = {"file": os.path.getsize(peer.program), "libraries": sum(os.stat(p).st_size for p in size.libraries(peer.program))}
        if peer.tree:
            sizes |= dict(sorted(size.of_rooms(peer.tree).items()))
        for metric, value in sizes.items():
            if value:
                yield Sample("size", peer.name, metric, value, "B")


HERE, LAB, LAB_ICOUNT = "here", "lab", "icount"
# With --icount a byte copied is an instruction, more than anything else of a stream. A processor
# without this feature copies eight at a time, or sixteen.
LAB_WORDS = "icount-words"
LAB_WORDS_QEMU = "-global max-x86_64-cpu.erms=off"
ICOUNT = (LAB_ICOUNT, LAB_WORDS)

# A file in memory counts as written to, so where memory is looked at binaries stay where they are.
IN_PLACE = (row_mem, row_mem_disk, row_mem_boot)

# row: parts, each a function, the prefix of its metrics, and where it is run. LAB means where KVM
# is complete: here, if it is.
ROWS = {
    "exec": [(row_exec, "", HERE)],
    "exec-disk": [(row_exec_disk, "", HERE)],
    "boot": [(row_boot, "icount.", LAB_ICOUNT), (row_boot, "threads.", LAB)],
    "mem": [(row_mem, "", HERE), (row_mem_boot, "", LAB)],
    "mem-disk": [(row_mem_disk, "", HERE)],
    "exits": [(row_exits, "", LAB_ICOUNT)],
    "disk": [(disks.row_direct_times, "icount.", LAB_ICOUNT), (disks.row_direct_times, "threads.", LAB),
             (disks.row_direct_counts, "", LAB_ICOUNT)],
    "disk-buffered": [(disks.row_buffered_times, "icount.", LAB_ICOUNT),
                      (disks.row_buffered_counts, "", LAB_ICOUNT)],
    "net": [(nets.row_times, "icount.", LAB_WORDS), (nets.row_counts, "", LAB_WORDS)],
    "net-vhost": [(nets.row_vhost_times, "icount.", LAB_WORDS),
                  (nets.row_vhost_counts, "", LAB_WORDS)],
    "starts": [(row_starts, "", HERE)],
    "size": [(row_size, "", HERE)],
}
