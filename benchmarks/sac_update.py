"""A SAC update beside SB3 and RLlib: work U6.

    python benchmarks/sac_update.py --peers DIR [--repeats 3] [--engines eager inductor xla]

Box(3) to Box(1), hidden 256,256, 256 rows a gradient step, one step a call, one thread on one core. Every contender is
a process of its own, they run in turn; what counts is the median over the runs of the median time of an update.
Unison's engines run in float32 as the peers do; "bf16" is the setting precision="bf16", which pays on processors that
multiply bfloat16 in hardware.
"""

import statistics
import sys

from harness.contenders import SCRIPTS
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.report import Report, bar_chart, short

GOAL = 3


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args()
    script = str(SCRIPTS / "sac_work.py")
    commands = {f"unison {engine}": [sys.executable, script, f"unison:{engine}"] for engine in arguments.engines}
    if "inductor" in arguments.engines:
        commands["unison inductor, bf16"] = [sys.executable, script, "unison:inductor:bf16"]
    if arguments.peers is not None:
        for name, place in (("SB3", "torch"), ("RLlib", "rllib")):
            commands[name] = [str(arguments.peers / place / "bin/python"), script, name.lower()]
    runs, failed = run_in_turn(commands, [arguments.core], 1 if arguments.quick else arguments.repeats)
    report = make_report(runs)
    report.notes += [f"{name} left out: {reason}" for name, reason in failed.items()]
    report.show()
    for path in report.write(arguments.results):
        print(path)


def make_report(runs: dict[str, Runs]) -> Report:
    """The table and the chart."""
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("sac_update", "A SAC update (U6)", about)
    rival = runs.get("SB3")
    rows: list[list[str]] = []
    for name, own in runs.items():
        ratio = ""
        if rival is not None and own is not rival:
            pairs = zip(own.answers, rival.answers, strict=True)
            ratio = f"{statistics.median(b['us_per_update'] / a['us_per_update'] for a, b in pairs):.2f}"
        rows.append([name, f"{own.median_of('us_per_update'):,.0f}", ratio])
    report.add_table("", ["who", "us per update", "as fast as SB3"], rows)
    report.notes.append(f"The goal is {GOAL} times as fast as SB3.")
    report.data["runs"] = {name: own.answers for name, own in runs.items()}
    times = [own.median_of("us_per_update") for own in runs.values()]
    report.add_picture("", bar_chart(list(runs), times, title=report.title, unit=f"us ({short(min(times))} at best)"))
    return report


if __name__ == "__main__":
    main()
