"""Stable-Baselines3: PPO on CartPole-v1 from start to end, with the settings of RL Baselines3 Zoo; one JSON line."""

import json
import sys
import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

steps = int(sys.argv[1])
torch.set_num_threads(1)
algorithm = PPO(
    "MlpPolicy",
    make_vec_env("CartPole-v1", n_envs=8, seed=0),
    n_steps=32,
    batch_size=256,
    n_epochs=20,
    gae_lambda=0.8,
    gamma=0.98,
    ent_coef=0.0,
    learning_rate=lambda remaining: 1e-3 * remaining,
    clip_range=lambda remaining: 0.2 * remaining,
    device="cpu",
    seed=0,
)
start = time.perf_counter()
algorithm.learn(steps)
print(json.dumps({"learning_s": time.perf_counter() - start, "steps": algorithm.num_timesteps}))
