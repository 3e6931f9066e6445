"""Learning curves of SAC on continuous control, beside SB3's with the same settings and seeds.

    python benchmarks/control.py --peers DIR [--task HalfCheetah-v5] [--seeds 0 1 2] [--steps 100000]
    python benchmarks/control.py --report

HalfCheetah-v5 (the extra `mujoco`), 100,000 steps: two layers of 256, 256 rows a gradient step, one gradient step for
each environment step after 10,000 random ones. Every 5,000 steps 5 episodes with the policy's mode are run, which do
not count in the time. The contenders run side by side with one thread each, so whatever else the machine does meets
both. Each curve is kept in `benchmarks/results/control/`, and one that is there whole is not trained again; `--report`
makes a table and a picture of those that are there.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness.contenders import SCRIPTS
from harness.report import RESULTS, Report, finish

CURVES = RESULTS / "control"
CONTENDERS = {"Unison": ("unison", "tab:blue"), "SB3": ("sb3", "tab:orange")}
"""The name of each one's files, and its colour."""
INTERVAL, EPISODES, LAST = 5_000, 5, 4
Curve = dict[str, Any]


def main() -> None:
    """Train what was asked for, or report what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=None, metavar="DIR", help="interpreters of setup_peers.sh")
    parser.add_argument("--task", default="HalfCheetah-v5")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--engine", default="inductor", help="of Unison")
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    if not arguments.report:
        train(arguments)
    report = make_report(arguments.task, read_curves(arguments.task))
    report.show()
    print(*report.write(), sep="\n")


def train(arguments: argparse.Namespace) -> None:
    """Train the contenders side by side, each with one seed after another, and keep the curves."""
    CURVES.mkdir(parents=True, exist_ok=True)
    interpreters = {"Unison": (sys.executable, "control_unison.py", [arguments.engine])}
    if arguments.peers is not None:
        interpreters["SB3"] = (str(arguments.peers / "torch/bin/python"), "control_sb3.py", [])

    def train_all(who: str) -> None:
        python, script, options = interpreters[who]
        for seed in arguments.seeds:
            path = CURVES / f"{arguments.task}_{CONTENDERS[who][0]}_{seed}.json"
            if _last_step(path) < arguments.steps:
                numbers = [seed, arguments.steps, arguments.steps // 10, INTERVAL, EPISODES]
                command = [python, str(SCRIPTS / script), arguments.task, *map(str, numbers), *options]
                path.write_text(_answer(command) + "\n", encoding="utf-8")

    with ThreadPoolExecutor(len(interpreters)) as lanes:
        list(lanes.map(train_all, interpreters))


def _last_step(path: Path) -> int:
    return json.loads(path.read_text(encoding="utf-8"))["steps"][-1] if path.exists() else 0


def _answer(command: Sequence[str]) -> str:
    """The last line that a contender prints, its curve."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def read_curves(task: str) -> dict[str, list[Curve]]:
    """The curves of each contender, by seed."""
    return {
        who: [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CURVES.glob(f"{task}_{name}_*.json"))]
        for who, (name, _) in CONTENDERS.items()
    }


def make_report(task: str, curves: dict[str, list[Curve]]) -> Report:
    """The table and the picture."""
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    report = Report("control", f"SAC on {task}", about)
    runs = {who: {run["seed"]: run for run in found} for who, found in curves.items()}
    header = ["seed", "steps", *(f"{who}: return" for who in curves), *(f"{who}: CPU seconds" for who in curves)]
    rows: list[Sequence[str]] = []
    for seed in sorted(set.intersection(*(set(found) for found in runs.values()))):
        own = [found[seed] for found in runs.values()]
        count = min(len(run["steps"]) for run in own)
        returns = [f"{np.mean(run['returns'][max(0, count - LAST) : count]):,.0f}" for run in own]
        seconds = [f"{run['cpu_seconds'][count - 1]:,.0f}" for run in own]
        rows.append([str(seed), f"{own[0]['steps'][count - 1]:,}", *returns, *seconds])
    report.add_table(f"Return: mean of the last {LAST} evaluations that both have", header, rows)
    longest = max((run["steps"][-1] for found in curves.values() for run in found), default=0)
    report.notes += [
        f"{who}, seed {run['seed']}: broken off after {run['steps'][-1]:,} steps."
        for who, found in curves.items()
        for run in found
        if run["steps"][-1] < longest
    ]
    report.data["curves"] = curves
    report.add_picture("", lambda figure: draw(figure, task, curves))
    return report


def draw(figure: Any, task: str, curves: dict[str, list[Curve]]) -> None:
    """The mean over seeds, and each seed thin."""
    axes = figure.subplots()
    for who, runs in curves.items():
        if not runs:
            continue
        colour = CONTENDERS[who][1]
        for run in runs:
            axes.plot(np.asarray(run["steps"]) / 1000, run["returns"], color=colour, alpha=0.3, linewidth=0.9)
        length = min(len(run["steps"]) for run in runs)
        mean = np.mean([run["returns"][:length] for run in runs], axis=0)
        steps = np.asarray(runs[0]["steps"][:length]) / 1000
        axes.plot(steps, mean, color=colour, linewidth=2, label=f"{who}, seeds {[run['seed'] for run in runs]}")
    axes.set_title(f"SAC on {task}", fontsize=10)
    axes.set_xlabel("thousand environment steps", fontsize=8)
    axes.set_ylabel("return of an evaluation", fontsize=8)
    finish(figure)


if __name__ == "__main__":
    main()
