"""Learning curves of PPO with many agents.

    python benchmarks/multi_agent.py cartpole [--seeds 0 1 2 3 4]
    python benchmarks/multi_agent.py mappo ippo [--seeds 0 1 2]
    python benchmarks/multi_agent.py --report

cartpole: four poles side by side, a module for each (`examples/multi_agent_cartpole.py`), to a mean return of 450 for
every agent. mappo and ippo: MPE2's simple_spread with three agents that share one policy, the value from a critic
that sees the observations of all (`examples/mappo.py`), or from one that sees the agent's own (an ActorCritic of the
same width, with PPO's own value loss). Each run's curve is kept in `benchmarks/results/multi_agent/`; `--report` makes
tables and a picture of all that are there. Evaluations are 20 whole episodes (simple_spread: 100) with the most
likely actions.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.report import RESULTS, Report, finish
from mpe2 import simple_spread_v3

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import mappo
import multi_agent_cartpole

from unison import PPOConfig

CURVES = RESULTS / "multi_agent"
GOAL = 450.0


def cartpole() -> PPOConfig:
    return multi_agent_cartpole.make_config().evaluation(evaluation_duration=20, evaluation_num_envs=10)


def team() -> PPOConfig:
    return mappo.make_config().evaluation(evaluation_duration=100, evaluation_num_envs=20)


def independent() -> PPOConfig:
    config = team().environment(simple_spread_v3).multi_agent(policies=["everyone"])
    config.rl_module(rl_module_spec=None, model_config={"hidden_sizes": (128, 128)})
    return config.training(learner_class=None, vf_loss_coeff=1.0)


TASKS: dict[str, tuple[Callable[[], PPOConfig], int, int]] = {
    "cartpole": (cartpole, 150_000, 5_000),
    "mappo": (team, 500_000, 25_000),
    "ippo": (independent, 500_000, 25_000),
}
"""Settings, environment steps, and steps between evaluations."""

PUBLISHED = -120.0
"""What the code of Yu et al. reaches on simple_spread, as they count."""
NOTES = (
    f"A policy that acts at random gets -81 on simple_spread, {2 * -81 - 75:d} as Yu et al. count.",
    "Yu et al. (2022, arXiv:2103.01955) train on the first version of the task. There each agent is paid all of the "
    "distances and of its collisions, not half, and collides with itself at every step: their return of the same "
    "episode is twice this one, less 75 (3 agents, 25 steps). Their landmarks lie within 0.8 of the middle, not 1. "
    "Their code, github.com/marlbenchmark/on-policy, converges at about -120 with its own settings (128 environments, "
    "20 million steps; issues 49 and 112), and at about -170 with 8 environments (issue 46). Ours has 16 environments "
    "and a fortieth of their steps.",
)


def as_first_written(team_return: float) -> float:
    """The return of the same episode by the rewards of the task's first version."""
    return 2 * team_return - 75


def as_here(team_return: float) -> float:
    """The reverse of `as_first_written`."""
    return (team_return + 75) / 2


def main() -> None:
    """Train what was asked for, or report what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help=f"any of {list(TASKS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        for task in arguments.tasks:
            train(task, seed)
    if arguments.report:
        report = make_report({task: read_curves(task) for task in TASKS})
        report.show()
        print(*report.write(), sep="\n")


def train(task: str, seed: int) -> None:
    """One run; its curve is written as it grows."""
    make_config, budget, interval = TASKS[task]
    algorithm = make_config().framework(engine="eager").debugging(seed=seed).build()
    curve: dict[str, Any] = {"task": task, "seed": seed, "steps": [], "returns": [], "by_agent": [], "seconds": 0.0}
    CURVES.mkdir(parents=True, exist_ok=True)
    while algorithm.num_env_steps_sampled_lifetime < budget:
        start = time.perf_counter()
        algorithm.train()
        curve["seconds"] += time.perf_counter() - start
        steps = algorithm.num_env_steps_sampled_lifetime
        if steps < (len(curve["steps"]) + 1) * interval:
            continue
        results = algorithm.evaluate()
        curve["steps"].append(steps)
        curve["returns"].append(results["episode_return_mean"])
        curve["by_agent"].append(results["agent_return_mean"])
        (CURVES / f"{task}_{seed}.json").write_text(json.dumps(curve) + "\n", encoding="utf-8")
        least = min(results["agent_return_mean"].values())
        print(
            f"{task} seed {seed}: {steps:,} steps, all agents {curve['returns'][-1]:.1f}, least {least:.1f}", flush=True
        )
        if task == "cartpole" and least >= GOAL:
            break
    algorithm.stop()


def read_curves(task: str) -> list[dict[str, Any]]:
    """The curves of one task, by seed; runs that were broken off are left out."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CURVES.glob(f"{task}_*.json"))]
    return [run for run in runs if task == "cartpole" or run["steps"][-1] >= TASKS[task][1]]


def make_report(curves: dict[str, list[dict[str, Any]]]) -> Report:
    """Tables and pictures."""
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    report = Report("multi_agent", "PPO with many agents", about)
    rows = [
        [str(run["seed"]), f"{run['steps'][-1]:,}", *(f"{value:.1f}" for value in run["by_agent"][-1].values())]
        for run in curves["cartpole"]
    ]
    header = ["seed", "environment steps", *curves["cartpole"][0]["by_agent"][0]]
    report.add_table(f"MultiAgentCartPole: the first evaluation with {GOAL:.0f} or more for every agent", header, rows)
    rows = []
    for name, task in (("MAPPO", "mappo"), ("IPPO", "ippo")):
        last = np.asarray([np.mean(run["returns"][-4:]) for run in curves[task]])
        steps = f"{curves[task][0]['steps'][-1]:,}"
        each = ", ".join(f"{value:.1f}" for value in last)
        rows.append([name, steps, each, f"{last.mean():.1f}", f"{as_first_written(last.mean()):.0f}"])
    rows.append(["MAPPO of Yu et al.", "20,000,000", "", f"{as_here(PUBLISHED):.1f}", f"{PUBLISHED:.0f}"])
    header = ["who", "steps", "each seed", "mean", "mean, as Yu et al. count"]
    report.add_table("simple_spread: return of the team, mean of the last four evaluations", header, rows)
    report.notes += NOTES
    report.data["curves"] = curves
    report.add_picture("", lambda figure: draw(figure, curves))
    return report


def draw(figure: Any, curves: dict[str, list[dict[str, Any]]]) -> None:
    """The worst agent's return on MultiAgentCartPole, and the team's on simple_spread."""
    figure.set_size_inches(9, 3.4)
    left, right = figure.subplots(1, 2)
    for run in curves["cartpole"]:
        worst = [min(agents.values()) for agents in run["by_agent"]]
        left.plot(np.asarray(run["steps"]) / 1000, worst, label=f"seed {run['seed']}")
    left.axhline(GOAL, color="tab:red", linestyle="--", linewidth=1)
    left.set_title("MultiAgentCartPole: the least of 4 agents", fontsize=10)
    for task, colour in (("mappo", "tab:blue"), ("ippo", "tab:orange")):
        length = min(len(run["steps"]) for run in curves[task])
        returns = np.asarray([run["returns"][:length] for run in curves[task]])
        steps = np.asarray(curves[task][0]["steps"][:length]) / 1000
        right.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.15, linewidth=0)
        right.plot(steps, returns.mean(0), color=colour, label=task.upper())
    right.set_title("simple_spread: return of the team", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("thousand environment steps", fontsize=8)
    finish(figure)


if __name__ == "__main__":
    main()
