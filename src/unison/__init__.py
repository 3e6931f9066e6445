"""Unison: the training core of reinforcement learning. N Learners behave as one."""

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unison.algorithms import PPO, SAC, Algorithm, PPOConfig, SACConfig
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
    "SAC",
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
    "SACConfig",
    "SampleBatch",
    "SingleAgentEpisode",
    "SingleAgentRLModuleSpec",
    "TorchLearner",
]

_HOMES = {
    "algorithms": ("PPO", "SAC", "Algorithm", "PPOConfig", "SACConfig"),
    "config": ("AlgorithmConfig",),
    "data": ("Columns", "MultiAgentBatch", "MultiAgentEpisode", "SampleBatch", "SingleAgentEpisode"),
    "learner": ("Learner", "TorchLearner"),
    "learner_group": ("LearnerGroup",),
    "modules": ("MultiAgentRLModule", "MultiAgentRLModuleSpec", "RLModule", "SingleAgentRLModuleSpec"),
    "types": ("ALL_MODULES", "DEFAULT_MODULE_ID"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: who only asks the command line for help need not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'unison' has no attribute '{name}'")
    value = getattr(_import(f"unison.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def _import(name: str) -> ModuleType:
    """Import with the garbage collector paused: a single full collection walks all that torch has made, 0.1 s.

    What torch's import leaves lives as long as the process. So if it came with this one, no collection looks at it
    later either, the last one included, for which the process would take 0.3 s at its end.
    """
    collecting, brings_torch = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        module = import_module(name)
        if brings_torch and "torch" in sys.modules:
            gc.freeze()
        return module
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
