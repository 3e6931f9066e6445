"""From episodes to the batch that a Learner trains on."""

from unison.learner.connectors.advantages import AddAdvantages
from unison.learner.connectors.connector import LearnerConnector
from unison.learner.connectors.pipeline import episodes_to_columns

__all__ = ["AddAdvantages", "LearnerConnector", "episodes_to_columns"]
