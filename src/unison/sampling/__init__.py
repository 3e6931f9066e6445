"""Sampling: environments, and the modules that act in them."""

from unison.sampling.actions import ActionTransform
from unison.sampling.env_runner import EnvRunner
from unison.sampling.evaluation import evaluate
from unison.sampling.making_runners import make_runner
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.sampling.runner import Runner
from unison.sampling.runner_group import RunnerGroup

__all__ = ["ActionTransform", "EnvRunner", "RewardNormalizer", "Runner", "RunnerGroup", "evaluate", "make_runner"]
