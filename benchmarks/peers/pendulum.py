"""SAC on Pendulum-v1, one update a step: the work U9 of one contender. One JSON line.

Usage: pendulum.py unison:ENGINE[:PRECISION] | sb3 | rllib STEPS, with the interpreter that has it

Hidden 256,256, 256 rows an update, 200 steps of warm-up; the first 300 steps are not timed.
"""

import json
import logging
import sys
import time
import warnings
from typing import Any

import torch

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
WARM_UP, UNTIMED = 200, 300
kind, *options = sys.argv[1].split(":")
steps = int(sys.argv[2])


def unison(engine: str, precision: str = "float32") -> Any:
    from unison import SACConfig

    config = SACConfig().environment("Pendulum-v1").debugging(seed=0)
    config.framework(engine=engine, precision=precision, num_threads=1)
    algorithm = config.training(warm_up_steps=WARM_UP, steps_per_iteration=UNTIMED).build()
    algorithm.train()

    def run() -> None:
        for _ in range(steps // UNTIMED):
            algorithm.train()

    return run


def sb3() -> Any:
    from stable_baselines3 import SAC

    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=WARM_UP, device="cpu", seed=0)
    model.learn(UNTIMED)
    return lambda: model.learn(steps, reset_num_timesteps=False)


def rllib() -> Any:
    from ray.rllib.algorithms.sac import SACConfig

    config = SACConfig().environment("Pendulum-v1").env_runners(num_env_runners=0, rollout_fragment_length=1)
    config.training(train_batch_size_per_learner=256, num_steps_sampled_before_learning_starts=WARM_UP)
    config.training(training_intensity=None).rl_module(
        model_config={"fcnet_hiddens": [256, 256], "head_fcnet_hiddens": []}
    )
    config.reporting(min_sample_timesteps_per_iteration=UNTIMED, min_time_s_per_iteration=0)
    algorithm = config.build_algo()
    algorithm.train()

    def run() -> None:
        for _ in range(steps // UNTIMED):
            algorithm.train()

    return run


run = {"unison": unison, "sb3": sb3, "rllib": rllib}[kind](*options)
start = time.perf_counter()
run()
print(json.dumps({"us": (time.perf_counter() - start) / steps * 1e6}))
