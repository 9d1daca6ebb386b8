"""QEMU's microvm machine, from Debian, in the strongest form that was found.

Tried in the lab with --icount, QEMU 7.2, minimal kernel, from exec to the guest's init. ioapic2=off
gains 18 of 264 ms. No gain or loss: isa-serial=off, pmu=off, mem-merge=off, dump-guest-core=off,
auto-kernel-cmdline=off, virtio-mmio.force-legacy, split irqchip, option ROMs (off all the same: with
the ROM it could load a bzImage, which would first have to decompress itself). pit, pic and rtc on
lose 4 ms. The ELF kernel is entered by its PVH note, behind the firmware, which microvm can't do
without. Run over the lab's 9p, its hundred files cost more than all else: so they are staged.

Disks, with --icount on null_blk: poll-max-ns=0 gains 5 of 122 µs a request at depth 1 (a lab's one
processor polls in vain), and none at depth 32.

Networks, with --icount: rx_queue_size=1024 and host_ufo, guest_ufo=off change nothing; mrg_rxbuf=off
gains 19 % of the host's part of a stream to the guest, and loses 12 % of a round trip's and more than
twice a datagram's; x-txburst=32 and tx=timer lose. What is left is the default.
"""
import os
import shutil
import stat

import size
from peers import Peer

FIRMWARE = "/usr/share/qemu"


class Qemu(Peer):
    def __init__(self, name, program, why_not=None):
        super().__init__(name, program, why_not)
        self.start = [program, "-L", FIRMWARE]

    def stage(self, directory):
        """Its libraries and the firmware, too."""
        libraries = f"{directory}/{self.name}.lib"
        os.mkdir(libraries)
        super().stage(directory)
        for path in size.libraries(self.program):
            shutil.copy(path, libraries)
        shutil.copy(f"{FIRMWARE}/bios-microvm.bin", libraries)
        self.start = [f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries, self.program,
                      "-L", libraries]

    def argv(self, guest):
        argv = [*self.start,
                "-M", "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off,ioapic2=off,x-option-roms=off",
                "-accel", "kvm", "-cpu", "host" + cpu_quirks(),
                "-smp", "1", "-m", f"{guest.memory}M",
                "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
                "-global", "virtio-mmio.force-legacy=false",
                "-chardev", "stdio,id=console,signal=off",
                "-device", "virtio-serial-device,max_ports=1",
                "-device", "virtconsole,chardev=console",
                "-kernel", guest.kernel]
        if guest.initrd:
            argv += ["-initrd", guest.initrd, "-append", guest.cmdline()]
        return argv + (disk_options(guest.disk) if guest.disk else []) + \
            (net_options(guest.net) if guest.net else [])


def disk_options(disk):
    driver = "host_device" if stat.S_ISBLK(os.stat(disk.path).st_mode) else "file"
    return ["-object", "iothread,id=io,poll-max-ns=0",
            "-blockdev", f"driver={driver},filename={disk.path},node-name=disk,aio=io_uring,"
                         f"cache.direct={'on' if disk.direct else 'off'}",
            "-device", "virtio-blk-device,drive=disk,iothread=io"]


def net_options(net):
    return ["-netdev", f"tap,id=net,ifname={net.tap},script=no,downscript=no,"
                       f"vhost={'on' if net.vhost else 'off'}",
            "-device", f"virtio-net-device,netdev=net,mac={net.mac}"]


def cpu_quirks():
    """A KVM without hardware behind it refuses MSR 0x10a, which QEMU then insists on."""
    with open("/proc/cpuinfo") as f:
        flags = f.read()
    return "" if " svm" in flags or " vmx" in flags else ",-arch-capabilities"


def peers():
    path = shutil.which("qemu-system-x86_64")
    return [Qemu("qemu", path, None if path else "install qemu-system-x86")]
