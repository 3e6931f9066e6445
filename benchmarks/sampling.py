"""What a step of sampling costs beside the environment, and whether compiling the acting would pay.

    taskset -c 0 python benchmarks/sampling.py [--repeats 7] [--steps 4096]

One thread, PPO's module and an env runner in this process; the other row of each pair is a bare loop over the same
environments with actions that were drawn before, resets included: nobody gets below it. The two run in turn, repeat
by repeat; times are minima, the difference is what acting and keeping episodes cost. Acting alone (the networks and
the draw of actions for all environments) is measured once more as it is and through torch.compile.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from harness.options import make_parser
from harness.report import Report

from unison import PPOConfig
from unison.sampling.making_runners import make_runner
from unison.types import DEFAULT_MODULE_ID

TASKS = (("CartPole-v1", 1), ("CartPole-v1", 8), ("CartPole-v1", 32), ("HalfCheetah-v5", 1), ("HalfCheetah-v5", 8))
"""Environments, and how many."""
ACTORS: tuple[tuple[str, Any, int, dict[str, Any]], ...] = (
    ("64,64", spaces.Box(-1, 1, (4,)), 8, {}),
    ("64,64", spaces.Box(-1, 1, (17,)), 1, {}),
    ("256,256", spaces.Box(-1, 1, (17,)), 64, {"hidden_sizes": [256, 256]}),
    ("CNN", spaces.Box(0, 255, (84, 84, 4), np.uint8), 8, {}),
)
"""Hidden layers, the observations, the environments, and the model's settings."""


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=4096, help="environment steps of one repeat")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    repeats, steps = (2, 256) if arguments.quick else (arguments.repeats, arguments.steps)
    about = " ".join((__doc__ or "").split("\n\n")[-1].split())
    report = Report("sampling", "Sampling beside the environment", about)
    tasks = [(task, number) for task, number in TASKS if "HalfCheetah" not in task or find_spec("mujoco")]
    if len(tasks) < len(TASKS):
        report.notes.append("HalfCheetah-v5 left out: pip install 'unison[mujoco]'")
    rows = [sampling_row(task, number, steps, repeats) for task, number in tasks]
    header = ["environment", "copies", "us a step: environment alone", "sampling", "over it", "steps/s"]
    report.add_table("An environment step", header, rows)
    rows = [acting_row(*actor, repeats) for actor in ACTORS]
    header = ["hidden layers", "observations", "rows", "us: as it is", "compiled", "times as fast", "s to compile"]
    report.add_table("Acting through torch.compile", header, rows)
    report.show()
    for path in report.write(arguments.results):
        print(path)


def sampling_row(task: str, number: int, steps: int, repeats: int) -> list[str]:
    """Microseconds of a step of the environments alone and of sampling."""
    config = PPOConfig().environment(task).env_runners(num_envs_per_env_runner=number, vectorization="sync")
    runner = make_runner(config.debugging(seed=0))
    environments = [gym.make(task) for _ in range(number)]
    for index, environment in enumerate(environments):
        environment.reset(seed=index)
        environment.action_space.seed(index)
    actions = [[env.action_space.sample() for env in environments] for _ in range(steps // number)]

    def alone() -> None:
        for row in actions:
            for environment, action in zip(environments, row, strict=True):
                _, _, terminated, truncated, _ = environment.step(action)
                if terminated or truncated:
                    environment.reset()

    bare, sampled = minima([alone, lambda: runner.sample(num_timesteps=steps)], repeats)
    runner.stop()
    bare, sampled = bare / steps * 1e6, sampled / steps * 1e6
    return [task, str(number), f"{bare:.1f}", f"{sampled:.1f}", f"{sampled - bare:.1f}", f"{1e6 / sampled:,.0f}"]


def acting_row(name: str, space: Any, rows: int, model: dict[str, Any], repeats: int) -> list[str]:
    """Microseconds of one forward pass and draw, eager and compiled."""
    config = PPOConfig().rl_module(model_config=model).debugging(seed=0)
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (space, spaces.Discrete(4))})
    module: Any = learner.module[DEFAULT_MODULE_ID]
    observations = torch.as_tensor(np.stack([space.sample() for _ in range(rows)]))

    def act() -> Any:
        said = module.forward_exploration({"obs": observations})
        return module.action_distribution(said["action_dist_inputs"]).sample()

    calls = 20 if len(space.shape) > 1 else 300

    def many(function: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: [function() for _ in range(calls)]

    with torch.no_grad():
        compiled = torch.compile(act, fullgraph=True)
        start = time.perf_counter()
        compiled()
        compiling = time.perf_counter() - start
        as_it_is, faster = minima([many(act), many(compiled)], repeats)
    ratio = f"{as_it_is / faster:.2f}"
    times = [f"{seconds / calls * 1e6:,.0f}" for seconds in (as_it_is, faster)]
    return [name, str(space.shape), str(rows), *times, ratio, f"{compiling:.1f}"]


def minima(functions: list[Callable[[], Any]], repeats: int) -> list[float]:
    """The least seconds of each, in turn, after one call that does not count."""
    best = [float("inf")] * len(functions)
    for repeat in range(repeats + 1):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            function()
            if repeat:
                best[index] = min(best[index], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
