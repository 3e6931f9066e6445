"""PPO updates of sizes that nothing was tuned for, beside the bare loop and Stable-Baselines3.

    python benchmarks/sizes.py --peers DIR [--repeats 5] [--engines auto eager xla] [--widths 1024] [--minibatches 4096]

Three shapes of observations and actions, widths 32 to 1024 (two hidden layers), minibatches 32 to 4096. A cell is
how many times as long the peer takes: the median of the ratios of each repeat, all in one run, on one core
with one thread each. Below each table: the sizes at which a ratio is below 1, if there are any.
"""

from itertools import product
from tempfile import TemporaryFile

from harness.contenders import PEERS, Field, Measured, ratio, unison_entries
from harness.options import make_parser
from harness.ours import Work
from harness.report import Report

SHAPES = ((4, "d2"), (17, "c6"), (376, "c17"))
WIDTHS = (32, 128, 512, 1024)
MINIBATCHES = (32, 256, 4096)
RIVALS = ("bare loop", "SB3")


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--minibatches", type=int, nargs="+", default=MINIBATCHES)
    parser.set_defaults(repeats=5)
    arguments = parser.parse_args()
    report = Report("sizes", "PPO updates of untuned sizes", " ".join((__doc__ or "").split("\n\n")[-1].split()))
    entries = [*(peer for peer in PEERS if peer.name in RIVALS), *unison_entries(arguments.engines)]
    measured: dict[Work, dict[str, Measured]] = {}
    works = [
        make_work(*shape, width, minibatch)
        for shape, width, minibatch in product(SHAPES, arguments.widths, arguments.minibatches)
    ]
    works = works[:2] if arguments.quick else works
    with TemporaryFile() as log, Field(entries, arguments.peers, [arguments.core], log) as field:
        for work in works:
            measured[work] = field.compare(work.to_dict(), arguments.repeats)
            print(describe_size(work), cells(measured[work]), flush=True)
    for engine in arguments.engines:
        add_engine(report, f"unison {engine}", measured)
    add_best(report, measured)
    report.notes += [f"{name} left out: {reason}" for name, reason in field.missing.items()]
    report.data["sizes"] = [
        {"work": work.to_dict(), "seconds": {n: m.seconds for n, m in found.items()}, "said": said(found)}
        for work, found in measured.items()
    ]
    report.show()
    for path in report.write(arguments.results):
        print(path)


def make_work(observation: int, action: str, width: int, minibatch: int) -> Work:
    """A batch of at least 2048 rows, and 2 to 64 steps."""
    batch = max(2048, minibatch)
    return Work(observation, action, (width, width), batch, minibatch, passes=2 if minibatch >= 256 else 1)


def describe_size(work: Work) -> str:
    """What differs from size to size."""
    return f"{work.observation} to {work.action}, width {work.hidden[0]}, minibatch {work.minibatch}"


def said(found: dict[str, Measured]) -> dict[str, str]:
    """The engine that each of Unison's entries ran."""
    return {name: m.built["said"]["engine"] for name, m in found.items() if "said" in m.built}


def cells(found: dict[str, Measured], *, only: str = "unison ") -> str:
    """Every ratio in a line."""
    ours = [name for name in found if name.startswith(only)]
    peers = [name for name in RIVALS if name in found]
    return "  ".join(f"{p} / {o}: {ratio(found[p], found[o]):.2f}" for p in peers for o in ours)


def add_engine(report: Report, name: str, measured: dict[Work, dict[str, Measured]]) -> None:
    """The table of one engine: a row for each shape and width, a column for each minibatch and rival."""
    _add(report, name, {work: {name: found[name]} for work, found in measured.items() if name in found}, measured)


def add_best(report: Report, measured: dict[Work, dict[str, Measured]]) -> None:
    """The table of the fastest engine of each size."""
    best: dict[Work, dict[str, Measured]] = {}
    for work, found in measured.items():
        ours = {name: m for name, m in found.items() if name.startswith("unison ")}
        if ours:
            name = min(ours, key=lambda n: ours[n].median)
            best[work] = {name: ours[name]}
    _add(report, "the fastest engine of each size", best, measured)


def _add(
    report: Report,
    title: str,
    chosen: dict[Work, dict[str, Measured]],
    measured: dict[Work, dict[str, Measured]],
) -> None:
    if not chosen:
        return
    minibatches = sorted({work.minibatch for work in chosen})
    rivals = [rival for rival in RIVALS if rival in next(iter(measured.values()))]
    header = ["shape, width", *(f"{rival}, {minibatch}" for rival in rivals for minibatch in minibatches)]
    rows: dict[str, dict[tuple[str, int], str]] = {}
    below: list[str] = []
    for work, own in chosen.items():
        ((name, mine),) = own.items()
        row = rows.setdefault(f"{work.observation} to {work.action}, {work.hidden[0]}", {})
        for rival in rivals:
            times = ratio(measured[work][rival], mine)
            engine = f" {name.removeprefix('unison ')}" if title.startswith("the") else ""
            row[rival, work.minibatch] = f"{times:.2f}{engine}"
            if times < 1:
                below.append(f"{describe_size(work)} against {rival}: {times:.2f}")
    keys = [(rival, minibatch) for rival in rivals for minibatch in minibatches]
    report.add_table(
        f"Ratios of {title}", header, [[label, *(row.get(k, "") for k in keys)] for label, row in rows.items()]
    )
    report.notes.append(f"{title}: " + ("no ratio is below 1." if not below else "below 1: " + "; ".join(below)))


if __name__ == "__main__":
    main()
