"""Stable-Baselines3: SAC on a task of continuous control, with evaluations on the way; one JSON line at the end.

Usage: control_sb3.py TASK SEED STEPS WARM_UP INTERVAL EPISODES
"""

import json
import sys
import time

import gymnasium as gym
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy

name, seed, steps, warm_up, interval, episodes = sys.argv[1], *map(int, sys.argv[2:7])
torch.set_num_threads(1)
algorithm = SAC(
    "MlpPolicy",
    gym.make(name),
    learning_rate=3e-4,
    buffer_size=steps,
    learning_starts=warm_up,
    batch_size=256,
    tau=0.005,
    gamma=0.99,
    train_freq=1,
    gradient_steps=1,
    policy_kwargs={"net_arch": [256, 256]},
    device="cpu",
    seed=seed,
)
evaluation = gym.make(name)
evaluation.reset(seed=10_000 + seed)
curve = {"task": name, "seed": seed, "steps": [], "returns": [], "cpu_seconds": []}
spent = 0.0
while algorithm.num_timesteps < steps:
    start = time.process_time()
    algorithm.learn(interval, reset_num_timesteps=False)
    spent += time.process_time() - start
    returns = evaluate_policy(algorithm, evaluation, n_eval_episodes=episodes, return_episode_rewards=True)[0]
    curve["steps"].append(algorithm.num_timesteps)
    curve["returns"].append(sum(returns) / len(returns))
    curve["cpu_seconds"].append(spent)
    print(curve["steps"][-1], curve["returns"][-1], round(spent), file=sys.stderr, flush=True)
print(json.dumps(curve))
