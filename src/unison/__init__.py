"""Unison: the training core of reinforcement learning. N Learners behave as one."""

from unison.algorithms import PPO, Algorithm, PPOConfig
from unison.config import AlgorithmConfig
from unison.data import Columns, MultiAgentBatch, MultiAgentEpisode, SampleBatch, SingleAgentEpisode
from unison.learner import Learner, TorchLearner
from unison.learner_group import LearnerGroup
from unison.modules import MultiAgentRLModule, MultiAgentRLModuleSpec, RLModule, SingleAgentRLModuleSpec
from unison.types import ALL_MODULES, DEFAULT_MODULE_ID

__all__ = [
    "ALL_MODULES",
    "DEFAULT_MODULE_ID",
    "PPO",
    "Algorithm",
    "AlgorithmConfig",
    "Columns",
    "Learner",
    "LearnerGroup",
    "MultiAgentBatch",
    "MultiAgentEpisode",
    "MultiAgentRLModule",
    "MultiAgentRLModuleSpec",
    "PPOConfig",
    "RLModule",
    "SampleBatch",
    "SingleAgentEpisode",
    "SingleAgentRLModuleSpec",
    "TorchLearner",
]
