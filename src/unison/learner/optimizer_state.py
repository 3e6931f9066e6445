"""The state of one optimizer as plain data, and back, checked before anything changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unison.errors import StateError
from unison.learner.optimizer_slot import OptimizerSlot


def get_slot_state(slot: OptimizerSlot) -> dict[str, Any]:
    """`{"class", "settings": [one dict per param group], "moments": {parameter: {name: array}}}`.

    Parameters go by their name within the module.
    """
    settings = [
        {name: _plain(value) for name, value in options.items() if name != "params"}
        for options in slot.optimizer.param_groups
    ]
    state: Any = slot.optimizer.state
    moments = {
        _local(slot, ref): {
            name: _to_numpy(value) for name, value in state[param].items() if isinstance(value, Tensor | int | float)
        }
        for ref, param in slot.refs.items()
        if param in state
    }
    return {"class": type(slot.optimizer).__name__, "settings": settings, "moments": moments}


def check_slot_state(slot: OptimizerSlot, state: Mapping[str, Any]) -> None:
    """Raise `StateError` if `state` doesn't fit the optimizer; names the parameter and both shapes."""
    where = f"Optimizer '{slot.name}' of module '{slot.module_id}'"
    missing = {"class", "settings", "moments"} - state.keys()
    if missing:
        raise StateError(f"{where}: the state lacks {sorted(missing)}.")
    own = type(slot.optimizer).__name__
    if state["class"] != own:
        raise StateError(f"{where} is {own}, but the state is of {state['class']}. Set training(optimizer=...) alike.")
    if len(state["settings"]) != len(slot.optimizer.param_groups):
        raise StateError(
            f"{where} has {len(slot.optimizer.param_groups)} param groups, but the state has {len(state['settings'])}."
        )
    known = {_local(slot, ref): param for ref, param in slot.refs.items()}
    moments = state["moments"]
    strangers = sorted(moments.keys() - known.keys())
    absent = sorted(known.keys() - moments.keys()) if moments else []
    if strangers or absent:
        raise StateError(f"{where}: the state has unknown parameters {strangers[:3]} and lacks {absent[:3]}.")
    for name, values in moments.items():
        for moment, value in values.items():
            shape = tuple(np.shape(value))
            if shape not in ((), (1,), tuple(known[name].shape)):
                raise StateError(
                    f"{where}: '{moment}' of parameter '{name}' has shape {shape} in the state, but the parameter has "
                    f"{tuple(known[name].shape)}."
                )


def set_slot_state(slot: OptimizerSlot, state: Mapping[str, Any]) -> None:
    """Take over a state that `check_slot_state` has passed; settings keep their Python types."""
    for options, saved in zip(slot.optimizer.param_groups, state["settings"], strict=True):
        for name, value in saved.items():
            if isinstance(options.get(name), Tensor):
                options[name].fill_(value)
            elif name in options:
                options[name] = type(options[name])(value) if isinstance(options[name], tuple) else value
    own: Any = slot.optimizer.state
    for ref, param in slot.refs.items():
        saved = state["moments"].get(_local(slot, ref))
        if saved is None:
            own.pop(param, None)
            continue
        entries = own[param] if param in own else own.setdefault(param, {})
        for name, value in saved.items():
            if isinstance(entries.get(name), Tensor):
                entries[name].copy_(torch.as_tensor(value).reshape(entries[name].shape))
            else:
                on_device = np.shape(value) == tuple(param.shape) and np.ndim(value) > 0
                entries[name] = torch.as_tensor(value).to(param.device if on_device else "cpu").clone()
    slot.sync()
    for group in slot.groups:
        group.look_at_counts()


def _local(slot: OptimizerSlot, ref: str) -> str:
    return ref.removeprefix(f"{slot.module_id}/")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _to_numpy(value: Any) -> Any:
    return value.detach().cpu().clone().numpy() if isinstance(value, Tensor) else value
