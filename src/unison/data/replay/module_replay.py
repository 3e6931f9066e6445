"""The replay buffer of one module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unison.data.columns import Columns
from unison.data.episode import SingleAgentEpisode
from unison.data.replay.links import Links
from unison.data.replay.ring import Leaves, Ring
from unison.data.replay.samplers import Sampler
from unison.data.rollout import in_arrays
from unison.data.trees import slice_rows
from unison.errors import BatchError
from unison.types import Tree

N_STEPS = "n_steps"
"""The column [B] of how many steps the rewards of a row sum up."""


@dataclass(frozen=True)
class Draw:
    """Rows that were drawn.

    Args:
        columns: tensors [B, ...], or [B, T, ...] for sequences.
        numbers: [B] the numbers of the (first) rows, by which `update_priorities` knows them.
    """

    columns: dict[str, Tree]
    numbers: Tensor


@final
class ModuleReplay:
    """The last steps of one module: each with its next observation, in memory that is claimed once.

    Args:
        capacity: steps.
        sampler: which of them are drawn.
        device: where they lie.
        directory: where files hold them instead of memory.
        outputs: columns of the module's outputs that are kept as well, such as `state_in`.
    """

    def __init__(
        self,
        capacity: int,
        sampler: Sampler,
        *,
        device: torch.device | None = None,
        directory: Path | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self.ring = Ring(capacity, device=device, directory=directory)
        self._sampler = sampler
        self._links = Links(capacity)
        self._outputs = tuple(outputs)

    def __len__(self) -> int:
        """The steps that are held."""
        return self.ring.size

    def match(self, chunk: SingleAgentEpisode) -> Leaves:
        """Lay the steps of a chunk of an episode to those that are held, as `write` takes them; nothing is written.

        Raises:
            BatchError: its columns are not those of the steps before.
        """
        rows, chunk = len(chunk), in_arrays(chunk)
        observations = chunk.get_observations()
        terminateds = np.zeros(rows, np.bool_)
        terminateds[-1] = chunk.is_terminated
        columns: dict[str, Tree] = {
            Columns.OBS: slice_rows(observations, 0, -1),
            Columns.NEXT_OBS: slice_rows(observations, 1, None),
            Columns.ACTIONS: chunk.get_actions(),
            Columns.REWARDS: np.asarray(chunk.get_rewards(), np.float32),
            Columns.TERMINATEDS: terminateds,
        }
        for name in self._outputs:
            columns[name] = chunk.get_extra_model_outputs(name)
        return self.ring.match(columns, rows)

    def write(self, chunk: SingleAgentEpisode, leaves: Leaves) -> None:
        """Append a chunk that `match` has found to fit; one that goes on is linked to what came before."""
        rows = len(chunk)
        self.ring.write(leaves, rows)
        kept = min(rows, self.ring.capacity)
        first = self.ring.written - kept
        self._links.add(chunk, first, kept)
        self._sampler.add(first, kept)

    def sample(self, rows: int, generator: torch.Generator, *, n_step: int = 1, gamma: float = 1.0) -> Draw:
        """Draw steps, with replacement.

        With `n_step` above 1, `rewards` sums up to so many rewards, discounted by `gamma` (Sutton and Barto 2018,
        section 7.1); `new_obs` and `terminateds` are those after the last of them, and the column `n_steps` counts
        them: fewer than `n_step` where the episode ended, was cut, or has not gone on yet.

        Raises:
            BatchError: no step is held.
        """
        places, weights = self._draw(rows, generator)
        if n_step == 1:
            columns = {name: self.ring.take(name, places) for name in self.ring.columns}
        else:
            path, counts = self._links.follow(places, n_step)
            ends = path[:, -1]
            later = (Columns.NEXT_OBS, Columns.TERMINATEDS)
            columns = {name: self.ring.take(name, ends if name in later else places) for name in self.ring.columns}
            rewards: Tensor = self.ring.take(Columns.REWARDS, path)
            steps = torch.arange(n_step)
            discounts = torch.where(steps < counts[:, None], float(gamma) ** steps, 0.0)
            columns[Columns.REWARDS] = (rewards * discounts.to(rewards)).sum(1)
            columns[N_STEPS] = counts.to(rewards)
        if weights is not None:
            columns[Columns.WEIGHTS] = weights.to(columns[Columns.REWARDS])
        return Draw(columns, self.ring.numbers_at(places))

    def sample_sequences(self, rows: int, length: int, generator: torch.Generator) -> Draw:
        """Draw `rows` sequences of up to `length` steps in a row, none across the end of an episode.

        Columns are [B, T, ...], padded at the end where `loss_mask` [B, T] is False; `state_in` [B, ...] is the state
        before the first step.

        Raises:
            BatchError: no step is held.
        """
        places, weights = self._draw(rows, generator)
        path, counts = self._links.follow(places, length)
        columns = {
            name: self.ring.take(name, places if name == Columns.STATE_IN else path) for name in self.ring.columns
        }
        columns[Columns.LOSS_MASK] = (torch.arange(length) < counts[:, None]).to(columns[Columns.REWARDS].device)
        if weights is not None:
            columns[Columns.WEIGHTS] = weights[:, None].expand(rows, length).to(columns[Columns.REWARDS])
        return Draw(columns, self.ring.numbers_at(places))

    def update_priorities(self, numbers: Tensor, errors: Tensor) -> None:
        """Tell the errors [n] that training found; rows that have been overwritten meanwhile are passed over."""
        held = self.ring.still_held(numbers)
        self._sampler.update(numbers[held] % self.ring.capacity, errors[held])

    def get_state(self) -> dict[str, Any]:
        """Everything that is held."""
        return {
            "ring": self.ring.get_state(),
            "links": self._links.get_state(),
            "sampler": self._sampler.get_state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state` of a buffer of this capacity."""
        self.ring.set_state(state["ring"])
        self._links.set_state(state["links"])
        self._sampler.set_state(state["sampler"], len(self))

    def _draw(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        if not len(self):
            raise BatchError("The replay buffer is empty. Add episodes before sampling.")
        return self._sampler.draw(rows, len(self), generator)
