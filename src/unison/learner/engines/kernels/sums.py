"""Sums over the ranks of one machine, for programs of XLA, which need not wait for Python."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import torch

from unison.learner.engines.kernels.calls import make_call
from unison.learner.shared_buffers import SharedBuffers

_FROM_C = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)


class SumsInPrograms:
    """The sum as an operation of programs.

    Args:
        in_python: makes the sums of collectives that are not attached, and those for which a rank is late. It
            replaces a tensor by its sum over the ranks of the collective of a number, and must not raise.
    """

    def __init__(self, in_python: Callable[[torch.Tensor, int], object]) -> None:
        self._in_python = in_python
        self._attach: Any = None

    def operation(self, pieces: Sequence[Any], places: Sequence[tuple[int, int, int]], number: int) -> Any:
        """The sum of a float32 vector over the ranks of a collective; None if this machine can't compile it.

        Args:
            pieces: the vector in parts, arrays of JAX [n] each.
            places: of all stretches of all pieces, in their order: the piece, the first entry in the vector, the end.
            number: of the collective.

        Returns:
            The pieces of the sum.
        """
        name = self._name
        if name is None:
            return None
        jax: Any = import_module("jax")
        shapes = [jax.ShapeDtypeStruct(piece.shape, piece.dtype) for piece in pieces]
        call = jax.ffi.ffi_call(name, shapes)
        return call(*pieces, number=np.int64(number), places=np.array(places, np.int64).reshape(-1))

    def attach(self, number: int, buffers: SharedBuffers | None) -> None:
        """From now on the sums of a collective go through these buffers; None: through Python."""
        if self._attach is not None:
            self._attach(number, None if buffers is None else ctypes.byref(buffers))

    @cached_property
    def _name(self) -> str | None:
        made = make_call("xla_sum.cpp", "unison_sum")
        if made is None:
            return None
        name, library = made

        def summed(number: int, address: int, count: int) -> None:
            vector = (ctypes.c_float * count).from_address(address)
            self._in_python(torch.frombuffer(vector, dtype=torch.float32), number)

        self._summed = _FROM_C(summed)  # kept: the library calls it as long as the process lives
        library.unison_set_python(self._summed)
        library.unison_attach.argtypes = (ctypes.c_int64, ctypes.POINTER(SharedBuffers))
        library.unison_attach.restype = None
        self._attach = library.unison_attach
        return name
