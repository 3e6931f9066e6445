"""Many modules through a LearnerGroup: work U3, and its growth with the number of modules.

    taskset -c 0 python benchmarks/many_modules.py [--modules 1 2 4 8 16 32 64] [--repeats 5] [--engine auto]

Work U3 (Box(4) to Discrete(2), hidden 64,64; 512 rows of each module in minibatches of 64, 2 passes, so 16 optimizer
steps an update) through a LearnerGroup in this process, with one thread. Once all modules have rows, once a quarter
of them (every fourth) has none. Updates are warmed up until the engine has settled; times are medians.
"""

import statistics
import time
from typing import Any

import numpy as np
import torch
from harness.options import ENGINES, make_parser
from harness.report import Report

from unison import PPOConfig
from unison.algorithms.ppo.ppo import PPO  # noqa: F401  registers the algorithm

ROWS, MINIBATCH, PASSES = 512, 64, 2
STEPS = PASSES * ROWS // MINIBATCH


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--modules", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--warm-up", type=float, default=12.0, help="seconds for each number of modules")
    parser.set_defaults(repeats=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = Report(
        "many_modules", "Many modules through a LearnerGroup", " ".join((__doc__ or "").split("\n\n")[2].split())
    )
    rows: list[list[str]] = []
    found: list[dict[str, Any]] = []
    for number in arguments.modules:
        row = [str(number)]
        for quarter_is_empty in (False, True):
            seconds, engine = measure(number, quarter_is_empty, arguments)
            present = number - (number // 4 if quarter_is_empty else 0)
            found.append({"modules": number, "with_rows": present, "seconds": seconds, "engine": engine})
            step = statistics.median(seconds) / STEPS * 1e6
            row += [str(present), f"{step:,.0f}", f"{step / present:,.1f}", engine]
        rows.append(row)
        print(*row, flush=True)
    header = ["modules", "all with rows", "us a step", "us a module", "engine"]
    header += ["three quarters with rows", "us a step", "us a module", "engine"]
    report.add_table("", header, rows)
    report.data["measured"] = found
    report.show()
    for path in report.write(arguments.results):
        print(path)


def measure(number: int, quarter_is_empty: bool, arguments: Any) -> tuple[list[float], str]:
    """Seconds of one update, several times, and the engine that ran it."""
    from gymnasium.spaces import Box, Discrete

    ids = [f"module_{index}" for index in range(number)]
    config = PPOConfig().multi_agent(policies=ids).framework(engine=arguments.engine).debugging(seed=0)
    spaces = dict.fromkeys(ids, (Box(-np.inf, np.inf, (4,)), Discrete(2)))
    batch = {m: columns(i) for i, m in enumerate(ids) if not quarter_is_empty or i % 4 != 3}
    with config.build_learner_group(spaces=spaces) as group:

        def update() -> str:
            results = group.update_from_batch(batch, minibatch_size=MINIBATCH, num_iters=PASSES)
            return str(results["__all_modules__"]["engine"])

        start = time.perf_counter()
        while time.perf_counter() - start < (1.0 if arguments.quick else arguments.warm_up):
            update()
        seconds: list[float] = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            engine = update()
            seconds.append(time.perf_counter() - start)
    return seconds, engine


def columns(seed: int) -> dict[str, Any]:
    """The columns of PPO's loss."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, 2)).astype(np.float32) * 0.1
    actions = rng.integers(0, 2, ROWS)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return {
        "obs": rng.normal(size=(ROWS, 4)).astype(np.float32),
        "actions": actions,
        "action_logp": logp[np.arange(ROWS), actions],
        "action_dist_inputs": logits,
        "advantages": rng.normal(size=ROWS).astype(np.float32),
        "value_targets": rng.normal(size=ROWS).astype(np.float32),
    }


if __name__ == "__main__":
    main()
