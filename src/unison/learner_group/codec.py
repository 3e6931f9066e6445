"""Objects as payloads: a small pickled skeleton, and behind it the bytes of every array, unpickled and aligned.

Arrays are numpy arrays and CPU tensors, wherever they sit in the object. Decoding makes no copy: the arrays are
views of the payload's memory. Functions and classes of `__main__` (a script, a notebook) travel by value.
"""

# Because cloudpickle has no stubs:
# pyright: reportUnknownMemberType=false

import io
import math
import pickle
from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
import torch

from unison.learner_group.shared_memory import Segment

_ALIGNMENT = 64
_OF_NUMPY = (torch.float32, torch.float64, torch.int64)
"""The usual types that numpy knows too."""


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class Payload(NamedTuple):
    """An encoded object: the skeleton, then the blocks at their offsets."""

    skeleton: bytes
    blocks: list[tuple[int, memoryview]]
    size: int

    def join(self) -> bytes:
        """All of it as one string of bytes."""
        return b"".join(part for _, part in self._parts())

    def write(self, segment: Segment) -> None:
        """Copy all of it to a segment, which grows as needed."""
        for offset, part in self._parts(pad=False):
            segment.write(part, offset)

    def copy_to(self, memory: memoryview) -> None:
        """Copy all of it to the start of `memory`."""
        for offset, part in self._parts(pad=False):
            memory[offset : offset + len(part)] = part

    def _parts(self, *, pad: bool = True) -> Iterator[tuple[int, bytes | memoryview]]:
        yield 0, self.skeleton
        base, end = _aligned(len(self.skeleton)), len(self.skeleton)
        for offset, block in self.blocks:
            if pad:
                yield end, bytes(base + offset - end)
            yield base + offset, block
            end = base + offset + len(block)


def encode(value: object) -> Payload:
    """Take an object apart; the blocks refer to its arrays and copy nothing that is contiguous."""
    file = io.BytesIO()
    encoder = _Encoder(file)
    encoder.dump(value)
    skeleton = file.getvalue()
    size = _aligned(len(skeleton)) + encoder.end if encoder.blocks else len(skeleton)
    return Payload(skeleton, encoder.blocks, size)


def decode(memory: memoryview, skeleton: int) -> Any:
    """Put an object together; its arrays are views of `memory`, writable if that is."""
    return _Decoder(memory, skeleton).load()


def to_pickle(value: object) -> bytes:
    """A plain pickle, arrays and all; functions and classes of `__main__` by value."""
    return bytes(cloudpickle.dumps(value))


class _Encoder(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.blocks: list[tuple[int, memoryview]] = []
        self.end = 0

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and not obj.dtype.hasobject:
            return _array, (self._add(obj), obj.shape, _dtype_name(obj.dtype))
        if type(obj) is torch.Tensor and obj.layout is torch.strided and not obj.is_quantized and not obj.is_meta:
            flat = obj.detach().resolve_conj().resolve_neg().cpu().contiguous().view(-1)
            offset = self._add(flat.numpy() if flat.dtype in _OF_NUMPY else flat.view(torch.uint8).numpy())
            return _tensor, (offset, tuple(obj.shape), obj.dtype, obj.requires_grad)
        if isinstance(obj, type | FunctionType) and _is_ours(obj):
            return NotImplemented  # by its name, which the pickler finds out faster than cloudpickle
        return super().reducer_override(obj)  # pyright: ignore[reportUnknownVariableType]

    def _add(self, array: np.ndarray[Any, Any]) -> int:
        offset = _aligned(self.end)
        if array.nbytes:
            self.blocks.append((offset, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data))
            self.end = offset + array.nbytes
        return offset


def _is_ours(value: "type[Any] | FunctionType") -> bool:
    return value.__module__.startswith("unison.") and "." not in value.__qualname__


def _dtype_name(dtype: np.dtype[Any]) -> "str | np.dtype[Any]":
    return dtype.str if dtype.isbuiltin == 1 else dtype


class _Decoder(pickle.Unpickler):
    def __init__(self, memory: memoryview, skeleton: int) -> None:
        super().__init__(io.BytesIO(memory[:skeleton]))
        # No methods: an unpickler remembers them, and would keep itself and `memory` alive in a cycle.
        arrays = memory[_aligned(skeleton) :]
        self._makers = {"_array": partial(_array, arrays), "_tensor": partial(_tensor, arrays)}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == __name__:
            return self._makers[global_name]
        return super().find_class(module_name, global_name)


def _array(
    memory: memoryview, offset: int, shape: tuple[int, ...], dtype: "str | np.dtype[Any]"
) -> np.ndarray[Any, Any]:
    if 0 in shape:
        return np.empty(shape, dtype)
    return _bytes(memory, offset, math.prod(shape) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)


def _tensor(
    memory: memoryview, offset: int, shape: tuple[int, ...], dtype: torch.dtype, requires_grad: bool
) -> torch.Tensor:
    if 0 in shape:
        return torch.empty(shape, dtype=dtype, requires_grad=requires_grad)
    flat = torch.from_numpy(_bytes(memory, offset, math.prod(shape) * dtype.itemsize))
    return flat.view(dtype).view(shape).requires_grad_(requires_grad)


def _bytes(memory: memoryview, offset: int, size: int) -> np.ndarray[Any, Any]:
    """A view that keeps `memory` exported for as long as it lives; np.ndarray(buffer=...) would not."""
    return np.frombuffer(memory, np.uint8, size, offset)
