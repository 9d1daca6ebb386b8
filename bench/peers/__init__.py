"""The peers: monitors that do the same work in the same run, one small file each.

A peer is an object with

  name           one word, as in the tables
  absent()       None, or why it can't be measured here
  version()      what it says of itself, one line
  argv(guest)    the command that runs this guest in the foreground, its console on stdout, and
                 ends when the guest ends; raises Absent(why) for a guest that it can't run
  program        path of its binary
  stage(dir)     copies what is run into dir and runs that from now on
  variant        whether its binary is another peer's, run differently
  buffered_only  whether it takes part where guests have a buffered disk, and nowhere else
  tree           where it was built, if it is ours: its size is told by room

and its file defines peers(), the list of them. They are compared with the first that is there.
Nothing stands between the launcher and the monitor: argv is executed as it is.
"""
import importlib
import os
import shutil
import subprocess
from typing import NamedTuple

ORDER = ("mayfly", "floor", "qemu", "firecracker", "kvmtool", "cloud_hypervisor")

# Mayfly's default command line, and silence; a peer adds what it can't do without.
CMDLINE = "console=hvc0 panic=-1 reboot=panic_warm pci=off 8250.nr_uarts=0 swiotlb=noforce quiet"


class Absent(Exception):
    pass


class Failed(Exception):
    """Of a peer that is there, but whose run went wrong."""


class Disk(NamedTuple):
    """An image or a block device. direct: past the host's page cache."""
    path: str
    direct: bool


class Net(NamedTuple):
    """A tap that is there. vhost: the kernel moves the frames."""
    tap: str
    mac: str
    vhost: bool


class Guest(NamedTuple):
    """kernel: an ELF with a 64-bit and a PVH entry. initrd is None for a freestanding guest.
    arguments: of the guest's init."""
    kernel: str
    initrd: str | None = None
    bzimage: str | None = None
    arguments: str = ""
    memory: int = 128  # MiB
    directory: str = "/tmp"  # for a peer that needs a file
    disk: Disk | None = None
    net: Net | None = None

    def cmdline(self, *extra):
        return " ".join([CMDLINE, *extra, self.arguments]).strip()


class Peer:
    tree = None
    variant = False
    buffered_only = False

    def __init__(self, name, program, why_not=None):
        self.name, self.program, self.why_not = name, program, why_not

    def absent(self):
        return self.why_not

    def stage(self, directory):
        self.program = shutil.copy(self.program, f"{directory}/{self.name}")

    def version(self):
        return first_line([self.program, "--version"])


def first_line(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20,
                              stdin=subprocess.DEVNULL)
    except OSError as e:
        return str(e)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def from_user(cls, name, variable):
    """A peer whose path the user gives."""
    path = os.environ.get(variable)
    if not path:
        return cls(name, None, f"give its path in {variable}")
    if not os.access(path, os.X_OK):
        return cls(name, None, f"{variable}={path} can't be executed")
    return cls(name, os.path.abspath(path))


def load(name):
    return importlib.import_module(f"peers.{name}").peers()
