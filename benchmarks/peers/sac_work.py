"""SAC's gradient steps of one contender, timed: the work U6. One JSON line.

Usage: sac_work.py unison:ENGINE[:PRECISION] | sb3 | rllib STEPS, with the interpreter that has it

Box(3) to Box(1), two hidden layers of 256, 256 rows a gradient step, twin critics, automatic temperature, one thread;
STEPS gradient steps a call. The rows come from a replay of the contender's own, except RLlib's, which are handed to its
Learner: one step a call, since its targets move once a call.
"""

import json
import logging
import statistics
import sys
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import torch

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
OBS, ACT, ROWS, HIDDEN = (
    gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
    gym.spaces.Box(-1, 1, (1,), np.float32),
    256,
    [256, 256],
)
rng = np.random.default_rng(0)


def columns(rows: int) -> dict[str, Any]:
    return {
        "obs": rng.normal(size=(rows, 3)).astype(np.float32),
        "new_obs": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminateds": np.zeros(rows, bool),
    }


def unison(engine: str, precision: str = "float32") -> Any:
    from unison import MultiAgentBatch, SACConfig, SingleAgentEpisode
    from unison.data.replay import ReplayBuffer

    config = SACConfig().framework(engine=engine, precision=precision, num_threads=1).debugging(seed=0)
    learner = config.build_learner(spaces={"default_policy": (OBS, ACT)})
    replay, rows = ReplayBuffer(10_000, seed=0), columns(1001)
    replay.add(
        [SingleAgentEpisode(observations=rows["obs"], actions=rows["actions"][:1000], rewards=rows["rewards"][:1000])]
    )

    def update() -> Any:
        batch = MultiAgentBatch(replay.sample(steps * ROWS).columns, env_steps=steps * ROWS)
        return learner.update_from_batch(batch, minibatch_size=ROWS)

    return update, lambda: update()["__all_modules__"]["engine"]


def sb3() -> Any:
    from stable_baselines3 import SAC

    class Env(gym.Env):
        observation_space, action_space = OBS, ACT

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return rng.normal(size=3).astype(np.float32), {}

        def step(self, action: Any) -> Any:
            return rng.normal(size=3).astype(np.float32), float(rng.normal()), bool(rng.random() < 0.01), False, {}

    options = {"batch_size": ROWS, "learning_starts": 1000, "device": "cpu", "buffer_size": 10_000}
    model = SAC("MlpPolicy", Env(), policy_kwargs={"net_arch": HIDDEN}, **options)
    model.learn(1001)
    return lambda: model.train(steps, ROWS), lambda: "eager"


def rllib() -> Any:
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    config = SACConfig().environment(observation_space=OBS, action_space=ACT)
    config.training(train_batch_size_per_learner=ROWS)
    config.rl_module(model_config={"fcnet_hiddens": HIDDEN, "head_fcnet_hiddens": []})
    learner = config.build_learner(spaces={"default_policy": (OBS, ACT)})
    learner.build()
    extra = {"truncateds": np.zeros(ROWS, bool), "weights": np.ones(ROWS, "f"), "n_step": np.ones(ROWS, "f")}

    def update() -> Any:
        for _ in range(steps):
            batch = MultiAgentBatch({"default_policy": SampleBatch({**columns(ROWS), **extra})}, ROWS)
            learner.update(batch=batch, timesteps={"num_env_steps_sampled_lifetime": 1})

    return update, lambda: "eager"


kind, *options = sys.argv[1].split(":")
steps = int(sys.argv[2])
update, engine = {"unison": unison, "sb3": sb3, "rllib": rllib}[kind](*options)
begin = time.perf_counter()
while time.perf_counter() - begin < (12 if options[:1] == ["auto"] else 5):
    update()
times, calls = [], max(1, 20 // steps)
for _ in range(7):
    start = time.perf_counter()
    for _ in range(calls):
        update()
    times.append((time.perf_counter() - start) / (calls * steps) * 1e6)
print(json.dumps({"us": statistics.median(times), "engine": engine()}))
