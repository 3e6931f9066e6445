"""A SAC update (U6) and a whole step of SAC on Pendulum-v1 (U9), beside SB3 and RLlib.

    python benchmarks/sac_update.py --peers DIR [--works U6 U9] [--repeats 3] [--engines eager inductor xla]

Hidden 256,256, 256 rows a gradient step, one thread on one core. U6: an update from Box(3) to Box(1), one gradient step
a call. U9: Pendulum-v1, one environment and one update a step, after the warm-up; acting, the environment, the replay
and the update together. Every contender is a process of its own, they run in turn; what counts is the median over the
runs of the ratios. Unison's engines run in float32 as the peers do; "bf16" is the setting precision="bf16", which pays
on processors that multiply bfloat16 in hardware.
"""

import sys
from dataclasses import dataclass

from harness.contenders import SCRIPTS
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.ratios import median_ratio
from harness.report import Report, bar_chart, short

GOAL = 3


@dataclass(frozen=True)
class Work:
    """What the contenders do: a script of `peers/`, and what its time `us` is the time of."""

    report: str
    title: str
    script: str
    unit: str
    options: tuple[str, ...] = ()


WORKS = {
    "U6": Work("sac_update", "A SAC update (U6)", "sac_work.py", "update"),
    "U9": Work("sac_steps", "A step of SAC on Pendulum-v1 (U9)", "pendulum.py", "step", ("300",)),
}


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    arguments = parser.parse_args()
    for name in arguments.works:
        work = WORKS[name]
        script = str(SCRIPTS / work.script)
        kinds = {f"unison {engine}": f"unison:{engine}" for engine in arguments.engines}
        if "inductor" in arguments.engines:
            kinds["unison inductor, bf16"] = "unison:inductor:bf16"
        commands = {who: [sys.executable, script, kind, *work.options] for who, kind in kinds.items()}
        if arguments.peers is not None:
            for who, place in (("SB3", "torch"), ("RLlib", "rllib")):
                python = str(arguments.peers / place / "bin/python")
                commands[who] = [python, script, who.lower(), *work.options]
        runs, failed = run_in_turn(commands, [arguments.core], 1 if arguments.quick else arguments.repeats)
        report = make_report(work, runs)
        report.notes += [f"{who} left out: {reason}" for who, reason in failed.items()]
        report.show()
        for path in report.write(arguments.results):
            print(path)


def make_report(work: Work, runs: dict[str, Runs]) -> Report:
    """The table and the chart."""
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report(work.report, work.title, about)
    rival = runs.get("SB3")
    rows: list[list[str]] = []
    for name, own in runs.items():
        ratio = ""
        if rival is not None and own is not rival:
            ratio = f"{median_ratio(rival.numbers('us'), own.numbers('us')):.2f}"
        us = own.median_of("us")
        rows.append([name, f"{us:,.0f}", f"{1e6 / us:,.0f}", ratio])
    report.add_table("", ["who", f"us per {work.unit}", f"{work.unit}s per second", "as fast as SB3"], rows)
    report.notes.append(f"The goal is {GOAL} times as fast as SB3.")
    report.data["runs"] = {name: own.answers for name, own in runs.items()}
    times = [own.median_of("us") for own in runs.values()]
    report.add_picture("", bar_chart(list(runs), times, title=report.title, unit=f"us ({short(min(times))} at best)"))
    return report


if __name__ == "__main__":
    main()
