"""From config to trained policy."""

from unison.algorithms.algorithm import Algorithm
from unison.algorithms.ppo import PPO, PPOConfig, PPOLearner

__all__ = ["PPO", "Algorithm", "PPOConfig", "PPOLearner"]
