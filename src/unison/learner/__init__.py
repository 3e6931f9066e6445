"""The Learner: it owns modules, losses and optimizers, and turns batches or episodes into updates."""

from unison.learner.collective import Alone, Collective
from unison.learner.connectors import AddAdvantages, LearnerConnector
from unison.learner.gradients import clip_gradients
from unison.learner.learner import Learner
from unison.learner.metrics import Metrics
from unison.learner.step import LOSS_SHARE
from unison.learner.torch_learner import TorchLearner

__all__ = [
    "LOSS_SHARE",
    "AddAdvantages",
    "Alone",
    "Collective",
    "Learner",
    "LearnerConnector",
    "Metrics",
    "TorchLearner",
    "clip_gradients",
]
