"""Replay buffers: steps that are learned from many times."""

from unison.data.replay.module_replay import N_STEPS, ModuleReplay
from unison.data.replay.replay_buffer import Draws, Prioritization, ReplayBuffer

__all__ = ["N_STEPS", "Draws", "ModuleReplay", "Prioritization", "ReplayBuffer"]
