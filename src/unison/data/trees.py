"""Trees whose leaves are arrays with rows first: count, slice, join and stack them."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeGuard, cast

import numpy as np
import torch

from unison.errors import BatchError
from unison.types import Tree, tree_items, tree_map


def is_array(value: object) -> TypeGuard[np.ndarray[Any, Any] | torch.Tensor]:
    """Whether `value` is a NumPy array or a torch tensor."""
    return isinstance(value, np.ndarray | torch.Tensor)


def as_column(name: str, value: Any) -> Tree:
    """Make a column of `value`: arrays stay as they are, lists and numbers become NumPy arrays.

    Raises:
        BatchError: a leaf is no array of numbers or strings, or has no rows dimension.
    """
    if isinstance(value, dict):
        children = cast(dict[Any, Any], value)
        return {key: as_column(f"{name}/{key}", child) for key, child in children.items()}
    if isinstance(value, tuple):
        parts = cast(tuple[Any, ...], value)
        return tuple(as_column(f"{name}/{index}", child) for index, child in enumerate(parts))
    if is_array(value):
        array = value
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise BatchError(f"Column '{name}' is a ragged list ({error}). Give rows of one shape.") from error
        if array.dtype == object:
            raise BatchError(
                f"Column '{name}' holds {type(value).__name__}, not an array. "
                "Give a NumPy array, a torch tensor, a list of numbers, or a dict or tuple of these."
            )
    if array.ndim == 0:
        raise BatchError(f"Column '{name}' is a single value. Columns have rows first: give shape [B, ...].")
    return array


def count_rows(name: str, column: Tree) -> int:
    """The rows that all leaves of `column` share.

    Raises:
        BatchError: the column has no leaves, or leaves of unequal lengths.
    """
    lengths = {path: len(leaf) for path, leaf in tree_items(column, name)}
    if not lengths:
        raise BatchError(f"Column '{name}' is an empty {type(column).__name__}. Leave it out, or give it arrays.")
    counts = set(lengths.values())
    if len(counts) > 1:
        raise BatchError(f"The parts of column '{name}' have unequal lengths: {lengths}. Each needs one entry a row.")
    return counts.pop()


def slice_rows(column: Tree, start: int | None, stop: int | None) -> Tree:
    """Rows `start` to `stop` of every leaf, as views."""
    return tree_map(itemgetter(slice(start, stop)), column)


def take_rows(column: Tree, index: torch.Tensor) -> Tree:
    """Rows `index` of every leaf, a tensor; the index follows to the leaf's device."""

    def take(leaf: torch.Tensor) -> torch.Tensor:
        return leaf[index.to(leaf.device)]

    return tree_map(take, column)


def concat_rows(columns: Sequence[Tree]) -> Tree:
    """Join columns of one structure along their rows."""

    def concat(*leaves: Any) -> Any:
        if isinstance(leaves[0], torch.Tensor):
            return torch.cat([torch.as_tensor(leaf) for leaf in leaves])
        return np.concatenate(leaves)

    return columns[0] if len(columns) == 1 else tree_map(concat, columns[0], *columns[1:])


def stack_rows(rows: Sequence[Tree]) -> Tree:
    """Stack trees of one structure, one per row, to one tree with rows first."""
    return tree_map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), rows[0], *rows[1:])
