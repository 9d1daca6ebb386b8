"""kvmtool, by PEER_KVMTOOL=path to lkvm.

It loads a bzImage and no ELF, so it takes no part in rows with a freestanding guest, and in those
with Linux its guest decompresses itself first. On x86 its virtio devices sit on PCI, which the
minimal kernel lacks, and it has a serial port: so with that kernel its guest has no console, which
spares it a device. It has no ACPI tables. --nodefaults: no network, no root file system.
"""
from peers import Absent, Peer, from_user


class Kvmtool(Peer):
    def version(self):
        return "kvmtool " + super().version()

    def argv(self, guest):
        if guest.disk or guest.net:
            raise Absent("with a disk or a network it was not tried")
        if not guest.initrd:
            raise Absent("it loads no ELF kernel")
        if not guest.bzimage:
            raise Absent("it loads no ELF kernel, and there is no build/kernel/bzImage: make kernel")
        return [self.program, "run", "--nodefaults", "--cpus", "1", "--mem", str(guest.memory),
                "--console", "serial", "--kernel", guest.bzimage, "--initrd", guest.initrd,
                "--params", guest.cmdline("acpi=off", "reboot=k")]


def peers():
    return [from_user(Kvmtool, "kvmtool", "PEER_KVMTOOL")]
