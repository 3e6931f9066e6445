"""A SAC update (U6) and a whole step of SAC on Pendulum-v1 (U9), beside SB3 and RLlib.

    python benchmarks/sac_update.py --peers DIR [--works U6 U9] [--repeats 3] [--engines eager inductor xla]

Hidden 256,256, 256 rows a gradient step, one thread on one core. U6: gradient steps from Box(3) to Box(1), 100 a call
and one a call; RLlib takes one a call in both, since its targets move once a call. U9: Pendulum-v1, one environment,
after the warm-up, one gradient step for each environment step, in turn, 8 and 8, or 64 and 64 (paces that RL Zoo sets
SB3's SAC to for some environments); acting, the environment, the replay and the update together, for 15 s; RLlib takes
them in turn in all. Every contender is a process of its own, they run in turn; what counts is the median over the runs
of the ratios. Unison's engines run in float32 as the peers do; "bf16" is the setting precision="bf16", which pays on
processors that multiply bfloat16 in hardware.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from harness.contenders import SCRIPTS
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.ratios import median_ratio
from harness.report import Report, bar_chart, short

GOAL = 3


@dataclass(frozen=True)
class Work:
    """What the contenders do: a script of `peers/`, what its time `us` is the time of, and its last option by table."""

    report: str
    title: str
    script: str
    unit: str
    variants: Mapping[str, int]


WORKS = {
    "U6": Work("sac_update", "A SAC update (U6)", "sac_work.py", "update", {"100 a call": 100, "One a call": 1}),
    "U9": Work(
        "sac_steps",
        "A step of SAC on Pendulum-v1 (U9)",
        "pendulum.py",
        "step",
        {"In turn": 1, "8 and 8": 8, "64 and 64": 64},
    ),
}


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(repeats=3)
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    arguments = parser.parse_args()
    for name in arguments.works:
        report = make_report(WORKS[name], arguments)
        report.show()
        for path in report.write(arguments.results):
            print(path)


def make_report(work: Work, arguments: argparse.Namespace) -> Report:
    """A table and a chart for each variant."""
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report(work.report, work.title, about)
    for title, option in work.variants.items():
        commands = make_commands(work.script, str(option), arguments)
        runs, failed = run_in_turn(commands, [arguments.core], 1 if arguments.quick else arguments.repeats)
        add_variant(report, work.unit, title, runs)
        report.notes += [f"{who} left out: {reason}" for who, reason in failed.items()]
    report.notes.append(f"The goal is {GOAL} times as fast as SB3.")
    return report


def make_commands(script: str, option: str, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What runs each contender."""
    path = str(SCRIPTS / script)
    kinds = {f"unison {engine}": f"unison:{engine}" for engine in arguments.engines}
    rounding = [engine for engine in arguments.engines if engine in ("inductor", "xla")]
    kinds |= {f"unison {engine}, bf16": f"unison:{engine}:bf16" for engine in rounding}
    commands = {who: [sys.executable, path, kind, option] for who, kind in kinds.items()}
    if arguments.peers is not None:
        for who, place in (("SB3", "torch"), ("RLlib", "rllib")):
            commands[who] = [str(arguments.peers / place / "bin/python"), path, who.lower(), option]
    return commands


def add_variant(report: Report, unit: str, title: str, runs: Mapping[str, Runs]) -> None:
    """Its table and its chart."""
    rival = runs.get("SB3")
    rows: list[list[str]] = []
    for name, own in runs.items():
        ratio = ""
        if rival is not None and own is not rival:
            ratio = f"{median_ratio(rival.numbers('us'), own.numbers('us')):.2f}"
        us = own.median_of("us")
        rows.append([name, f"{us:,.0f}", f"{1e6 / us:,.0f}", ratio])
    report.add_table(title, ["who", f"us per {unit}", f"{unit}s per second", "as fast as SB3"], rows)
    report.data[title] = {name: own.answers for name, own in runs.items()}
    times = [own.median_of("us") for own in runs.values()]
    chart = bar_chart(list(runs), times, title=f"{report.title}: {title}", unit=f"us ({short(min(times))} at best)")
    report.add_picture(title.lower().replace(" ", "_"), chart)


if __name__ == "__main__":
    main()
