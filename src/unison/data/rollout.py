"""All steps of one module in a set of episodes, as flat columns that learner connectors work on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unison.data.columns import Columns
from unison.data.episode import SingleAgentEpisode
from unison.data.multi_agent_episode import MultiAgentEpisode
from unison.data.sequences import lay_out
from unison.data.tensors import TensorColumns
from unison.data.trees import concat_rows, take_rows
from unison.errors import BatchError
from unison.types import DEFAULT_MODULE_ID, ModuleID, Tree, tree_leaves, tree_map


@dataclass
class Rollout:
    """Chunks of episodes, one after another.

    Args:
        columns: tensors [N, ...]: actions, rewards, terminateds, truncateds and what the module put out.
            Connectors add to them and change them; `obs` is added last.
        observations: tree of tensors [N + E, ...]: those of each of the E chunks, the final one included.
        lengths: steps of each chunk; they sum to N.
    """

    columns: TensorColumns
    observations: Tree
    lengths: list[int]

    @property
    def num_steps(self) -> int:
        """N."""
        return sum(self.lengths)

    @property
    def rows(self) -> Tensor:
        """[N] int64: the place of each step's observation among `observations`; the next one's is one further."""
        counts = np.asarray(self.lengths)
        return torch.as_tensor(np.arange(counts.sum()) + np.repeat(np.arange(len(counts)), counts))

    @property
    def continues(self) -> Tensor:
        """[N] bool: whether the next row is the next step of the same chunk."""
        flags = torch.ones(self.num_steps, dtype=torch.bool)
        flags[np.cumsum(self.lengths) - 1] = False
        return flags

    def to_batch(self, *, max_seq_len: int | None) -> TensorColumns:
        """The finished columns: flat rows [N, ...], or padded sequences [S, T, ...] for stateful modules."""
        observations = take_rows(self.observations, self.rows)
        columns = {**self.columns, Columns.OBS: observations}
        if max_seq_len is None:
            return columns
        layout = lay_out(self.lengths, max_seq_len)
        batch = {name: layout.pad(column) for name, column in columns.items() if name != Columns.STATE_IN}
        batch[Columns.STATE_IN] = take_rows(columns[Columns.STATE_IN], layout.starts)
        device = tree_leaves(observations)[0].device
        batch[Columns.LOSS_MASK] = layout.mask.to(device)
        return batch


def chunks_by_module(episodes: Iterable[Any]) -> tuple[dict[ModuleID, list[SingleAgentEpisode]], int]:
    """As `chunks_of`, in arrays.

    Raises:
        BatchError: something is no episode, or none has a step.
    """
    chunks, env_steps = chunks_of(episodes)
    if not chunks:
        raise BatchError("The episodes hold no step. Sample before updating.")
    return {module_id: [in_arrays(part) for part in parts] for module_id, parts in chunks.items()}, env_steps


def chunks_of(episodes: Iterable[Any]) -> tuple[dict[ModuleID, list[SingleAgentEpisode]], int]:
    """Sort the chunks of all agents that hold a step by module; also the environment steps of the episodes.

    Raises:
        BatchError: something is no episode.
    """
    chunks: dict[ModuleID, list[SingleAgentEpisode]] = {}
    env_steps = 0
    for episode in episodes:
        if isinstance(episode, MultiAgentEpisode):
            parts = [(episode.module_for(agent), part) for agent, part in episode.agent_episodes.items()]
        elif isinstance(episode, SingleAgentEpisode):
            parts = [(episode.module_id or DEFAULT_MODULE_ID, episode)]
        else:
            raise BatchError(
                f"An episode is a SingleAgentEpisode or a MultiAgentEpisode, not {type(episode).__name__}."
            )
        env_steps += len(episode)
        for module_id, part in parts:
            if len(part):
                chunks.setdefault(module_id, []).append(part)
    return chunks, env_steps


def in_arrays(chunk: SingleAgentEpisode) -> SingleAgentEpisode:
    """The chunk itself if it is in arrays; else a copy that is, for the caller's may still grow."""
    if chunk.is_numpy:
        return chunk
    return SingleAgentEpisode.from_state(chunk.get_state()).to_numpy()


def make_rollout(chunks: Sequence[SingleAgentEpisode], device: torch.device) -> Rollout:
    """Join chunks of episodes of one module to flat tensors on `device`."""
    lengths = [len(chunk) for chunk in chunks]
    terminated = np.asarray([chunk.is_terminated for chunk in chunks])
    truncated = np.asarray([chunk.is_truncated for chunk in chunks])
    last = np.cumsum(lengths) - 1
    ends = {name: np.zeros(sum(lengths), dtype=bool) for name in (Columns.TERMINATEDS, Columns.TRUNCATEDS)}
    ends[Columns.TERMINATEDS][last] = terminated
    ends[Columns.TRUNCATEDS][last] = truncated
    columns: dict[str, Tree] = {
        Columns.ACTIONS: concat_rows([chunk.get_actions() for chunk in chunks]),
        Columns.REWARDS: np.concatenate([chunk.get_rewards() for chunk in chunks]).astype(np.float32, copy=False),
        **ends,
    }
    outputs: list[dict[str, Tree]] = [chunk.get_extra_model_outputs() for chunk in chunks]
    shared = set(outputs[0]).intersection(*outputs[1:])
    columns |= {name: concat_rows([output[name] for output in outputs]) for name in sorted(shared)}
    observations = concat_rows([chunk.get_observations() for chunk in chunks])

    def tensor(leaf: Any) -> Tensor:
        tensor = torch.as_tensor(leaf)
        dtype = torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype
        # A single chunk was not joined: connectors may write to the rollout, and must not write to the episode.
        return tensor.to(device=device, dtype=dtype, copy=len(chunks) == 1)

    return Rollout({n: tree_map(tensor, c) for n, c in columns.items()}, tree_map(tensor, observations), lengths)
