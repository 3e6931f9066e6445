"""Sampling: environments, and the modules that act in them."""

from unison.sampling.actions import ActionTransform
from unison.sampling.env_runner import EnvRunner
from unison.sampling.evaluation import evaluate
from unison.sampling.local_runner import LocalRunner
from unison.sampling.local_runners import make_local_runner
from unison.sampling.making_runners import make_runner
from unison.sampling.multi_agent import MultiAgentEnvRunner
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.sampling.runner import Runner
from unison.sampling.runner_group import RunnerGroup

__all__ = [
    "ActionTransform",
    "EnvRunner",
    "LocalRunner",
    "MultiAgentEnvRunner",
    "RewardNormalizer",
    "Runner",
    "RunnerGroup",
    "evaluate",
    "make_local_runner",
    "make_runner",
]
