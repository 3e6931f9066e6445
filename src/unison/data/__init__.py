"""Batches and episodes: what sampling hands to the Learner."""

from unison.data.batch import MultiAgentBatch, SampleBatch
from unison.data.columns import Columns
from unison.data.episode import SingleAgentEpisode
from unison.data.multi_agent_episode import MultiAgentEpisode

__all__ = ["Columns", "MultiAgentBatch", "MultiAgentEpisode", "SampleBatch", "SingleAgentEpisode"]
