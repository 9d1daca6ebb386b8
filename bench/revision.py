"""Revisions of ours, built aside: git archive into build/bench/rev/COMMIT, and make there. One that
was built stays, for the next comparison. The word `here` is the working tree as it is built."""
import os
import subprocess

BASE = "build/bench/rev"


def commit_of(rev):
    done = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}"],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {rev} is no revision: give a commit, a tag, or `here`")
    return done.stdout.strip()


def built(rev):
    """(how it is called, its tree, in which build/mayfly.stripped was made)"""
    if rev == "here":
        return rev, "."
    commit = commit_of(rev)
    tree = f"{BASE}/{commit}"
    if not os.path.exists(f"{tree}/build/mayfly.stripped"):
        os.makedirs(tree, exist_ok=True)
        archive = subprocess.run(["git", "archive", commit], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
        done = subprocess.run(["make", "-s", "-C", tree, "QUIET=1", "all"], stdout=subprocess.DEVNULL,
                              check=False)
        if done.returncode:
            raise SystemExit(f"bench: {rev}: can't be built (in {tree})")
    return f"{rev} ({commit[:12]})" if not commit.startswith(rev) else commit[:12], tree
