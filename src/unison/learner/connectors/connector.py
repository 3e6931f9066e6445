"""The seam of learner connectors: one step between episodes and a batch."""

from typing import TYPE_CHECKING, Protocol

from unison.data.rollout import Rollout
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class LearnerConnector(Protocol):
    """A function or object that changes a rollout; it may change it in place and must return it.

    The setting `learner_connectors` lists those of the user, which run first; then come those of
    the algorithm (`TorchLearner.connectors`).
    """

    def __call__(self, rollout: Rollout, *, learner: "TorchLearner", module_id: ModuleID) -> Rollout:
        """Change the rollout of one module of `learner`."""
        ...
