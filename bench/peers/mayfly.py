"""Ourselves: as shipped, and without its seccomp filters, so that their cost is seen."""
import os
import shutil
import subprocess

from peers import Peer

PROGRAM = os.path.abspath("build/bench/bin/mayfly")


class Mayfly(Peer):
    def __init__(self, name, program, why_not=None, tree=None, options=()):
        super().__init__(name, program, why_not)
        self.tree, self.options, self.variant = tree, list(options), bool(options)

    def argv(self, guest):
        argv = [self.program, "run", "--kernel", guest.kernel, "--memory", f"{guest.memory}M",
                *self.options]
        if guest.initrd:
            # Its own default command line is the same as CMDLINE.
            argv += ["--initrd", guest.initrd, "--cmdline", f"quiet {guest.arguments}".strip()]
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
            Mayfly("mayfly-nofilter", PROGRAM, why_not, options=["--seccomp=off"])]
