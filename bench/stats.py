"""Statistics of samples: the one place where numbers are judged.

A sample is "row peer metric value unit". Of each group (row, peer, metric) the first sample is
discarded, since it paid for cold caches; a group of one is kept (a size is no measurement). What
is told of a group is its median and its range, never a mean: the machines are noisy to one side.
A ratio is claimed only where the two ranges do not touch, else there is no difference to be told.
"""
from statistics import median
from typing import NamedTuple


class Sample(NamedTuple):
    row: str
    peer: str
    metric: str
    value: float
    unit: str

    def __str__(self):
        return f"{self.row} {self.peer} {self.metric} {self.value:.10g} {self.unit}"


def parse(line):
    row, peer, metric, value, unit = line.split()
    return Sample(row, peer, metric, float(value), unit)


class Summary(NamedTuple):
    n: int
    median: float
    low: float
    high: float
    unit: str


def summarize(samples):
    """{(row, metric): {peer: Summary}}, in the order in which they came."""
    groups = {}
    for s in samples:
        groups.setdefault((s.row, s.metric), {}).setdefault(s.peer, []).append(s)
    return {
        key: {peer: summary(of_peer) for peer, of_peer in peers.items()}
        for key, peers in groups.items()
    }


def summary(samples):
    kept = [s.value for s in (samples[1:] or samples)]
    return Summary(len(kept), median(kept), min(kept), max(kept), samples[0].unit)


def differ(a, b):
    """Whether a difference can be told: the ranges do not touch."""
    return a.low > b.high or b.low > a.high


def ratio(a, b):
    """How many times b a is; None where that can't be told, and of nothing."""
    return a.median / b.median if differ(a, b) and b.median else None
