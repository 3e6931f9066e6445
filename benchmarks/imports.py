"""How long importing takes, and building a group of two Learners: work U8.

    python benchmarks/imports.py --peers DIR [--repeats 7]

Whole processes that import one thing and end, in turn on one core, files in the cache; the first round does not
count. Unison's goal is torch's own time and 0.4 s more. Then, on all cores, processes that import a library, build a
LearnerGroup of two Learner processes, update once and end; Unison's goal for building is 4 s.
"""

import statistics
import sys

from harness.contenders import SCRIPTS, Entry
from harness.machine import available_cores
from harness.options import make_parser
from harness.processes import Runs, run_in_turn
from harness.report import Report

IMPORTS = (
    ("torch", None, "import torch"),
    ("unison, names alone", None, "import unison"),
    ("unison", None, "from unison import PPOConfig; PPOConfig().build_learner"),
    ("SB3", "torch", "import stable_baselines3"),
    ("TorchRL", "torch", "import torchrl.objectives"),
    ("RLlib", "rllib", "from ray.rllib.algorithms.ppo import PPOConfig"),
)
GOAL_OF_IMPORT_S, GOAL_OF_GROUP_S = 0.4, 4.0


def main() -> None:
    """Measure and report."""
    arguments = make_parser(__doc__).parse_args()
    repeats = 2 if arguments.quick else arguments.repeats
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("imports", "Importing, and building a group", about)
    commands: dict[str, list[str]] = {}
    for name, interpreter, code in IMPORTS:
        python = Entry(name, "", interpreter).find_python(arguments.peers)
        if python is None:
            report.notes.append(f"{name} left out: not installed: benchmarks/setup_peers.sh DIR, then --peers DIR")
        else:
            commands[name] = [str(python), "-c", code]
    runs, failed = run_in_turn(commands, [arguments.core], repeats, warm_up=True)
    report.notes += [f"{name} left out: {reason}" for name, reason in failed.items()]
    add_imports(report, runs)
    groups = {"unison": [sys.executable, str(SCRIPTS / "group_start.py"), "unison", "2"]}
    python = Entry("RLlib", "", "rllib").find_python(arguments.peers)
    if python is not None:
        groups["RLlib"] = [str(python), str(SCRIPTS / "group_start.py"), "rllib", "2"]
    started, failed = run_in_turn(groups, available_cores(), max(2, repeats - 2), warm_up=True)
    report.notes += [f"{name}'s group left out: {reason}" for name, reason in failed.items()]
    add_groups(report, started)
    report.show()
    for path in report.write(arguments.results):
        print(path)


def add_imports(report: Report, runs: dict[str, Runs]) -> None:
    """Seconds of each import, and over that of torch in the same interpreter's round."""
    torch = runs.get("torch")
    rows: list[list[str]] = []
    for name, own in runs.items():
        over = ""
        if torch is not None and name.startswith("unison"):
            seconds = statistics.median(a - b for a, b in zip(own.seconds, torch.seconds, strict=True))
            over = f"{seconds:.2f}"
        cpu = statistics.median(own.cpu_seconds)
        rows.append([name, f"{own.median:.2f}", over, f"{cpu:.2f}"])
    report.add_table("Import", ["what", "process s", "over torch s", "CPU s"], rows)
    report.notes.append(f"The goal: importing unison takes at most {GOAL_OF_IMPORT_S} s over torch.")
    report.data["imports"] = {name: own.seconds for name, own in runs.items()}


def add_groups(report: Report, runs: dict[str, Runs]) -> None:
    """Seconds of each part of starting a group."""
    parts = ("import_s", "build_s", "first_update_s")
    rows = [
        [name, *(f"{own.median_of(part):.2f}" for part in parts), f"{own.median:.2f}"] for name, own in runs.items()
    ]
    report.add_table("Two Learners", ["who", "import s", "build s", "first update s", "whole process s"], rows)
    report.notes.append(f"The goal: building 2 Learners takes at most {GOAL_OF_GROUP_S:g} s.")
    report.data["groups"] = {name: {"seconds": own.seconds, "answers": own.answers} for name, own in runs.items()}


if __name__ == "__main__":
    main()
