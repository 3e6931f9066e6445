"""One PPO update beside the peers: works U1, U2 and U3.

    python benchmarks/ppo_update.py --peers DIR [--works U1 U2 U3] [--repeats 7] [--engines eager inductor xla auto]

U1: Box(4) to Discrete(2), hidden 64,64, 2048 rows in minibatches of 64, 10 passes. U2: Box(17) to Box(6), hidden
256,256, 4096 rows, 256, 4 passes. U3: U1 with 16 modules of 512 rows, 2 passes; a step moves all 16. Every
contender is a process of its own on the same core with one thread; they run in turn, a quarter of a second
each; times are medians, ratios medians of the ratios of each repeat. "CPU" is processor time, which counts less of
what a busy machine takes away. Building, compiling and warming up are not in them; the first update, with what it
compiles, has a column.
"""

import statistics
import sys
from tempfile import TemporaryFile
from typing import IO

from harness.contenders import PEERS, Field, Measured, cpu_ratio, ratio, unison_entries
from harness.options import make_parser
from harness.ours import WORKS, Work, describe
from harness.report import Report, bar_chart

GOALS = {"U1": {"RLlib": 22, "SB3": 14}, "U2": {"RLlib": 4, "SB3": 3}, "U3": {"RLlib": 25}}
OURS = "unison "


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    arguments = parser.parse_args()
    report = Report(
        "ppo_update", "One PPO update beside the peers", " ".join((__doc__ or "").split("\n\n")[-1].split())
    )
    with TemporaryFile() as log:
        for name in arguments.works:
            work = WORKS[name]
            entries = [*PEERS, *unison_entries(arguments.engines)]
            with Field(entries, arguments.peers, [arguments.core], log) as field:
                measured = field.compare(work.to_dict(), 2 if arguments.quick else arguments.repeats)
            add_work(report, name, work, measured, field.missing)
            print(f"{name} done", flush=True)
        show_log(log, report)
    report.show()
    for path in report.write(arguments.results):
        print(path)


def add_work(report: Report, name: str, work: Work, measured: dict[str, Measured], missing: dict[str, str]) -> None:
    """The table of one work, its chart and its data."""
    ours = {n: m for n, m in measured.items() if n.startswith(OURS)}
    peers = {n: m for n, m in measured.items() if not n.startswith(OURS)}
    header = [
        "contender",
        "us per step",
        "spread",
        "CPU us",
        "first update s",
        *(f"{n[len(OURS) :]} is faster by" for n in ours),
    ]
    rows: list[list[str]] = []
    for contender, m in measured.items():
        per_step = sorted(s / work.steps * 1e6 for s in m.seconds)
        faster = [f"{ratio(m, own):.2f}" if contender in peers else "" for own in ours.values()]
        spread = f"{per_step[0]:,.0f} to {per_step[-1]:,.0f}"
        first = f"{m.built['first_update_s']:.2f}"
        cpu = f"{statistics.median(m.cpu_seconds) / work.steps * 1e6:,.1f}"
        rows.append([contender, f"{m.median / work.steps * 1e6:,.1f}", spread, cpu, first, *faster])
    report.add_table(f"{name}: {describe(work)}", header, rows)
    for peer, goal in GOALS[name].items():
        if peer in peers and ours:
            best = max(ours, key=lambda n: ratio(peers[peer], ours[n]))
            reached = ratio(peers[peer], ours[best])
            verdict = "reached" if reached >= goal else "missed"
            by_cpu = cpu_ratio(peers[peer], ours[best])
            report.notes.append(
                f"{name}: {best} is {reached:.1f} times as fast as {peer} ({by_cpu:.1f} by processor time); "
                f"the goal of {goal} is {verdict}."
            )
    report.notes += [f"{name}: {contender} left out: {reason}" for contender, reason in missing.items()]
    if measured:
        per_step = [m.median / work.steps * 1e6 for m in measured.values()]
        chart = bar_chart(list(measured), per_step, title=f"{name}: {describe(work)}", unit="microseconds per step")
        report.add_picture(name, chart)
    report.data[name] = {
        "work": work.to_dict(),
        "contenders": {n: {"seconds": m.seconds, "cpu_seconds": m.cpu_seconds, **m.built} for n, m in measured.items()},
        "missing": missing,
    }


def show_log(log: IO[bytes], report: Report) -> None:
    """Print what the contenders printed, if one of them failed."""
    if any("left out" in note and "Error" in note for note in report.notes):
        log.seek(0)
        sys.stderr.write(log.read().decode(errors="replace")[-6000:])


if __name__ == "__main__":
    main()
