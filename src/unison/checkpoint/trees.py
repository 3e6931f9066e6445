"""Trees to JSON and named arrays, and back, with every Python type as it was.

JSON knows neither tuples, nor keys that are not strings, nor NaN. Such values are written as an
object with a single key that begins with `#`:

    {"#array": name}   a numpy array      {"#tensor": name}  a torch tensor    {"#scalar": name}  a numpy scalar
    {"#tuple": [...]}  a tuple            {"#dict": [[k, v]]}  a dict whose keys are not all plain strings
    {"#float": "nan"}  a float that is not finite
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from unison.errors import CheckpointError
from unison.types import Tree

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Array: TypeAlias = npt.NDArray[Any] | torch.Tensor

_RESERVED_NAMES = frozenset({"", "__metadata__"})
_MAX_INT_BITS = 10_000  # Python itself refuses to print integers of more than 4,300 digits


def encode_tree(tree: Tree, where: str) -> tuple[JSON, dict[str, Array]]:
    """Split a tree into JSON and named arrays; an array is named by its path, such as `state/0/exp_avg`.

    Leaves may be numpy arrays and scalars, torch tensors, numbers, strings, bools and None; mappings,
    lists and tuples hold them. Any mapping comes back as a dict.

    Raises:
        CheckpointError: for a leaf or key of another type; names `where` and its path.
    """
    encoder = _Encoder(where)
    try:
        return encoder.encode(tree, ()), encoder.arrays
    except RecursionError as error:
        raise CheckpointError(f"{where}: nested too deeply to be saved, or contains itself.") from error


def encode_plain(tree: Tree, where: str) -> JSON:
    """Like `encode_tree` for a tree that may hold no arrays."""
    structure, arrays = encode_tree(tree, where)
    if arrays:
        raise CheckpointError(f"{where}: '{next(iter(arrays))}' is an array; arrays belong into a part.")
    return structure


def decode_tree(structure: JSON, arrays: Mapping[str, Array], *, tensors: bool = False) -> Tree:
    """Put together what `encode_tree` took apart.

    Arrays come back as they are in `arrays`; with `tensors=True` those that were torch tensors come
    back as torch tensors.

    Raises:
        ValueError: the structure is malformed or names an array that is absent.
    """
    try:
        return _Decoder(arrays, tensors).decode(structure)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its tree is malformed ({type(error).__name__}: {error})") from error


class _Encoder:
    def __init__(self, where: str) -> None:
        self.where = where
        self.arrays: dict[str, Array] = {}

    def encode(self, value: object, path: tuple[object, ...]) -> JSON:
        kind = type(value)
        if value is None or kind in (bool, str):
            return cast("bool | str | None", value)
        if kind is int:
            return self._integer(cast("int", value), path)
        if kind is float:
            number = cast("float", value)
            return number if math.isfinite(number) else {"#float": repr(number)}
        if kind is list:
            return self._items(cast("list[object]", value), path)
        if kind is tuple:
            return {"#tuple": self._items(cast("tuple[object, ...]", value), path)}
        if isinstance(value, Mapping):
            return self._mapping(cast("Mapping[object, object]", value), path)
        return self._array(value, path)

    def _integer(self, value: int, path: tuple[object, ...]) -> int:
        if value.bit_length() > _MAX_INT_BITS:
            raise self._refusal(path, f"an integer of {value.bit_length()} bits is too long")
        return value

    def _items(self, items: list[object] | tuple[object, ...], path: tuple[object, ...]) -> list[JSON]:
        return [self.encode(item, (*path, index)) for index, item in enumerate(items)]

    def _mapping(self, mapping: Mapping[object, object], path: tuple[object, ...]) -> JSON:
        pairs = [(self._key(key, path), self.encode(value, (*path, key))) for key, value in mapping.items()]
        if all(isinstance(key, str) and not key.startswith("#") for key, _ in pairs):
            return dict(cast("list[tuple[str, JSON]]", pairs))
        return {"#dict": [[key, value] for key, value in pairs]}

    def _key(self, key: object, path: tuple[object, ...]) -> JSON:
        if key is None or type(key) in (bool, int, float, str):
            return self.encode(key, path)
        if type(key) is tuple:
            return {"#tuple": [self._key(part, path) for part in cast("tuple[object, ...]", key)]}
        raise self._refusal(path, f"the key {key!r} is of type {type(key).__name__}; use a string or a number")

    def _array(self, value: object, path: tuple[object, ...]) -> JSON:
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized or value.is_meta:
                raise self._refusal(path, "sparse, quantized and meta tensors cannot be saved; make it dense")
            return {"#tensor": self._name(value, path)}
        if isinstance(value, np.generic | np.ndarray):
            array = cast("npt.NDArray[Any]", np.asarray(value))  # pyright: ignore[reportUnknownArgumentType] (any dtype)
            widest = 16 if array.dtype.kind == "c" else 8  # bytes; long doubles differ from machine to machine
            if isinstance(value, np.ma.MaskedArray) or array.dtype.kind not in "biufc" or array.dtype.itemsize > widest:
                raise self._refusal(path, f"numpy values of dtype {array.dtype} cannot be saved; use numbers or bools")
            return {"#scalar" if isinstance(value, np.generic) else "#array": self._name(array, path)}
        raise self._refusal(
            path, f"the type {type(value).__module__}.{type(value).__qualname__} cannot be saved without pickle"
        )

    def _name(self, array: Array, path: tuple[object, ...]) -> str:
        # Lone surrogates are legal in a Python string and illegal in the header of a safetensors file.
        base = "/".join(str(part) for part in path).encode("utf-8", "backslashreplace").decode()
        name, count = base, 1
        while name in self.arrays or name in _RESERVED_NAMES:
            count += 1
            name = f"{base}#{count}"
        self.arrays[name] = array
        return name

    def _refusal(self, path: tuple[object, ...], reason: str) -> CheckpointError:
        at = "/".join(str(part) for part in path) or "the root"
        return CheckpointError(f"{self.where}: at '{at}': {reason}.")


class _Decoder:
    def __init__(self, arrays: Mapping[str, Array], tensors: bool) -> None:
        self._arrays = arrays
        self._tensors = tensors
        self._by_tag: dict[str, Callable[[Any], Tree]] = {
            "#array": lambda name: arrays[name],
            "#tensor": self._tensor,
            "#scalar": self._scalar,
            "#tuple": lambda items: tuple(self.decode(item) for item in items),
            "#dict": lambda pairs: {self.decode(key): self.decode(value) for key, value in pairs},
            "#float": float,
        }

    def decode(self, node: JSON) -> Tree:
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if any(key.startswith("#") for key in node):
            ((tag, value),) = node.items()
            return self._by_tag[tag](value)
        return {key: self.decode(value) for key, value in node.items()}

    def _tensor(self, name: str) -> Array:
        array = self._arrays[name]
        return torch.from_numpy(array) if self._tensors and isinstance(array, np.ndarray) else array  # pyright: ignore[reportUnknownMemberType]

    def _scalar(self, name: str) -> object:
        array = self._arrays[name]
        return array[()] if isinstance(array, np.ndarray) else array
