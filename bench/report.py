"""What a run leaves behind: the document (JSON), the table, and the table of docs/performance.md.

Both tables are made from the document alone, so that a figure in the docs can be traced to its
samples.
"""
import datetime
import os
import platform
import re
import subprocess

import rows
import stats

DOCS = "docs/performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def git(*args):
    done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine():
    with open("/proc/cpuinfo") as f:
        text = f.read()
    return {
        "kernel": platform.release(),
        "cpu": re.search(r"model name\s*: (.*)", text)[1],
        "cpus": os.cpu_count(),
        "hardware_kvm": bool(re.search(r"^flags.* (svm|vmx)( |$)", text, re.M)),
    }


def document(o, found, guest_kernel, result):
    summaries = stats.summarize(result.samples)
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain")) and (not o.ab or "here" in o.ab),
        "revisions": o.ab,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "guest_kernel": guest_kernel,
        "rounds": o.rounds,
        "peers": [{"name": p.name, "absent": p.absent(),
                   "version": None if p.absent() else p.version()} for p in found],
        "absent": result.absent,
        "notes": result.notes,
        "rows": [one_row(key, of_peers, found[0].name) for key, of_peers in summaries.items()],
        "samples": [list(s) for s in result.samples],
    }


def one_row(key, of_peers, first):
    row, metric = key
    base = of_peers.get(first)
    return {
        "row": row,
        "metric": metric,
        "unit": next(iter(of_peers.values())).unit,
        "peers": {
            peer: {
                "n": s.n, "median": s.median, "min": s.low, "max": s.high,
                **compared(s, base if peer != first else None),
            }
            for peer, s in of_peers.items()
        },
    }


def compared(s, base):
    if not base:
        return {}
    return {"differs": stats.differ(s, base), "ratio": stats.ratio(s, base)}


def number(v, unit):
    if unit == "B":
        return f"{v / 1024:,.1f} KiB"
    if unit in ("exits", "KiB"):
        return f"{v:,.0f}"
    return f"{v:.3g}" if v < 1000 else f"{v:,.0f}"


def ratio_text(p):
    if "differs" not in p:
        return ""
    if not p["differs"]:
        return "none"
    return "–" if p["ratio"] is None else f"{p['ratio']:.2f}"


def lines(d):
    """(row, metric, unit, peer, median, range, ratio) as texts"""
    for r in d["rows"]:
        for peer, p in r["peers"].items():
            low, high = number(p["min"], r["unit"]), number(p["max"], r["unit"])
            yield (r["row"], r["metric"], "" if r["unit"] == "B" else r["unit"], peer,
                   number(p["median"], r["unit"]), "" if p["n"] == 1 else f"{low}–{high}",
                   ratio_text(p))


def heading(d):
    first = d["peers"][0]["name"]
    return ("row", "metric", "unit", "peer", "median", "range", f"/ {first}")


def head(d):
    m = d["machine"]
    what = " against ".join(d["revisions"]) if d["revisions"] else d["commit"][:12]
    return (f"{what}{' with changes not committed' if d['dirty'] else ''}, {d['date'][:10]}, "
            f"Linux {m['kernel']}, {m['cpus']} × {m['cpu']}, KVM "
            f"{'on hardware' if m['hardware_kvm'] else 'without hardware virtualization'}, "
            f"guest kernel {d['guest_kernel']}, {d['rounds']} rounds after a discarded one")


def table(d):
    body = [heading(d), *lines(d)]
    width = [max(len(line[i]) for line in body) for i in range(7)]
    out = [head(d)]
    before = (None, None)
    for line in body:
        cells = list(line)
        if before == (line[0], line[1]):
            cells[:3] = "", "", ""
        elif before[0] == line[0]:
            cells[0] = ""
        elif before[0]:
            out.append("")
        before = line[:2]
        out.append("  ".join(c.rjust(w) if i > 3 else c.ljust(w)
                             for i, (c, w) in enumerate(zip(cells, width))).rstrip())
    out.append("")
    out += [f"{p['name']}: {p['version']}" for p in d["peers"] if not p["absent"]]
    out += [f"absent: {absent_text(a)}" for a in d["absent"]]
    return "\n".join(out + d["notes"])


def absent_text(a):
    who = "" if a["peer"] == "-" else a["peer"]
    where = "" if a["row"] == "*" else f"row {a['row']}"
    return f"{', '.join(t for t in (who, where) if t)}: {a['why']}"


def cell(p, unit):
    if not p:
        return ""
    text = number(p["median"], unit)
    if p["n"] > 1:
        text += f" ({number(p['min'], unit)}–{number(p['max'], unit)})"
    ratio = ratio_text(p)
    return text + (f" × {ratio}" if ratio not in ("", "none", "–") else f" {ratio}".rstrip())


def markdown(d):
    """A table a row: metrics down, peers across, a cell "median (range) × ratio"."""
    out = [f"Measured at commit {head(d)}.", ""]
    names = [p["name"] for p in d["peers"] if not p["absent"]]
    for row, parts in rows.ROWS.items():
        of_row = [r for r in d["rows"] if r["row"] == row]
        if not of_row:
            continue
        docs = dict.fromkeys(" ".join(fn.__doc__.split()) for fn, _, _ in parts)
        out += [f"**{row}**: {' '.join(docs)}", "",
                f"| metric | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
        for r in of_row:
            unit = "" if r["unit"] in ("B", "exits") else f", {r['unit']}"
            cells = [cell(r["peers"].get(name), r["unit"]) for name in names]
            out.append(f"| {r['metric']}{unit} | {' | '.join(cells)} |")
        out.append("")
    versions = [f"{p['name']}: {p['version']}" for p in d["peers"] if not p["absent"]]
    out.append(f"Peers: {'; '.join(versions)}.")
    if d["absent"]:
        out += ["", "Absent: " + "; ".join(absent_text(a) for a in d["absent"]) + "."]
    return "\n".join(out + ["", *d["notes"]]).rstrip()


def write_docs(d):
    """Puts the table between the two marks of docs/performance.md."""
    with open(DOCS) as f:
        text = f.read()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    with open(DOCS, "w") as f:
        f.write(f"{before}{BEGIN}\n{markdown(d)}\n{END}{after}")
    return 0
