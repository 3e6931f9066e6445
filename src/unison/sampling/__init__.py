"""Sampling: environments, and the modules that act in them."""

from unison.sampling.env_runner import EnvRunner
from unison.sampling.evaluation import evaluate
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.sampling.runner import Runner

__all__ = ["EnvRunner", "RewardNormalizer", "Runner", "evaluate"]
