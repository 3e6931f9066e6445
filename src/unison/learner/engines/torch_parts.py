"""Parts of torch whose types say little or nothing, named once as what they are: Any."""

import threading
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

pytree: Any = import_module("torch.utils._pytree")
"""The only tree code that torch's tracers accept."""
map_arg: Any = import_module("torch.fx.node").map_arg
"""Applies a function to the nodes within a node's arguments."""
map_aggregate: Any = import_module("torch.fx.node").map_aggregate
"""Applies a function to everything within a node's arguments that is no list, tuple, dict or slice."""
core: Any = import_module("torch._C")
"""Torch's switches without a public name."""

TRACING = threading.Lock()
"""Torch's tracers and its compiler are not made for threads: one at a time."""

_copy_into: Any = import_module("torch")._foreach_copy_


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy a list of tensors into another in one call; torch refuses lists of none, which leave nothing to do."""
    if targets:
        _copy_into(targets, sources)


def pointers(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors lie in memory."""
    return list(map(Tensor.data_ptr, tensors))


def alike(tensor: Tensor, other: Tensor) -> bool:
    """Whether one can take the other's place: the same shape, dtype and device."""
    return tensor.shape == other.shape and tensor.dtype is other.dtype and tensor.device == other.device


class Watcher(TorchDispatchMode):
    """Base of what sees every operation, without torch's compiler: to have it skip us, torch would import it."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
