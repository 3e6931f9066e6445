"""The replay buffer: the last steps of all modules, to be drawn from again and again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unison.data.episode import SingleAgentEpisode
from unison.data.multi_agent_episode import MultiAgentEpisode
from unison.data.replay.checks import at_least_one, by_module, check_state, fraction
from unison.data.replay.module_replay import Draw, ModuleReplay
from unison.data.replay.ring import Leaves
from unison.data.replay.samplers import PrioritizedSampler, Sampler, UniformSampler
from unison.data.rollout import chunks_of
from unison.errors import BatchError, ModuleError
from unison.types import ModuleID, check_several_ids


@dataclass(frozen=True)
class Prioritization:
    """How a prioritized replay weighs rows (Schaul et al. 2016, arXiv:1511.05952, table 3).

    Args:
        alpha: how much priorities count; 0: all rows alike.
        beta: how much of the bias that they cause is corrected by weights; 1: all of it.

    Raises:
        ConfigError: one of them is no number from 0 to 1.
    """

    alpha: float = 0.6
    beta: float = 0.4

    def __post_init__(self) -> None:
        fraction("alpha", self.alpha)
        fraction("beta", self.beta)


@final
class ReplayBuffer:
    """The last steps of every module, in bounded memory that is claimed with the first step.

    Args:
        capacity: steps of each module.
        prioritization: draw by priority; None: all steps alike.
        device: where steps lie and batches are made, such as "cuda".
        directory: where files without names hold the steps, for buffers larger than memory; None: in memory.
        seed: of the draws; None draws one.
        outputs: columns of the module's outputs that are kept as well, such as `state_in`.

    Raises:
        ConfigError: the capacity is no integer of at least 1.
    """

    def __init__(
        self,
        capacity: int,
        *,
        prioritization: Prioritization | None = None,
        device: str | torch.device = "cpu",
        directory: str | Path | None = None,
        seed: int | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self.capacity = at_least_one("capacity", capacity)
        self.modules: dict[ModuleID, ModuleReplay] = {}
        """The buffers of single modules; each appears with its first step."""
        self._prioritization = prioritization
        self._device = torch.device(device)
        # Modules whose first step comes later go there too, wherever the process is by then.
        self._directory = None if directory is None else Path(directory).absolute()
        self._outputs = tuple(outputs)
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def __len__(self) -> int:
        """The steps of all modules that are held."""
        return sum(len(module) for module in self.modules.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(module.ring.nbytes for module in self.modules.values())

    def add(self, episodes: Sequence[SingleAgentEpisode | MultiAgentEpisode]) -> int:
        """Append the steps of episodes, or of chunks of them, all or none; returns how many environment steps they are.

        Raises:
            BatchError: columns are not those of the steps before.
            ConfigError: no room for the steps of a module in `directory`.
        """
        chunks, env_steps = chunks_of(episodes)
        new: dict[ModuleID, ModuleReplay] = {}
        found: list[tuple[ModuleReplay, SingleAgentEpisode, Leaves]] = []
        for module_id, parts in chunks.items():
            module = self.modules.get(module_id)
            if module is None:
                module = new[module_id] = self._make()
            try:
                for chunk in parts:
                    found.append((module, chunk, module.match(chunk)))
            except BatchError as error:
                raise BatchError(f"Module '{module_id}': {error}") from error
        # Everything fits: nothing keeps a part of it from being written.
        self.modules.update(new)
        for module, chunk, leaves in found:
            module.write(chunk, leaves)
        return env_steps

    def sample(
        self,
        rows: int,
        *,
        n_step: int | Mapping[ModuleID, int] = 1,
        gamma: float | Mapping[ModuleID, float] = 1.0,
        module_ids: Collection[ModuleID] | None = None,
    ) -> "Draws":
        """Draw so many steps of each module that has any; see ModuleReplay.sample.

        Raises:
            ConfigError: `rows` or an `n_step` is no integer of at least 1, a `gamma` no number from 0 to 1, or a module
                has none.
            ModuleError: `module_ids` is a single id.
        """
        check_several_ids(module_ids)
        chosen = [module_id for module_id in self.modules if module_ids is None or module_id in module_ids]
        rows = at_least_one("rows", rows)
        n_steps = by_module("n_step", n_step, chosen, at_least_one)
        gammas = by_module("gamma", gamma, chosen, fraction)
        draws = Draws()
        for m in chosen:
            draws.add(m, self.modules[m].sample(rows, self._generator, n_step=n_steps[m], gamma=gammas[m]))
        return draws

    def sample_sequences(self, rows: int, length: int) -> "Draws":
        """Draw so many sequences of each module that has any step; see ModuleReplay.sample_sequences.

        Raises:
            ConfigError: `rows` or `length` is no integer of at least 1.
        """
        rows, length = at_least_one("rows", rows), at_least_one("length", length)
        draws = Draws()
        for module_id, module in self.modules.items():
            draws.add(module_id, module.sample_sequences(rows, length, self._generator))
        return draws

    def update_priorities(self, numbers: Mapping[ModuleID, Tensor], errors: Mapping[ModuleID, Any]) -> None:
        """Tell the errors [B] that training found for rows of these numbers [B], by module.

        Raises:
            ModuleError: there are errors of a module that has no steps or no numbers.
            BatchError: there are not as many errors as numbers.
        """
        told: list[tuple[ModuleReplay, Tensor, Tensor]] = []
        for module_id, given in errors.items():
            if module_id not in self.modules or module_id not in numbers:
                known = sorted(self.modules.keys() & numbers.keys())
                raise ModuleError(
                    f"Errors of module '{module_id}', but steps and numbers only of {known}. Give the numbers that "
                    "were drawn with its rows."
                )
            found = torch.as_tensor(np.asarray(given))
            if found.shape != numbers[module_id].shape:
                raise BatchError(
                    f"Module '{module_id}': errors of shape {list(found.shape)} for rows whose numbers have the shape "
                    f"{list(numbers[module_id].shape)}; give one for each row that was drawn."
                )
            told.append((self.modules[module_id], numbers[module_id], found))
        for module, rows, found in told:
            module.update_priorities(rows, found)

    def forget_modules_but(self, module_ids: Collection[ModuleID]) -> None:
        """Forget the steps of all modules but these; a single id raises ModuleError."""
        check_several_ids(module_ids)
        self.modules = {module_id: module for module_id, module in self.modules.items() if module_id in module_ids}

    def clear(self) -> None:
        """Forget all steps."""
        self.modules = {}

    def get_state(self) -> dict[str, Any]:
        """All steps, and where the random numbers stand.

        It is a copy in memory, also of steps that files hold: those that are more than memory can't be saved.
        """
        modules = {module_id: module.get_state() for module_id, module in self.modules.items()}
        return {"modules": modules, "generator": self._generator.get_state().numpy().copy()}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise StateError if a state is none of a replay buffer of this capacity, and change nothing."""
        check_state(state, self.capacity)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state`; anything else, or one of another capacity, raises StateError."""
        self.check_state(state)
        modules: dict[ModuleID, ModuleReplay] = {}
        for module_id, saved in state["modules"].items():
            modules[module_id] = self._make()
            modules[module_id].set_state(saved)
        self._generator.set_state(torch.as_tensor(np.array(state["generator"], dtype=np.uint8)))
        self.modules = modules

    def _make(self) -> ModuleReplay:
        sampler: Sampler = UniformSampler()
        if self._prioritization is not None:
            options = self._prioritization
            sampler = PrioritizedSampler(self.capacity, alpha=options.alpha, beta=options.beta)
        return ModuleReplay(
            self.capacity, sampler, device=self._device, directory=self._directory, outputs=self._outputs
        )


@dataclass
class Draws:
    """What was drawn, by module.

    Args:
        columns: of each module, tensors [B, ...].
        numbers: the numbers [B] of their rows.
    """

    columns: dict[ModuleID, dict[str, Any]] = field(default_factory=dict[ModuleID, dict[str, Any]])
    numbers: dict[ModuleID, Tensor] = field(default_factory=dict[ModuleID, Tensor])

    def add(self, module_id: ModuleID, draw: Draw) -> None:
        """Put in what was drawn of a module."""
        self.columns[module_id], self.numbers[module_id] = draw.columns, draw.numbers
