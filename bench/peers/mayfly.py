"""Ourselves: as shipped; without its seccomp filters, so that their cost is seen; and with the disk's
other engine."""
import os
import shutil
import subprocess

from peers import Absent, Peer

PROGRAM = os.path.abspath("build/bench/bin/mayfly")


class Mayfly(Peer):
    def __init__(self, name, program, why_not=None, tree=None, options=(), engine=None):
        super().__init__(name, program, why_not)
        self.tree, self.options, self.engine = tree, list(options), engine
        self.variant, self.buffered_only = bool(options or engine), bool(engine)

    def argv(self, guest):
        argv = [self.program, "run", "--kernel", guest.kernel, "--memory", f"{guest.memory}M",
                *self.options]
        if guest.initrd:
            # Its own default command line is the same as CMDLINE.
            argv += ["--initrd", guest.initrd, "--cmdline", f"quiet {guest.arguments}".strip()]
        if guest.disk:
            if self.options:
                raise Absent("its filters are measured elsewhere")
            argv += ["--disk", guest.disk.path + (",direct" if guest.disk.direct else "") +
                     (f",io={self.engine}" if self.engine else "")]
        if guest.net:
            if self.options:
                raise Absent("its filters are measured elsewhere")
            argv += ["--net", f"tap={guest.net.tap},mac={guest.net.mac},"
                              f"vhost={'on' if guest.net.vhost else 'off'}"]
        return argv


def has_filters(program):
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return "--seccomp" in done.stdout


def snapshot():
    """What is built now is what is measured, whatever make does meanwhile."""
    if os.path.exists("build/mayfly.stripped"):
        shutil.copy("build/mayfly.stripped", PROGRAM)


def peers():
    if not os.access(PROGRAM, os.X_OK):
        return [Mayfly("mayfly", None, "not built: run make")]
    why_not = None if has_filters(PROGRAM) else "this build has no option --seccomp"
    return [Mayfly("mayfly", PROGRAM, tree="."),
            Mayfly("mayfly-nofilter", PROGRAM, why_not, options=["--seccomp=off"]),
            Mayfly("mayfly-uring", PROGRAM, engine="uring"),
            Mayfly("mayfly-sync", PROGRAM, engine="sync")]
