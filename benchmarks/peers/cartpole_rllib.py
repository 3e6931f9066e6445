"""RLlib: PPO on CartPole-v1 from start to end, with the settings of RL Baselines3 Zoo; one JSON line."""

import json
import logging
import sys
import time

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

steps = int(sys.argv[1])
logging.disable(logging.WARNING)
torch.set_num_threads(1)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
algorithm = (
    PPOConfig()
    .environment("CartPole-v1")
    .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
    .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False))
    .training(
        train_batch_size_per_learner=256,
        minibatch_size=256,
        num_epochs=20,
        lambda_=0.8,
        gamma=0.98,
        entropy_coeff=0.0,
        use_kl_loss=False,
        clip_param=0.2,
        grad_clip=0.5,
        lr=[[0, 1e-3], [steps, 0.0]],
    )
    .debugging(seed=0)
    .build_algo()
)
start = time.perf_counter()
sampled = 0
while sampled < steps:
    sampled = algorithm.train()["num_env_steps_sampled_lifetime"]
print(json.dumps({"learning_s": time.perf_counter() - start, "steps": int(sampled)}))
