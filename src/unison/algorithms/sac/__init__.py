"""Soft actor-critic."""

from unison.algorithms.sac.config import SACConfig
from unison.algorithms.sac.learner import SACLearner
from unison.algorithms.sac.module import SACModule
from unison.algorithms.sac.sac import SAC

__all__ = ["SAC", "SACConfig", "SACLearner", "SACModule"]
