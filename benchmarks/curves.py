"""Learning curves of PPO on five tasks and of SAC on three, over seeds.

    python benchmarks/curves.py [--tasks CartPole-v1 ...] [--seeds 0 1 2 3 4] [--core 0] [--until-solved]

Every task is trained with the settings that Unison ships for it (`algorithms/*/tuned/`, or
`benchmarks/settings/` for environments of this folder), the same for all seeds. Every 10,000 steps (CartPole-v1:
5,000; SAC: 1,000) 20 episodes are run with the deterministic policy. Prints the steps that each seed
needed to the goal; writes them, the curves and a picture to `benchmarks/results/`.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from harness.machine import pin
from harness.report import Report, finish
from harness.tasks import TASKS, Curve, Task, train


def main() -> None:
    """Train all tasks and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--core", type=int, default=None, help="the core to run on; default: all")
    parser.add_argument("--until-solved", action="store_true", help="stop at the goal instead of after the budget")
    parser.add_argument("--results", type=Path, default=None, help="where to write; default: benchmarks/results")
    parser.add_argument("--add-to", type=Path, default=None, metavar="JSON", help="an earlier result, to show as well")
    arguments = parser.parse_args()
    if arguments.core is not None:
        pin([arguments.core])
    curves = read_curves(arguments.add_to) if arguments.add_to else {}
    for name in arguments.tasks:
        curves.pop(name, None)
    for name in arguments.tasks:
        for seed in arguments.seeds:
            curve = train(TASKS[name], seed, until_solved=arguments.until_solved, progress=_say)
            curves.setdefault(name, []).append(curve)
        written = make_report(curves).write(arguments.results)
    make_report(curves).show()
    print(*written, sep="\n")


def read_curves(path: Path) -> dict[str, list[Curve]]:
    """The curves of an earlier result."""
    found = json.loads(path.read_text(encoding="utf-8"))["curves"]
    return {name: [Curve(**run) for run in runs] for name, runs in found.items()}


def _say(line: str) -> None:
    print(line, flush=True)


def make_report(curves: dict[str, list[Curve]]) -> Report:
    """The table of steps needed, and the picture."""
    seeds = [curve.seed for curve in next(iter(curves.values()))]
    report = Report(
        "curves",
        "Learning curves",
        "Environment steps at the first evaluation (20 episodes, deterministic policy) that reached the goal.",
    )
    header = ["task", "goal", "within", *(f"seed {seed}" for seed in seeds), "median", "last return", "steps/s"]
    rows: list[list[str]] = []
    for name, runs in curves.items():
        task = TASKS[name]
        reached = [run.reached for run in runs]
        median = statistics.median(task.budget * 2 if steps is None else steps for steps in reached)
        rows.append(
            [
                name,
                f"{task.goal:g}",
                f"{task.budget:,}",
                *("not" if steps is None else f"{steps:,}" for steps in reached),
                "not" if median > task.budget * 1.5 else f"{median:,.0f}",
                f"{statistics.mean(run.returns[-1] for run in runs):.1f}",
                f"{statistics.median(run.steps[-1] / run.seconds for run in runs):,.0f}",
            ]
        )
    report.add_table("Steps to the goal", header, rows)
    report.data["curves"] = {name: [asdict(run) for run in runs] for name, runs in curves.items()}
    report.data["settings"] = {name: TASKS[name].settings.name for name in curves}
    report.add_picture("", lambda figure: _draw(figure, curves))
    return report


def _draw(figure: Any, curves: dict[str, list[Curve]]) -> None:
    """Mean over seeds, the spread from worst to best, each seed thin, and the goal."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure.set_size_inches(4.2 * columns, 3.2 * rows)
    for axes, (name, runs) in zip(figure.subplots(rows, columns, squeeze=False).flat, curves.items(), strict=False):
        _draw_task(axes, TASKS[name], runs)
    for axes in figure.axes[len(curves) :]:
        axes.set_visible(False)
    finish(figure)


def _draw_task(axes: Any, task: Task, runs: list[Curve]) -> None:
    length = min(len(run.steps) for run in runs)
    steps = np.asarray(runs[0].steps[:length]) / 1000
    returns = np.asarray([run.returns[:length] for run in runs])
    for run in runs:
        axes.plot(np.asarray(run.steps) / 1000, run.returns, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.fill_between(steps, returns.min(0), returns.max(0), color="tab:blue", alpha=0.15, linewidth=0)
    axes.plot(steps, returns.mean(0), color="tab:blue", linewidth=2)
    axes.axhline(task.goal, color="tab:red", linestyle="--", linewidth=1)
    axes.set_title(task.name, fontsize=10)
    axes.set_xlabel("thousand steps", fontsize=8)


if __name__ == "__main__":
    main()
