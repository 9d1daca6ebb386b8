"""What is unavoidable: floor.c."""
import os

from peers import Absent, Peer


class Floor(Peer):
    def version(self):
        return "bench/floor.c"

    def argv(self, guest):
        if guest.disk or guest.net:
            raise Absent("it has neither disk nor network")
        argv = [self.program, str(guest.memory), guest.kernel]
        if guest.initrd:
            # Without devices: no console, no ACPI tables, and no keyboard to be looked for.
            argv += [guest.initrd, guest.cmdline("acpi=off", "reboot=k")]
        return argv


def peers():
    return [Floor("floor", os.path.abspath("build/bench/bin/floor"))]
