"""Firecracker, by PEER_FIRECRACKER=path.

Without its API and its jailer, with its seccomp filters, which are on by default. It has a serial
port and no virtio console; the minimal kernel has no driver for that, so its guest has no console,
which spares it a device. It ends when the guest resets by the keyboard controller.
"""
import json

from peers import Absent, Peer, from_user


class Firecracker(Peer):
    def argv(self, guest):
        if guest.disk or guest.net:
            raise Absent("with a disk or a network it was not tried")
        source = {"kernel_image_path": guest.kernel, "boot_args": guest.cmdline("reboot=k")}
        if guest.initrd:
            source["initrd_path"] = guest.initrd
        config = {"boot-source": source, "drives": [],
                  "machine-config": {"vcpu_count": 1, "mem_size_mib": guest.memory}}
        path = f"{guest.directory}/firecracker.json"  # for this guest: one row, one guest
        with open(path, "w") as f:
            json.dump(config, f)
        return [self.program, "--no-api", "--config-file", path]


def peers():
    return [from_user(Firecracker, "firecracker", "PEER_FIRECRACKER")]
