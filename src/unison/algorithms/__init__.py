"""From config to trained policy."""

from unison.algorithms.algorithm import Algorithm
from unison.algorithms.ppo import PPO, PPOConfig, PPOLearner
from unison.algorithms.sac import SAC, SACConfig, SACLearner, SACModule

__all__ = ["PPO", "SAC", "Algorithm", "PPOConfig", "PPOLearner", "SACConfig", "SACLearner", "SACModule"]
