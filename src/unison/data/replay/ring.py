"""Rows in memory that is claimed once: the newest overwrite the oldest."""

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor

from unison.data.replay.files import in_files
from unison.errors import BatchError
from unison.types import Tree, tree_leaves, tree_map

Leaves = list[tuple[Any, Any]]
"""The leaves of all columns, each with the rows that are to be written to it."""


@final
class Ring:
    """The last `capacity` rows that were written, as columns.

    Shapes and types are those of the first rows; all memory is claimed then. Floats of 64 bits are kept in 32.

    Args:
        capacity: rows.
        device: where the columns lie.
        directory: where files hold the columns instead of memory; they have no name, and vanish with the ring.
    """

    def __init__(self, capacity: int, *, device: torch.device | None = None, directory: Path | None = None) -> None:
        self.capacity = capacity
        self.written = 0
        """Rows ever written; row number `r` lies at `r % capacity`."""
        self.columns: dict[str, Tree] = {}
        """Tensors [capacity, ...]; rows that were never written hold anything."""
        self._targets: dict[str, Tree] = {}
        """The columns, as they are written."""
        self._device = device or torch.device("cpu")
        self._directory = directory

    @property
    def size(self) -> int:
        """Rows that are held."""
        return min(self.written, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, in memory or in files."""
        return sum(t.numel() * t.element_size() for column in self.columns.values() for t in tree_leaves(column))

    def match(self, columns: Mapping[str, Tree], rows: int) -> Leaves:
        """Lay rows to the columns that are held, as `write` takes them; nothing is written.

        Raises:
            BatchError: columns, their parts or shapes differ from those of the first rows, or numbers are of a type
                that would not be kept as they are, floats among integers for one.
        """
        if not self.columns:
            self._allocate(columns)
        if columns.keys() != self._targets.keys():
            raise BatchError(
                f"The replay buffer holds the columns {sorted(self._targets)}, but these rows have {sorted(columns)}."
            )
        leaves: Leaves = []
        for name, target in self._targets.items():
            _match(name, target, columns[name], rows, leaves)
        return leaves

    def write(self, leaves: Leaves, rows: int) -> None:
        """Append rows that `match` has found to fit; of more than `capacity` the last ones."""
        skipped = max(0, rows - self.capacity)
        start = (self.written + skipped) % self.capacity
        first = min(rows - skipped, self.capacity - start)
        for target, values in leaves:
            if first == rows:
                target[start : start + rows] = values
                continue
            target[start : start + first] = values[skipped : skipped + first]
            target[: rows - skipped - first] = values[skipped + first :]
        self.written += rows

    def take(self, name: str, places: Tensor) -> Tree:
        """The rows at `places` (int64, any shape) of a column."""
        flat = places.reshape(-1)

        def gather(column: Tensor) -> Tensor:
            found = column.index_select(0, flat.to(column.device))
            return found if places.ndim == 1 else found.view(*places.shape, *column.shape[1:])

        return tree_map(gather, self.columns[name])

    def numbers_at(self, places: Tensor) -> Tensor:
        """The number of the row that lies at each place: it tells later whether the row is still there."""
        lap, position = divmod(self.written, self.capacity)
        return places + self.capacity * (lap - (places >= position).to(torch.int64))

    def still_held(self, numbers: Tensor) -> Tensor:
        """Whether the rows of these numbers are there: neither overwritten, nor of a ring before this one."""
        rows = numbers.numpy()  # Two comparisons and an "and" cost torch four times as much.
        return torch.as_tensor((rows >= self.written - self.size) & (rows < self.written))

    def get_state(self) -> dict[str, Any]:
        """The rows that are held, as they lie, and how many were ever written."""

        def held(column: Tensor) -> Any:
            return np.array(column[: self.size].cpu().numpy())

        columns = {name: tree_map(held, column) for name, column in self.columns.items()}
        return {"columns": columns, "written": self.written, "capacity": self.capacity}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state` of a ring of this capacity."""
        size = min(state["written"], self.capacity)
        self.columns, self._targets, self.written = {}, {}, 0
        if size:
            self.write(self.match(state["columns"], size), size)
        self.written = int(state["written"])

    def _allocate(self, columns: Mapping[str, Tree]) -> None:
        def form(leaf: Any) -> Tensor:
            example = torch.as_tensor(leaf)
            shape = (self.capacity, *example.shape[1:])
            return torch.empty(shape, dtype=_narrow(example.dtype), device="meta")

        def memory(form: Tensor) -> Tensor:
            return torch.empty_like(form, device=self._device)

        forms = tree_map(form, dict(columns))
        self.columns = tree_map(memory, forms) if self._directory is None else in_files(forms, self._directory)
        # Writing a row through NumPy costs a fraction of what it costs through torch.
        self._targets = tree_map(Tensor.numpy, self.columns) if self._device.type == "cpu" else self.columns


def _match(path: str, target: Any, values: Any, rows: int, leaves: Leaves) -> None:
    """Append each leaf of a column to `leaves`, with what is to be written to it, in whatever order dicts are."""
    if isinstance(target, (dict, tuple)) or isinstance(values, (dict, tuple)):
        parts = _parts(target)
        if parts != _parts(values):
            raise _misfit(path, "parts", list(_parts(values)), list(parts))
        for part in parts:
            _match(f"{path}/{part}", target[part], values[part], rows, leaves)
        return
    if values.shape[1:] != target.shape[1:]:
        raise _misfit(path, "shape", list(values.shape[1:]), list(target.shape[1:]))
    if len(values) != rows:
        raise BatchError(f"The column '{path}' has {len(values)} rows, but {rows} are to be written.")
    if values.dtype != target.dtype:
        if not _keeps(target.dtype, values.dtype):
            raise _misfit(path, "type", values.dtype, target.dtype)
        if isinstance(target, Tensor):
            values = torch.as_tensor(values)
        elif isinstance(values, Tensor):
            values = values.numpy(force=True)
    leaves.append((target, values))


def _misfit(path: str, what: str, given: object, held: object) -> BatchError:
    return BatchError(f"Rows of the column '{path}' have the {what} {given}, but the replay buffer holds {held}.")


def _parts(tree: Any) -> Collection[Any]:
    """The keys of a tree's root; none of a leaf's."""
    if isinstance(tree, dict):
        return cast("dict[str, Any]", tree).keys()
    return range(len(cast("tuple[Any, ...]", tree))) if isinstance(tree, tuple) else ()


@cache
def _keeps(held: Any, given: Any) -> bool:
    """Whether a column of one type can hold numbers of another: floats may lose digits, integers nothing."""
    to, by = (np.dtype(str(each).removeprefix("torch.")) for each in (held, given))
    return np.can_cast(by, to, "same_kind" if to.kind == "f" else "safe")


def _narrow(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype is torch.float64 else dtype
