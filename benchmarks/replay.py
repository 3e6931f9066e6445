"""Replay buffers beside SB3's and TorchRL's.

    python benchmarks/replay.py --peers DIR [--repeats 5] [--kinds uniform prioritized]

Rows of HalfCheetah-v5 (17 observed numbers, 6 of an action) in a buffer of a million: rows added in chunks of 100 and
one at a time, rows drawn in batches of 256 (with priorities: and given new ones), and the memory that the process
takes for each row. One thread on one core; every contender is a process of its own, they run in turn; what counts is
the median over the runs. SB3 has no prioritized buffer.
"""

import sys

from harness.contenders import SCRIPTS
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.ratios import median_ratio
from harness.report import Report

SPEEDS = {
    "rows_added_in_chunks": "rows added per second, 100 at a time",
    "rows_added_singly": "one at a time",
    "rows_sampled": "rows drawn per second",
}
PEERS = {"uniform": ("SB3", "TorchRL"), "prioritized": ("TorchRL",)}


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(repeats=5)
    parser.add_argument("--kinds", nargs="+", choices=list(PEERS), default=list(PEERS))
    arguments = parser.parse_args()
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("replay", "Replay buffers", about)
    for kind in arguments.kinds:
        rows = 100_000 if arguments.quick else 1_000_000
        commands = {"Unison": [sys.executable, str(SCRIPTS / "replay_work.py"), "unison", kind, str(rows)]}
        if arguments.peers is not None:
            python = str(arguments.peers / "torch/bin/python")
            for who in PEERS[kind]:
                commands[who] = [python, str(SCRIPTS / "replay_work.py"), who.lower(), kind, str(rows)]
        runs, failed = run_in_turn(commands, [arguments.core], 1 if arguments.quick else arguments.repeats)
        add_table(report, kind, runs)
        report.notes += [f"{kind}: {who} left out: {reason}" for who, reason in failed.items()]
        report.data[kind] = {who: own.answers for who, own in runs.items()}
    report.show()
    for path in report.write(arguments.results):
        print(path)


def add_table(report: Report, kind: str, runs: dict[str, Runs]) -> None:
    """Rates, how many times a peer's they are, and memory."""
    ours = runs["Unison"]
    table: list[list[str]] = []
    for who, own in runs.items():
        cells = [who]
        for name in SPEEDS:
            ratio = median_ratio(ours.numbers(name), own.numbers(name))
            cells.append(f"{own.median_of(name):,.0f}" + ("" if own is ours else f" (ours: {ratio:.2f} times)"))
        cells.append(f"{own.median_of('bytes_per_row') * 1e6 / 2**20:,.0f} MiB")
        table.append(cells)
    report.add_table(kind.capitalize(), ["who", *SPEEDS.values(), "memory per million rows"], table)


if __name__ == "__main__":
    main()
