"""Arrays to and from the bytes of a `.safetensors` file.

Layout (the safetensors format): 8 bytes with the length of the header, little-endian; the header,
JSON padded with spaces to a multiple of 8; then the data of all arrays, without gaps, in C order and
little-endian. The header maps a name to `{"dtype", "shape", "data_offsets"}`, and `__metadata__` to
strings. It is written here and not by the package of that name because the digest is to be computed
while the bytes go to the disk, without another pass over them. Any safetensors reader reads the file.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from unison.checkpoint.trees import Array

_CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}
_NUMPY_NAMES = frozenset(_CODES) - {"bfloat16", "float8_e4m3fn", "float8_e5m2"} | {"complex64", "complex128"}
_TORCH_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
_OTHER_DTYPES = "dtypes"
"""The metadata key that names the dtypes the format has no code for; those arrays are stored as bytes."""
_ALIGNMENT = 8
MAX_HEADER_BYTES = 100_000_000  # other readers refuse longer ones


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array lies in the data, and what it is: `dtype` is numpy's or torch's name for it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def build_header(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The first bytes of a file with these arrays, and the order in which their data must follow."""
    # The widest first, so that every array is aligned in a memory-mapped file.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    entries: dict[str, object] = {}
    others: dict[str, str] = {}
    start = 0
    for name in order:
        array = arrays[name]
        dtype = str(array.dtype).removeprefix("torch.") if isinstance(array, torch.Tensor) else array.dtype.name
        nbytes = math.prod(array.shape) * array.dtype.itemsize
        code, shape = _CODES.get(dtype, "U8"), list(array.shape)
        if dtype not in _CODES:
            others[name] = dtype
            shape.append(array.dtype.itemsize)
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": [start, start + nbytes]}
        start += nbytes
    extra = {_OTHER_DTYPES: json.dumps(others)} if others else {}
    text = json.dumps({"__metadata__": {**metadata, **extra}, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, order


def parse_header(text: bytes, data_bytes: int) -> tuple[list[Slot], dict[str, str]]:
    """The arrays of a file in the order of their data, and its metadata.

    Raises:
        ValueError: the header is not that of a safetensors file with `data_bytes` bytes of data.
    """
    try:
        header = json.loads(text)
        metadata = cast("dict[str, str]", header.pop("__metadata__", {}))
        others = cast("dict[str, str]", json.loads(metadata.get(_OTHER_DTYPES, "{}")))
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        slots: list[Slot] = []
        end = 0
        for name, entry in entries:
            slot = _slot(name, entry, others.get(name))
            if entry["data_offsets"] != [end, end + slot.nbytes]:
                raise ValueError(f"the offsets of '{name}' leave a gap or do not fit its shape")
            end += slot.nbytes
            slots.append(slot)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no valid header ({type(error).__name__}: {error})") from error
    if end != data_bytes:
        raise ValueError(f"the header describes {end} bytes of data and {data_bytes} follow")
    return slots, metadata


def _slot(name: str, entry: Mapping[str, Any], other_dtype: str | None) -> Slot:
    shape = tuple(entry["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"'{name}' has the shape {shape}")
    code_dtype = _NAMES[entry["dtype"]]
    nbytes = math.prod(shape) * _TORCH_DTYPES[code_dtype].itemsize
    return Slot(name, other_dtype or code_dtype, shape[:-1] if other_dtype else shape, nbytes)


def host_bytes(array: Array) -> memoryview:
    """The bytes of an array, C order, little-endian.

    What already lies so in host memory is not copied; anything else is copied once.
    """
    if isinstance(array, torch.Tensor):
        tensor = array.detach().resolve_conj().resolve_neg().contiguous().cpu()
        return tensor.reshape(-1).view(torch.uint8).numpy().data
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def from_bytes(data: "np.ndarray[Any, np.dtype[np.uint8]]", slot: Slot) -> Array:
    """The array in these bytes: numpy's where numpy has the dtype, else torch's. Copies nothing."""
    if slot.dtype in _NUMPY_NAMES:
        dtype = np.dtype(slot.dtype)
        return data.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(slot.shape)
    if not len(data):  # torch cannot view nothing as something else
        return torch.empty(slot.shape, dtype=_TORCH_DTYPES[slot.dtype])
    tensor = torch.from_numpy(data)  # pyright: ignore[reportUnknownMemberType] (its stub is untyped)
    return tensor.view(_TORCH_DTYPES[slot.dtype]).reshape(slot.shape)
