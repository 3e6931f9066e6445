"""Batches of rows: the columns of one module, and the batches of several."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unison.data.trees import as_column, concat_rows, count_rows, slice_rows
from unison.errors import BatchError
from unison.suggest import did_you_mean
from unison.types import ModuleID, Tree


class SampleBatch(Mapping[str, Tree]):
    """Columns of equal length, each an array (or a dict or tuple of arrays) with rows first.

    `len(batch)` and `batch.count` are the number of rows, not of columns.

    Raises:
        BatchError: no column, no row, a column that is no array, or columns of unequal lengths.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns: dict[str, Tree] = {name: as_column(name, value) for name, value in columns.items()}
        if not self._columns:
            raise BatchError("A SampleBatch needs at least one column, such as 'obs'.")
        lengths = {name: count_rows(name, column) for name, column in self._columns.items()}
        counts = set(lengths.values())
        if len(counts) > 1:
            raise BatchError(f"The columns have unequal lengths: {lengths}. Give every column one entry a row.")
        self._count = counts.pop()
        if self._count == 0:
            raise BatchError(f"The batch is empty: columns {sorted(lengths)} have 0 rows. Leave such batches out.")

    @property
    def count(self) -> int:
        """The number of rows."""
        return self._count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Tree:
        try:
            return self._columns[name]
        except KeyError:
            hint = did_you_mean(name, self._columns)
            raise KeyError(f"No column '{name}'; the batch holds {sorted(self._columns)}. {hint}") from None

    def __setitem__(self, name: str, value: Any) -> None:
        column = as_column(name, value)
        rows = count_rows(name, column)
        if rows != self._count:
            raise BatchError(f"Column '{name}' has {rows} rows; the batch has {self._count}.")
        self._columns[name] = column

    def __delitem__(self, name: str) -> None:
        del self._columns[name]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"SampleBatch({self._count} rows: {', '.join(self._columns)})"

    def slice(self, start: int, stop: int) -> "SampleBatch":
        """Rows `start` to `stop`, as views; an empty range raises `BatchError`."""
        return SampleBatch({name: slice_rows(column, start, stop) for name, column in self._columns.items()})

    @staticmethod
    def concat(batches: "Sequence[SampleBatch]") -> "SampleBatch":
        """Join batches along their rows.

        Raises:
            BatchError: no batch was given, or the batches hold different columns.
        """
        if not batches:
            raise BatchError("There is no batch to join.")
        names = list(batches[0].keys())
        for batch in batches:
            if set(batch.keys()) != set(names):
                raise BatchError(f"Batches to join hold different columns: {sorted(names)} and {sorted(batch.keys())}.")
        return SampleBatch({name: concat_rows([batch[name] for batch in batches]) for name in names})


class MultiAgentBatch:
    """The batches of several modules, and the environment steps that they came from.

    Args:
        policy_batches: `{module_id: SampleBatch or mapping of columns}`.
        env_steps: environment steps that filled them; with many agents fewer than the rows.

    Raises:
        BatchError: no module, or a batch that is not sound; names the module.
    """

    def __init__(self, policy_batches: Mapping[ModuleID, Mapping[str, Any]], env_steps: int) -> None:
        if not policy_batches:
            raise BatchError("A MultiAgentBatch needs the batch of at least one module.")
        if env_steps < 0:
            raise BatchError(f"env_steps is {env_steps}; it counts environment steps and can't be negative.")
        self.policy_batches: dict[ModuleID, SampleBatch] = {}
        for module_id, batch in policy_batches.items():
            try:
                self.policy_batches[module_id] = batch if isinstance(batch, SampleBatch) else SampleBatch(batch)
            except BatchError as error:
                raise BatchError(f"Module '{module_id}': {error}") from error
        self._env_steps = env_steps

    @property
    def count(self) -> int:
        """The number of environment steps."""
        return self._env_steps

    def env_steps(self) -> int:
        """The number of environment steps."""
        return self._env_steps

    def agent_steps(self) -> int:
        """The number of rows of all modules together."""
        return sum(batch.count for batch in self.policy_batches.values())

    def __len__(self) -> int:
        return self._env_steps

    def __repr__(self) -> str:
        rows = ", ".join(f"{module_id}: {batch.count}" for module_id, batch in self.policy_batches.items())
        return f"MultiAgentBatch({self._env_steps} env steps; rows {rows})"
