"""From a batch of any accepted kind to checked tensors on a device.

Nothing here changes the caller's data, and everything that can be wrong with a batch is found
here, before a parameter moves.
"""

from collections.abc import Collection, Mapping, Sequence
from numbers import Number
from typing import Any, TypeAlias, cast

import gymnasium as gym
import numpy as np
import torch

from unison.data.batch import MultiAgentBatch
from unison.data.columns import Columns
from unison.data.ranges import filled, find_outside
from unison.errors import BatchError
from unison.suggest import nearest
from unison.types import DEFAULT_MODULE_ID, ModuleID, Tree, tree_items, tree_leaves, tree_map

TensorColumns: TypeAlias = dict[str, Tree]
"""The columns of one module: each a tensor (or a tree of tensors) with rows first."""
_Leaf: TypeAlias = torch.Tensor | np.ndarray[Any, Any] | Sequence[Any] | float
_Node: TypeAlias = torch.Tensor | dict[Any, Any] | tuple[Any, ...]


def split_by_module(batch: Any, known: Collection[ModuleID]) -> dict[ModuleID, Mapping[str, Any]]:
    """The columns of each module in a MultiAgentBatch, a SampleBatch or a mapping.

    A SampleBatch or a mapping of columns belongs to the only module. A mapping whose values are
    mappings and whose keys are module ids is taken as one batch per module.

    Raises:
        BatchError: for an unknown module id, an unknown kind of batch, or columns that could
            belong to several modules.
    """
    if isinstance(batch, MultiAgentBatch):
        parts: Mapping[str, Any] = batch.policy_batches
    elif isinstance(batch, Mapping):
        columns = cast(Mapping[str, Any], batch)
        if columns and all(isinstance(v, Mapping) and k != Columns.OBS for k, v in columns.items()):
            parts = columns
        elif len(known) == 1:
            parts = {next(iter(known)): columns}
        elif DEFAULT_MODULE_ID in known:
            parts = {DEFAULT_MODULE_ID: columns}
        else:
            raise BatchError(
                f"The batch has columns {sorted(columns)} but names no module, and there are {len(known)}: "
                f"{sorted(known)}. Pass a MultiAgentBatch {{module_id: columns}}."
            )
    else:
        raise BatchError(
            f"A batch is a MultiAgentBatch, a SampleBatch or a mapping of columns, not {type(batch).__name__}."
        )
    for module_id in parts:
        if module_id not in known:
            raise BatchError(
                f"The batch has rows for module '{module_id}', which is unknown. Known modules: {sorted(known)}. "
                "Add it with add_module(), or correct the policy_mapping_fn."
            )
    return dict(parts)


class TensorConverter:
    """Turns the columns of one module into checked tensors on one device.

    Args:
        module_id: for the messages.
        observation_space: what each row of `obs` must fit (None: anything).
        action_space: what each row of `actions` must fit (None: anything).
        required: columns that must be there.
        stateful: whether rows are sequences ([B, T, ...]).
        initial_state: of the module, without the dimension B: what each row of `state_in` must fit.
        device: where the tensors go.
        dtype: the floating type that floating columns are given.
    """

    def __init__(
        self,
        module_id: ModuleID,
        *,
        observation_space: gym.Space[Any] | None,
        action_space: gym.Space[Any] | None,
        required: tuple[str, ...],
        stateful: bool,
        initial_state: Tree,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._module_id = module_id
        self._spaces = {
            Columns.OBS: observation_space,
            Columns.NEXT_OBS: observation_space,
            Columns.ACTIONS: action_space,
        }
        self._required = required
        self._lead = 2 if stateful else 1
        self._initial_state = initial_state
        self._device = device
        self._dtype = dtype

    def __call__(self, columns: Mapping[str, Any]) -> TensorColumns:
        """Check and convert; columns of objects or strings (infos, ids) are left out, but no numbers as objects.

        Raises:
            BatchError: naming the module, the column, what is wrong and the fix.
        """
        missing = [name for name in self._required if name not in columns]
        if missing:
            meant = {name: close for name in columns if (close := nearest(name, missing)) is not None}
            hint = "".join(f"Did you mean '{close}' by '{name}'? " for name, close in meant.items())
            raise BatchError(
                f"Module '{self._module_id}': the batch lacks the columns {missing}; it has {sorted(columns)}. {hint}"
                "Add them; from episodes, the Learner's `connectors` compute them (PPO's: the advantages)."
            )
        tensors: TensorColumns = {}
        for name, column in columns.items():
            if hasattr(column, "dtype"):  # as nearly all have: no tree to walk
                if _is_numeric(column):
                    tensors[name] = self._tensor(name, column)
                elif _holds_numbers(column):
                    raise self._error(name, f"holds numbers with dtype {column.dtype}", "give them as float32 or int64")
            elif all(map(_is_numeric, tree_leaves(column))):
                tensors[name] = tree_map(lambda leaf, n=name: self._tensor(n, leaf), column)
        for name in self._required:
            if name not in tensors:
                raise self._error(name, "holds objects or strings", "give numbers")
        self._check_lengths(tensors)
        self._check_state(tensors)
        mask = self._mask(tensors)
        for name, space in self._spaces.items():
            if name not in tensors:
                continue
            if space is not None:
                self._check_space(name, space, tensors[name])
                outside = find_outside(name, space, columns[name], mask)
                if outside is not None:
                    found = f"holds {outside.number} in row {outside.row}"
                    raise self._error(outside.path, found, f"give numbers of the space {outside.space}")
            if mask is not None:
                tensors[name] = filled(space, tensors[name], mask)
        return tensors

    def _mask(self, tensors: TensorColumns) -> torch.Tensor | None:
        """Which rows count, [B] or [B, T]; None if all do, or if the losses will say what is wrong with the mask."""
        mask = tensors.get(Columns.LOSS_MASK)
        if not isinstance(mask, torch.Tensor) or mask.dtype is not torch.bool:
            return None
        lead = tree_leaves(tensors.get(Columns.OBS, mask))[0].shape[: self._lead]
        return mask if mask.shape == lead else None

    def _tensor(self, name: str, leaf: _Leaf) -> torch.Tensor:
        if isinstance(leaf, np.ndarray):
            is_fit = leaf.flags.writeable and leaf.dtype.isnative and min(leaf.strides, default=0) >= 0
            own = leaf if is_fit else leaf.astype(leaf.dtype.newbyteorder("="), order="C")  # torch takes no other
            try:
                tensor = torch.from_numpy(own)  # pyright: ignore[reportUnknownMemberType]  # torch leaves it untyped
            except TypeError as error:
                raise self._error(name, f"has dtype {leaf.dtype}", "give one of torch, such as float32") from error
        else:
            tensor = torch.as_tensor(leaf).detach()
            if tensor.layout is not torch.strided or tensor.is_nested:
                kind = "is a nested tensor" if tensor.is_nested else f"has layout {tensor.layout}"
                raise self._error(name, kind, "give a dense tensor of one shape, as by to_dense()")
        if tensor.ndim == 0:
            raise self._error(name, "is a single number", "give one entry per row")
        if tensor.is_complex():
            raise self._error(name, f"has dtype {tensor.dtype}", "give real numbers")
        if tensor.is_floating_point() and tensor.dtype is not self._dtype:
            return tensor.to(device=self._device, dtype=self._dtype)
        return tensor if tensor.device == self._device else tensor.to(self._device)

    def _check_lengths(self, tensors: TensorColumns) -> None:
        rows: int | None = None
        reference = ""
        for name, column in tensors.items():
            for path, leaf in tree_items(column, name):
                if rows is None:
                    rows, reference = leaf.shape[0], path
                elif leaf.shape[0] != rows:
                    raise BatchError(
                        f"Module '{self._module_id}': column '{path}' has {leaf.shape[0]} rows but '{reference}' has "
                        f"{rows}. All columns of a batch have one entry per row."
                    )
        if not rows:
            raise BatchError(f"Module '{self._module_id}': the batch is empty. Leave a module without rows out.")

    def _check_state(self, tensors: TensorColumns) -> None:
        if Columns.STATE_IN not in tensors or not self._initial_state:
            return
        found = {path: tuple(leaf.shape[1:]) for path, leaf in tree_items(tensors[Columns.STATE_IN])}
        wanted = {path: tuple(leaf.shape) for path, leaf in tree_items(self._initial_state)}
        if found != wanted:
            fix = f"give {wanted}, as the module's get_initial_state() does"
            raise self._error(Columns.STATE_IN, f"holds {found} in each row", fix)

    def _check_space(self, name: str, space: gym.Space[Any], column: _Node) -> None:
        if isinstance(space, gym.spaces.Dict):
            named: dict[str, gym.Space[Any]] = cast(Any, space).spaces  # Its stub leaves the type open.
            if not isinstance(column, dict) or set(named) - set(column):
                has = sorted(column) if isinstance(column, dict) else "one array"
                raise self._error(name, f"has {has}", f"give a dict with the keys {sorted(named)}")
            for key, inner in named.items():
                self._check_space(f"{name}/{key}" if name else key, inner, column[key])
        elif isinstance(space, gym.spaces.Tuple):
            parts: tuple[gym.Space[Any], ...] = cast(Any, space).spaces
            if not isinstance(column, tuple) or len(column) != len(parts):
                raise self._error(name, "is no tuple of the right length", f"give a tuple of {len(parts)} arrays")
            for index, inner in enumerate(parts):
                self._check_space(f"{name}/{index}", inner, column[index])
        elif isinstance(column, dict | tuple):
            raise self._error(name, "is nested", f"give one array for the space {space}")
        else:
            lead = self._lead
            shape = tuple(space.shape or ())
            if tuple(column.shape[lead:]) != shape or column.ndim != lead + len(shape):
                letters = "B, T" if lead == 2 else "B"
                wanted = f"[{', '.join([letters, *map(str, shape)])}]"
                raise self._error(name, f"has shape {tuple(column.shape)}", f"give {wanted}, as the space {space} asks")
            if not isinstance(space, gym.spaces.Box) and column.is_floating_point():
                raise self._error(name, f"has dtype {column.dtype}", f"give integers, as the space {space} asks")

    def _error(self, column: str, fault: str, fix: str) -> BatchError:
        return BatchError(f"Module '{self._module_id}': column '{column}' {fault}; {fix}.")


def _is_numeric(leaf: _Leaf) -> bool:
    """Whether it holds numbers or booleans."""
    return isinstance(leaf, torch.Tensor) or np.asarray(leaf).dtype.kind in "biuf"


def _holds_numbers(column: np.ndarray[Any, Any]) -> bool:
    """Whether it is an array of objects that begins with a number."""
    return column.dtype == object and column.size > 0 and isinstance(column.flat[0], Number)
