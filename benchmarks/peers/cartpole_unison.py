"""Unison: PPO on CartPole-v1 from start to end, with the settings of RL Baselines3 Zoo; one JSON line.

Usage: cartpole_unison.py STEPS ENGINE VECTORIZATION
"""

import json
import sys
import time

from unison import PPOConfig

steps, engine, vectorization = int(sys.argv[1]), sys.argv[2], sys.argv[3]
config = (
    PPOConfig()
    .environment("CartPole-v1")
    .framework(engine=engine, num_threads=1)
    .env_runners(num_envs_per_env_runner=8, vectorization=vectorization)
    .training(
        train_batch_size=256,
        minibatch_size=256,
        num_epochs=20,
        lambda_=0.8,
        gamma=0.98,
        lr=[[0, 1e-3], [steps, 0.0]],
        clip_param=0.2,
        grad_clip=0.5,
    )
    .debugging(seed=0)
)
algorithm = config.build()
start, done = time.perf_counter(), 0
while done < steps:
    results = algorithm.train()
    done = results["num_env_steps_sampled_lifetime"]
answer = {"learning_s": time.perf_counter() - start, "steps": done}
said = {name: value for name, value in results["learners"]["__all_modules__"].items() if "engine" in name}
algorithm.stop()
print(json.dumps({**answer, **said, "return": results["env_runners"]["episode_return_mean"]}))
