"""Minibatches of one pass: gathered once per column, handed out as views."""

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from unison.data.tensors import TensorColumns
from unison.types import Tree, tree_leaves, tree_map

_Cut: TypeAlias = list[Tensor] | dict[Any, Any] | tuple[Any, ...]
"""A column cut into minibatches: the list of its parts, or a tree of such lists."""


class PassColumns:
    """The columns of one module in the order of one pass, cut into minibatches.

    A column is gathered when a hook first asks for it, in one indexing for the whole pass; columns
    that nobody reads cost nothing.

    Args:
        columns: tensors with rows first.
        ranges: the half-open range of the pass's order that each minibatch takes.
        order: the order of the rows ([rows], int64); None for the given order.
    """

    def __init__(self, columns: TensorColumns, ranges: Sequence[tuple[int, int]], order: Tensor | None) -> None:
        self.columns = columns
        self._device = tree_leaves(next(iter(columns.values())))[0].device
        self._sizes = [stop - start for start, stop in ranges]
        self._index = self._rows(ranges, order)
        self._cut: dict[str, _Cut] = {}

    def part(self, name: str, index: int) -> Tree:
        """Column `name` of minibatch `index`."""
        cut: _Cut | None = self._cut.get(name)
        if cut is None:
            cut = self._cut[name] = tree_map(self._gather, self.columns[name])
        return cut[index] if isinstance(cut, list) else tree_map(lambda parts: parts[index], cut)

    def _gather(self, column: Tensor) -> list[Tensor]:
        ordered = column if self._index is None else column.index_select(0, self._index)
        return list(ordered.split_with_sizes(self._sizes))

    def _rows(self, ranges: Sequence[tuple[int, int]], order: Tensor | None) -> Tensor | None:
        total = tree_leaves(next(iter(self.columns.values())))[0].shape[0]
        whole = bool(ranges) and ranges[0][0] == 0 and sum(self._sizes) == total
        if order is None:
            if whole:
                return None
            order = torch.arange(total)
        if not whole:
            order = torch.cat([order[start:stop] for start, stop in ranges]) if ranges else order[:0]
        return order.to(self._device, non_blocking=True)


class Minibatch(MutableMapping[str, Any]):
    """The columns of one module in one minibatch, by name; each a tensor or a tree of tensors.

    Args:
        source: the pass that it is part of.
        index: its place among the pass's minibatches.
        extra: columns besides those of the batch.
    """

    __slots__ = ("_index", "_own", "_source")

    def __init__(self, source: PassColumns, index: int, extra: dict[str, Any] | None = None) -> None:
        self._source = source
        self._index = index
        self._own: dict[str, Any] = extra or {}

    def __getitem__(self, name: str) -> Any:
        found = self._own.get(name)
        if found is None:
            found = self._own[name] = self._source.part(name, self._index)
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"Column '{name}' can't be taken out of a minibatch; leave it unread.")

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._source.columns

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._source.columns, *self._own]))

    def __len__(self) -> int:
        return len(dict.fromkeys([*self._source.columns, *self._own]))
