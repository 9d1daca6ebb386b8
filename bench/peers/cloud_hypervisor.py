"""Cloud Hypervisor, by PEER_CLOUD_HYPERVISOR=path.

Its devices sit on PCI, which the minimal kernel lacks, so with that its guest has no console. A
guest's reset makes it start the guest anew: so the guest is told to power off.
"""
from peers import Absent, Peer, from_user


class CloudHypervisor(Peer):
    def argv(self, guest):
        if guest.disk or guest.net:
            raise Absent("with a disk or a network it was not tried")
        argv = [self.program, "--cpus", "boot=1", "--memory", f"size={guest.memory}M,thp=on",
                "--serial", "null" if guest.initrd else "tty",
                "--console", "tty" if guest.initrd else "off", "--kernel", guest.kernel]
        if guest.initrd:
            argv += ["--initramfs", guest.initrd,
                     "--cmdline", guest._replace(arguments=f"{guest.arguments} off").cmdline()]
        return argv


def peers():
    return [from_user(CloudHypervisor, "cloud-hypervisor", "PEER_CLOUD_HYPERVISOR")]
