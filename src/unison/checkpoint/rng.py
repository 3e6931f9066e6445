"""The states of the global random number generators."""

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from unison.errors import StateError
from unison.types import Tree


def capture_rng() -> dict[str, Tree]:
    """The states of `random`, `numpy.random`, torch on the CPU, and torch on every CUDA device in use.

    Generator objects of one's own are not among them. The tree is one that `write_checkpoint` takes.
    """
    version, words, gauss_next = random.getstate()
    # Initializing CUDA only to ask for its state would cost a process that never uses it seconds.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": {"version": version, "words": np.array(words, np.uint64), "gauss_next": gauss_next},
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state().numpy(),
        "cuda": [state.numpy() for state in cuda],
    }


def restore_rng(state: Mapping[str, Tree]) -> None:
    """Put the generators back into the states that `capture_rng` saw.

    States of CUDA devices that this machine lacks are left out.

    Raises:
        StateError: the state is not one of `capture_rng`; then no generator has changed.
    """
    before = capture_rng()
    try:
        _restore(state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        _restore(before)
        raise StateError(
            f"This is no state of the random number generators ({type(error).__name__}: {error}). Nothing was changed."
        ) from error


def check_rng(state: Mapping[str, Tree]) -> None:
    """Raise what `restore_rng` would; the generators stay where they are."""
    before = capture_rng()
    restore_rng(state)
    _restore(before)


def _restore(state: Mapping[str, Tree]) -> None:
    python = state["python"]
    words = tuple(int(word) for word in python["words"])
    random.setstate((python["version"], words, python["gauss_next"]))
    np.random.set_state(cast("dict[str, Any]", state["numpy"]))
    torch.set_rng_state(_as_tensor(state["torch"]))
    if torch.cuda.is_available():
        for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(_as_tensor(cuda_state), device)


def _as_tensor(state: Tree) -> torch.Tensor:
    return torch.from_numpy(np.array(state, np.uint8))  # pyright: ignore[reportUnknownMemberType] (its stub is untyped)
