"""SAC on Pendulum-v1, one gradient step for each environment step: the work U9 of one contender. One JSON line.

Usage: pendulum.py unison:ENGINE[:PRECISION] | sb3 | rllib AT_ONCE, with the interpreter that has it

Hidden 256,256, 256 rows a gradient step; AT_ONCE environment steps, then as many gradient steps. 200 steps of warm-up;
the first 320 steps are not timed, then as many times 320 as begin within 15 s.
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
WARM_UP, STEPS, SECONDS = 200, 320, 15
kind, *options = sys.argv[1].split(":")
at_once = int(sys.argv[2])


def unison(engine: str, precision: str = "float32") -> Any:
    from unison import SACConfig

    config = SACConfig().environment("Pendulum-v1").env_runners(rollout_fragment_length=at_once).debugging(seed=0)
    config.framework(engine=engine, precision=precision, num_threads=1)
    algorithm = config.training(warm_up_steps=WARM_UP, steps_per_iteration=STEPS).build()

    def train() -> None:
        ran = algorithm.train()["learners"]["__all_modules__"]["engine"]
        assert engine in (ran, "auto"), f"the engine was {ran}"

    return train


def sb3() -> Any:
    from stable_baselines3 import SAC

    pace = {"train_freq": at_once, "gradient_steps": at_once, "learning_starts": WARM_UP}
    model = SAC("MlpPolicy", "Pendulum-v1", **pace, device="cpu", seed=0)
    return lambda: model.learn(STEPS, reset_num_timesteps=False)


def rllib() -> Any:
    from ray.rllib.algorithms.sac import SACConfig

    config = SACConfig().environment("Pendulum-v1").env_runners(num_env_runners=0, rollout_fragment_length=1)
    config.training(train_batch_size_per_learner=256, num_steps_sampled_before_learning_starts=WARM_UP)
    config.training(training_intensity=None).rl_module(
        model_config={"fcnet_hiddens": [256, 256], "head_fcnet_hiddens": []}
    )
    config.reporting(min_sample_timesteps_per_iteration=STEPS, min_time_s_per_iteration=0)
    return config.build_algo().train


train = {"unison": unison, "sb3": sb3, "rllib": rllib}[kind](*options)
train()
start, rounds = time.perf_counter(), 0
while time.perf_counter() - start < SECONDS:
    train()
    rounds += 1
print(json.dumps({"us": (time.perf_counter() - start) / (rounds * STEPS) * 1e6, "steps": rounds * STEPS}))
