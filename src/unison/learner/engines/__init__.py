"""What runs the steps of an update: eager, and compiled."""

from typing import TYPE_CHECKING

from unison.learner.engines.eager import EagerEngine
from unison.learner.engines.engine import Engine

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

__all__ = ["EagerEngine", "Engine", "make_engine"]


def make_engine(learner: "TorchLearner") -> Engine:
    """The engine that the setting `engine` asks for."""
    name = learner.config.engine
    if name == "xla":
        from unison.learner.engines.xla import XlaEngine

        return XlaEngine()
    if name == "inductor":
        from unison.learner.engines.inductor import InductorEngine

        return InductorEngine()
    if name == "auto":
        from unison.learner.engines.auto import AutoEngine

        return AutoEngine()
    return EagerEngine()
