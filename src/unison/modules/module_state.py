"""The state of a module: named arrays out, and back in wholly or not at all."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from unison.errors import StateError

if TYPE_CHECKING:
    from unison.modules.rl_module import RLModule

Array = np.ndarray[Any, np.dtype[Any]]
ModuleState = dict[str, Array]
Tensors = dict[str, Tensor]
"""The tensors of a module by name; a shared tensor appears under each of its names."""
Pairs = list[tuple[str, Tensor, Tensor]]
"""Name, tensor of the module, and the value it shall have."""


def tensors_by_name(module: nn.Module) -> Tensors:
    """Every name of every parameter and persistent buffer."""
    tensors: Tensors = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise StateError(
                f"{type(module).__name__} holds extra state '{name}', a {type(value).__name__} and no tensor. "
                f"Keep it in a buffer, or override get_state and set_state."
            )
        tensors[name] = value
    return tensors


def first_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Each tensor once, under the first of its names."""
    seen: set[int] = set()
    first: Tensors = {}
    for name, tensor in tensors.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            first[name] = tensor
    return first


def acting_part(module: "RLModule", state: Mapping[str, Any]) -> dict[str, Any]:
    """A state without what acting does not need; a name that the module lacks stays, to be found."""
    tensors = tensors_by_name(module)
    return {name: v for name, v in state.items() if name not in tensors or module.is_inference_parameter(name)}


def to_numpy(tensor: Tensor) -> Array:
    """A copy of a tensor as an array; bfloat16, which numpy lacks, becomes float32."""
    tensor = tensor.detach()
    tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return np.array(tensor.cpu().numpy())


def check_state(
    owner: str,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    is_optional: Callable[[str], bool] = lambda _: False,
) -> Pairs:
    """Pair the tensors of a module with their new values, and change nothing.

    Args:
        owner: what error messages call the module.
        tensors: its tensors under all of their names.
        state: arrays by name. A shared tensor is expected under one of its names; under several, with equal values.
        is_optional: whether a tensor of this name may be absent; then all such tensors must be.

    Raises:
        StateError: names are missing or unexpected, or a shape or kind of number differs.
    """
    unexpected = [name for name in state if name not in tensors]
    present = {id(tensors[name]) for name in state if name in tensors}
    missing = [name for name, tensor in first_names(tensors).items() if id(tensor) not in present]
    if missing and all(map(is_optional, missing)):
        optional = {id(tensor) for name, tensor in tensors.items() if is_optional(name)}
        missing = missing if optional & present else []
    if missing or unexpected:
        lacks = [f"lacks {_some(missing)}"] if missing else []
        has = [f"has unexpected {_some(unexpected)}"] if unexpected else []
        raise StateError(
            f"{owner}: the state {' and '.join(lacks + has)}. Nothing was changed. "
            f"Build the module with the class, spaces and model_config that the state came from."
        )
    pairs = [(name, tensors[name], _value(owner, name, tensors[name], given)) for name, given in state.items()]
    check_agreement(owner, pairs)
    return pairs


def check_agreement(owner: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> None:
    """Raise StateError if two names of one shared tensor come with different values."""
    chosen: dict[int, tuple[str, Tensor]] = {}
    for name, tensor, value in pairs:
        twin, other = chosen.setdefault(id(tensor), (name, value))
        if other is not value and not torch.equal(torch.nan_to_num(other), torch.nan_to_num(value)):
            raise StateError(
                f"{owner}: '{twin}' and '{name}' are one shared tensor, but the state holds two values for it. "
                f"Nothing was changed. Take both from one save."
            )


def apply(pairs: Pairs) -> None:
    """Copy the values into the tensors, which stay the same objects."""
    with torch.no_grad():
        for _, tensor, value in pairs:
            tensor.copy_(value)


def _value(owner: str, name: str, tensor: Tensor, given: Any) -> Tensor:
    """A value as a tensor, if it fits."""
    if not isinstance(given, np.ndarray | np.generic | Tensor):
        raise StateError(f"{owner}: '{name}' must be an array, not {type(given).__name__}. Nothing was changed.")
    value = given.detach() if isinstance(given, Tensor) else torch.as_tensor(cast("Array", given))
    if value.shape != tensor.shape:
        raise StateError(
            f"{owner}: '{name}' has shape {tuple(tensor.shape)}, but the state holds {tuple(value.shape)}. Nothing was "
            f"changed. Build the module with the spaces and model_config that the state came from."
        )
    if value.is_floating_point() != tensor.is_floating_point():
        raise StateError(
            f"{owner}: '{name}' is of {tensor.dtype}, but the state holds {value.dtype}. Nothing was changed."
        )
    return value


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
