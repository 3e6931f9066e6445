"""Proximal policy optimization."""

from unison.algorithms.ppo.config import PPOConfig
from unison.algorithms.ppo.learner import PPOLearner
from unison.algorithms.ppo.ppo import PPO

__all__ = ["PPO", "PPOConfig", "PPOLearner"]
