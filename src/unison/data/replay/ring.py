"""Rows in memory that is claimed once: the newest overwrite the oldest."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unison.data.trees import slice_rows
from unison.errors import BatchError
from unison.types import Tree, tree_items, tree_leaves, tree_map


@final
class Ring:
    """The last `capacity` rows that were written, as columns.

    Shapes and types are those of the first rows; all memory is claimed then. Numbers of 64 bits are kept in 32.

    Args:
        capacity: rows.
        device: where the columns lie.
        directory: where files hold the columns instead of memory, in a folder that vanishes with the ring.
    """

    def __init__(
        self, capacity: int, *, device: torch.device | None = None, directory: str | Path | None = None
    ) -> None:
        self.capacity = capacity
        self.written = 0
        """Rows ever written; row number `r` lies at `r % capacity`."""
        self.columns: dict[str, Tree] = {}
        """Tensors [capacity, ...]; rows that were never written hold anything."""
        self._targets: dict[str, list[Any]] = {}
        """The leaves of each column, as they are written."""
        self._device = device or torch.device("cpu")
        self._directory = None if directory is None else Path(directory)

    @property
    def size(self) -> int:
        """Rows that are held."""
        return min(self.written, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, in memory or in files."""
        return sum(t.numel() * t.element_size() for column in self.columns.values() for t in tree_leaves(column))

    def write(self, columns: Mapping[str, Tree], rows: int) -> None:
        """Append rows; of more than `capacity` the last ones.

        Raises:
            BatchError: columns, shapes or types differ from those of the first rows.
        """
        if not self.columns:
            self._allocate(columns)
        pairs = self._matched(columns)
        skipped = max(0, rows - self.capacity)
        start = (self.written + skipped) % self.capacity
        first = min(rows - skipped, self.capacity - start)
        for array, values in pairs:
            values = values if isinstance(array, np.ndarray) else torch.as_tensor(values)
            array[start : start + first] = values[skipped : skipped + first]
            if skipped + first < rows:
                array[: rows - skipped - first] = values[skipped + first :]
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
        """Whether the rows of these numbers have not been overwritten."""
        return numbers >= self.written - self.capacity

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
            self.write(state["columns"], size)
        self.written = int(state["written"])

    def _matched(self, columns: Mapping[str, Tree]) -> list[tuple[Any, Any]]:
        """The leaves of all columns, each with what is to be written to it; all is checked before any is."""
        if columns.keys() != self._targets.keys():
            raise BatchError(
                f"The replay buffer holds the columns {sorted(self._targets)}, but these rows have {sorted(columns)}."
            )
        pairs: list[tuple[Any, Any]] = []
        for name, arrays in self._targets.items():
            for array, values in zip(arrays, tree_leaves(columns[name]), strict=True):
                if values.shape[1:] != array.shape[1:]:
                    raise BatchError(
                        f"Rows of the column '{name}' have the shape {list(values.shape[1:])}, but the replay buffer "
                        f"holds {list(array.shape[1:])}."
                    )
                pairs.append((array, values))
        return pairs

    def _allocate(self, columns: Mapping[str, Tree]) -> None:
        folder = None
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="replay-", dir=self._directory))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, column in columns.items():
            files = iter(range(len(list(tree_items(column)))))

            def space(leaf: Any, name: str = name, files: Any = files) -> Tensor:
                example = slice_rows(torch.as_tensor(leaf), 0, 0)
                shape, dtype = (self.capacity, *example.shape[1:]), _narrow(example.dtype)
                if folder is None:
                    return torch.empty(shape, dtype=dtype, device=self._device)
                kind = torch.empty(0, dtype=dtype).numpy().dtype
                path = folder / f"{name.replace('/', '_')}-{next(files)}"
                return torch.as_tensor(np.memmap(path, kind, mode="w+", shape=shape))

            self.columns[name] = tree_map(space, column)
            # Writing a row through NumPy costs a fraction of what it costs through torch.
            on_cpu = self._device.type == "cpu"
            leaves = tree_leaves(self.columns[name])
            self._targets[name] = [leaf.numpy() for leaf in leaves] if on_cpu else leaves


def _narrow(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype is torch.float64 else dtype
