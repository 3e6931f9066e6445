"""Torch's global random numbers while a Learner works: its own, wherever it runs and whatever was drawn before."""

import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


@contextmanager
def own_random_numbers(learner: "TorchLearner", purpose: str = "update") -> Generator[None]:
    """Begin torch's global generators by the Learner's seed and the number of the update; put them back afterwards.

    Dropout, hooks that draw and the first weights of new modules then are the same after a restore, in a Learner that
    took a lost one's place, and on all ranks; two updates never begin alike.

    Args:
        learner: whose seed and updates count.
        purpose: what is drawn; each has numbers of its own.
    """
    index = learner.device.index if learner.device.type == "cuda" else None
    # Of both, so that they don't begin where others begin that have the same seed, such as the first weights.
    seed = zlib.crc32(f"{purpose} {learner.generator.initial_seed()}/{learner.counters['num_updates']}".encode())
    with torch.random.fork_rng([] if index is None else [index]):  # pyright: ignore[reportUnknownMemberType]
        # Not torch.manual_seed: that seeds all devices, and where there are none it remembers to do so.
        torch.default_generator.manual_seed(seed)
        if index is not None:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
