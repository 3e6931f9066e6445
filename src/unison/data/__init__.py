"""Batches and episodes: what sampling hands to the Learner, and how updates walk over it."""

from unison.data.batch import MultiAgentBatch, SampleBatch
from unison.data.columns import Columns
from unison.data.episode import SingleAgentEpisode
from unison.data.multi_agent_episode import MultiAgentEpisode
from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorConverter

__all__ = [
    "Columns",
    "MinibatchPlan",
    "MultiAgentBatch",
    "MultiAgentEpisode",
    "SampleBatch",
    "SingleAgentEpisode",
    "TensorConverter",
]
