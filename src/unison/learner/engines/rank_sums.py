"""The sum over the ranks as an operation that a trace can hold.

While a step is traced, its collective is a stand-in whose sum is this operation, which does nothing
then. Programs call the real collective at its place: torch's compiler as an operation, XLA as a
function in C++ or a call back to the host.
"""

from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from unison.learner.collective import Collective
from unison.learner.engines.kernels.sums import SumsInPrograms
from unison.learner.shared_buffers import SharedBuffers

_collectives: WeakValueDictionary[int, Collective] = WeakValueDictionary()
_numbers: WeakKeyDictionary[Collective, int] = WeakKeyDictionary()
_failures: dict[int, BaseException] = {}
_muted: set[int] = set()
_numbering = Lock()


def sum_over_ranks_(tensor: Tensor, number: int) -> Tensor:
    """Replace a tensor by its sum over all ranks of the collective `number`; returns it."""
    if number not in _muted and number not in _failures:
        try:
            _collectives[number].all_reduce_(tensor)
        except BaseException as error:  # a compiled program can't pass it on; `reporting` raises it
            _failures[number] = error
            IN_PROGRAMS.attach(number, None)
    return tensor


IN_PROGRAMS = SumsInPrograms(sum_over_ranks_)


def _sum_over_ranks(tensor: Tensor, number: int) -> Tensor:
    return sum_over_ranks_(tensor.clone(), number)


def _same_shape(tensor: Tensor, number: int) -> Tensor:
    return torch.empty_like(tensor)


_define: Any = getattr(torch.library, "custom_op")  # noqa: B009  # torch leaves it untyped
OPERATION: Any = _define("unison::sum_over_ranks", _sum_over_ranks, mutates_args=())
OPERATION.register_fake(_same_shape)


class TracedCollective:
    """Stands in for a collective while a step is traced."""

    shared_buffers: SharedBuffers | None = None

    def __init__(self, collective: Collective) -> None:
        self.rank, self.world_size = collective.rank, collective.world_size
        self._number = _number_of(collective)

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Leave a mark in the trace, which is made `muted`: the values stay those of this rank."""
        return tensor.copy_(OPERATION(tensor, self._number))


@contextmanager
def muted(collective: Collective) -> Generator[None]:
    """Sums are left out: a trial run must not wait for other ranks."""
    number = _number_of(collective)
    _muted.add(number)
    try:
        yield
    finally:
        _muted.discard(number)


@contextmanager
def reporting(collective: Collective) -> Generator[None]:
    """Raise what a sum within a program raised."""
    number = _number_of(collective)
    _failures.pop(number, None)
    IN_PROGRAMS.attach(number, collective.shared_buffers)
    try:
        yield
    except Exception:
        if number not in _failures:
            raise
    finally:
        IN_PROGRAMS.attach(number, None)
    if number in _failures:
        raise _failures.pop(number)


def _number_of(collective: Collective) -> int:
    """The first that is free, so that processes of the same kind find each other's programs on disk."""
    with _numbering:
        if collective not in _numbers:
            number = next(number for number in count() if number not in _collectives)
            _collectives[number], _numbers[collective] = collective, number
        return _numbers[collective]
