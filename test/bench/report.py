"""Figures: what a benchmark hands back, the tables people read and the JSON programs read."""
import dataclasses
import json
import sys


@dataclasses.dataclass
class Figure:
    name: str
    value: float
    unit: str
    target: float = None
    met: bool = None  # None where there is no target
    reference: str = ""  # what another system reached, for the table only


def at_most(name, value, unit, target, reference=""):
    return Figure(name, value, unit, target, value <= target, reference)


def at_least(name, value, unit, target, reference=""):
    return Figure(name, value, unit, target, value >= target, reference)


def number(v):
    """Three significant digits or all that are before the point; '-' for what wasn't measured."""
    if v is None:
        return "-"
    if isinstance(v, (str, bool)):
        return str(v)
    if abs(v) >= 100 or v == int(v):
        return f"{v:,.0f}"
    return f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"


def bound(f):
    """A target with its direction, which 'met' gives away: programs report only the number."""
    if f.target is None:
        return ""
    if isinstance(f.target, (str, bool)) or f.value == f.target:
        return number(f.target)
    return ("<= " if (f.value < f.target) == bool(f.met) else ">= ") + number(f.target)


def table(rows, head, left=1):
    """Prints rows under head; the first `left` columns are aligned to the left."""
    rows = [[c if isinstance(c, str) else number(c) for c in row] for row in rows]
    width = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * w for w in width], *rows]:
        print("  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, width))).rstrip())
    print(flush=True)


def figures(title, list_, reference="reference"):
    print(f"\n{title}")
    met = {True: "yes", False: "NO", None: ""}
    table([[f.name, f.value, f.unit, bound(f), met[f.met], f.reference] for f in list_],
          ["name", "value", "unit", "target", "met", reference])


def write_json(path, list_):
    keys = ("name", "value", "unit", "target", "met")
    lines = [json.dumps({k: getattr(f, k) for k in keys}) for f in list_]
    with open(path, "w") as out:
        out.write("[\n" + ",\n".join(lines) + "\n]\n")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def clear_progress():
    progress("")
