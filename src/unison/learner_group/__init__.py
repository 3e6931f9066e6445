"""N Learners as one, in this process, on this machine or on a cluster."""

from unison.learner_group.learner_group import LearnerGroup
from unison.learner_group.weights import Weights

__all__ = ["LearnerGroup", "Weights"]
