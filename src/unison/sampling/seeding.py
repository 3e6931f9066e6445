"""Random numbers of a sampler: reproducible, its own, and different from those of every other."""

import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import numpy as np
import torch

_LARGEST_SEED: Final = 2**31


@final
class Seeds:
    """The sources of a sampler's random numbers.

    All samplers of a run draw the same sequence of base seeds, and each environment adds its own number
    to the base: so no two environments of a run ever share a seed.

    Args:
        seed: the run's; None draws one.
        worker_index: which sampler of the run this is.
        evaluation: whether it evaluates; evaluation has its own sequence.
    """

    def __init__(self, seed: int | None, worker_index: int, evaluation: bool) -> None:
        entropy = np.random.SeedSequence(seed).entropy
        self.worker_index = worker_index
        self._bases = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=(evaluation,))))
        own = np.random.SeedSequence(entropy, spawn_key=(evaluation, worker_index))
        self.torch_generator = torch.Generator()
        """Draws the actions."""
        self.torch_generator.manual_seed(int(own.generate_state(1, np.uint64)[0] >> 1))

    def for_environments(self, num_envs: int) -> list[int]:
        """New seeds for the environments, one each."""
        base = int(self._bases.integers(_LARGEST_SEED)) + self.worker_index * num_envs
        return [(base + index) % _LARGEST_SEED for index in range(num_envs)]

    @contextmanager
    def after(self, num_steps: int, num_episodes: int) -> Generator[None]:
        """Begin torch's global generator, from which modules may draw as they act, by the seed and what came before."""
        seed = zlib.crc32(f"after {num_steps}/{num_episodes} {self.torch_generator.initial_seed()}".encode())
        with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]
            torch.default_generator.manual_seed(seed)
            yield

    def get_state(self) -> dict[str, Any]:
        """Where the sequences stand."""
        return {
            "worker_index": self.worker_index,
            "bases": self._bases.bit_generator.state,
            "torch": self.torch_generator.get_state().numpy().copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from where the sequences stood, as the sampler that they were of.

        Older checkpoints lack `worker_index`.
        """
        self.worker_index = int(state.get("worker_index", self.worker_index))
        self._bases.bit_generator.state = state["bases"]
        self.torch_generator.set_state(torch.tensor(np.asarray(state["torch"]), dtype=torch.uint8))
