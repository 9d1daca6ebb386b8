"""Trace events of KVM, in a tracing instance of our own.

Nobody else's tracing is disturbed: the instance has its own buffer and switches, sees the events of
our descendants alone (set_event_pid with event-fork), and is removed at the end; so is the mount of
tracefs if it was ours. What a killed run left behind is removed by the next. The trace's clock is
CLOCK_MONOTONIC, which launch.c reads too; it is printed in microseconds.
"""
import os
import re
import subprocess
from contextlib import contextmanager
from typing import NamedTuple

TRACEFS = "/sys/kernel/tracing"
PREFIX = "mayfly-bench-"
MARK_LEAF = 0x4D617966  # mark.h
EVENT = re.compile(r"\s(\d+\.\d+): (\w+): (.*)")
# The same with the task on whose processor it came: with every_task()
TASK = re.compile(r"^\s*(.*)-(\d+)\s+\(\s*(-+|\d+)\)\s+\[(\d+)\]\s\S+\s+(\d+\.\d+): (\w+): (.*)")
allowed = True  # bench/run --no-trace
FIRST_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h; trace events speak of its ids
BUFFER_KB = 16384  # a CPU: the exits of the longest boot, several times over


class Unavailable(Exception):
    """Says why there can be no traces."""


class Task(NamedTuple):
    """An event, and the task on whose processor it came. tgid 0: of the idle one, or not known."""
    ns: int
    event: str
    text: str
    comm: str
    pid: int
    tgid: int
    cpu: int


def nanoseconds(text):
    return round(float(text) * 1e6) * 1000


def task(line):
    m = TASK.match(line)
    return m and Task(nanoseconds(m[5]), m[6], m[7], m[1], int(m[2]),
                      int(m[3]) if m[3].isdigit() else 0, int(m[4]))


class Trace:
    def __init__(self, path):
        self.path = path

    def write(self, name, text):
        with open(f"{self.path}/{name}", "w") as f:
            f.write(text)

    def want(self, event, condition=None, until=None):
        """Records the event; with until, after each clear() no more once that other event came. (It
        can't be its own: the event that switches itself off is not recorded.)"""
        if condition:
            self.write(f"events/{event}/filter", condition)
        if until:
            self.write(f"events/{until}/trigger", "disable_event:" + event.replace("/", ":"))
        self.wanted.append(event)

    def clear(self):
        self.write("trace", "")
        for event in self.wanted:
            self.write(f"events/{event}/enable", "1")

    def begin(self, events):
        """events: the arguments of want()."""
        self.write("trace_clock", "mono")
        self.write("buffer_size_kb", str(BUFFER_KB))
        self.write("options/event-fork", "1")
        self.write("set_event_pid", str(os.getpid()))
        self.wanted = []
        for e in events:
            self.want(*e)

    def every_task(self):
        """From now on not of our descendants alone; for tasks()."""
        self.write("options/event-fork", "0")
        self.write("set_event_pid", "\n")
        self.write("options/record-tgid", "1")

    def lines(self):
        with open(f"{self.path}/trace") as f:
            found = [line for line in f if not line.startswith("#")]
        for cpu in os.listdir(f"{self.path}/per_cpu"):
            with open(f"{self.path}/per_cpu/{cpu}/stats") as f:
                if not re.search(r"^overrun: 0$", f.read(), re.M):
                    raise Unavailable("the trace's buffer ran over")
        return found

    def events(self):
        """[(nanoseconds, event, text)]"""
        found = (EVENT.search(line) for line in self.lines())
        return [(nanoseconds(m[1]), m[2], m[3]) for m in found if m]

    def tasks(self):
        """[Task]"""
        return [e for e in map(task, self.lines()) if e]

    def close(self):
        try:
            self.write("events/enable", "0")
        finally:
            os.rmdir(self.path)


def marks(events):
    """{place: the time of its first mark}"""
    at = {}
    for ns, event, text in events:
        m = event == "kvm_cpuid" and re.match(r"func ([0-9a-f]+) idx ([0-9a-f]+)", text)
        if m and int(m[1], 16) == MARK_LEAF:
            at.setdefault(int(m[2], 16), ns)
    return at


def first_run(events):
    """When the guest was entered first. An emulating KVM has no entries: there it is the first
    loading of the guest's FPU state, which each KVM_RUN begins with."""
    for name in ("kvm_entry", "kvm_fpu"):
        for ns, event, _ in events:
            if event == name:
                return ns
    return None


MARK = ("kvm/kvm_cpuid", f"function=={MARK_LEAF}")
ENTRY = ("kvm/kvm_entry", None, "kvm/kvm_exit")
ENTRY_EMULATED = ("kvm/kvm_fpu", "load==1")
EXIT = ("kvm/kvm_exit",)


def remove_stale():
    for name in os.listdir(f"{TRACEFS}/instances"):
        pid = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{pid}"):
            Trace(f"{TRACEFS}/instances/{name}").close()


@contextmanager
def tracing(*events):
    """A Trace of these events; raises Unavailable where that can't be."""
    mounted = trace = None
    if not allowed:
        raise Unavailable("no trace events: --no-trace")
    if os.readlink("/proc/self/ns/pid") != FIRST_PID_NAMESPACE:
        raise Unavailable("no trace events: this is a pid namespace of its own")
    try:
        if not os.path.isdir(f"{TRACEFS}/instances"):
            done = subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACEFS],
                                  capture_output=True, text=True)
            if done.returncode:
                raise Unavailable(f"tracefs can't be mounted: {done.stderr.strip()}")
            mounted = True
        path = f"{TRACEFS}/instances/{PREFIX}{os.getpid()}"
        try:
            remove_stale()
            os.mkdir(path)
            trace = Trace(path)
            trace.begin(events)
        except OSError as e:
            raise Unavailable(f"trace events: {e}") from e
        yield trace
    finally:
        if trace:
            trace.close()
        if mounted:
            subprocess.run(["umount", TRACEFS], check=False)
