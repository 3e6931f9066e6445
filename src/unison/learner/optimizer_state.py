"""The state of one optimizer as plain data, and back, checked before anything changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from unison.errors import StateError
from unison.learner.optimizer_slot import OptimizerSlot
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.modules.multi_agent_state import SharedNames

DEFAULT_OPTIMIZER: Final = "default_optimizer"
SHARED: Final = "shared"
"""The optimizer of what several modules share; a further set of modules that share something has "shared_2"."""


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


def check_slot_state(slot: OptimizerSlot, state: Mapping[str, Any], foreign: Collection[str] = ()) -> None:
    """Raise `StateError` if `state` doesn't fit the optimizer; names the parameter and both shapes.

    Args:
        slot: the optimizer.
        state: what `get_slot_state` returned.
        foreign: parameters of the module that another module's optimizer moves; what the state says of them is
            passed over.
    """
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
    strangers = sorted(moments.keys() - known.keys() - set(foreign))
    absent = sorted(known.keys() - moments.keys()) if moments else []
    if strangers or absent:
        raise StateError(f"{where}: the state has unknown parameters {strangers[:3]} and lacks {absent[:3]}.")
    for name, param in known.items():
        own = slot.optimizer.state.get(param, {})
        for moment, value in moments.get(name, {}).items():
            if not _fits(value, own.get(moment), param):
                raise StateError(
                    f"{where}: '{moment}' of parameter '{name}' has shape {tuple(np.shape(value))} in the state, but "
                    f"the parameter has {tuple(param.shape)}."
                )


def lend_moments(
    state: Mapping[ModuleID, Mapping[str, Any]], shared: "SharedNames", module_ids: Collection[ModuleID]
) -> dict[ModuleID, dict[str, Any]]:
    """The optimizers of some modules, with the moments of what belongs to other modules and is shared.

    So they can be loaded where nothing is shared. Shared parameters go by their name in the module.
    """
    chosen: dict[ModuleID, dict[str, Any]] = {}
    for module_id in module_ids:
        for name, saved in state.get(module_id, {}).items():
            own_name = DEFAULT_OPTIMIZER if name.startswith(SHARED) else name
            slot = chosen.setdefault(module_id, {}).setdefault(own_name, {**saved, "moments": {}})
            slot["moments"] |= saved["moments"]
    for module_id in module_ids:
        for name, (owner, owner_name) in shared.get(module_id, {}).items():
            for slot_name, saved in state.get(owner, {}).items():
                if owner_name in saved["moments"]:
                    # Where nothing is shared, a module has one optimizer for all its parameters.
                    own_name = DEFAULT_OPTIMIZER if slot_name.startswith(SHARED) else slot_name
                    slot = chosen.setdefault(module_id, {}).setdefault(own_name, {**saved, "moments": {}})
                    slot["moments"][name] = saved["moments"][owner_name]
    return chosen


def arrange(state: Mapping[str, Any], slots: Sequence[OptimizerSlot]) -> dict[str, Any]:
    """The states of one module's optimizers for another division of the same parameters into default and shared.

    What a module shares with others has an optimizer of its own, where it is shared; elsewhere it has not.

    Args:
        state: by name, of the module as it was saved.
        slots: the module's optimizers here.
    """
    names = {slot.name: slot for slot in slots}
    mine = {n for n in names if n == DEFAULT_OPTIMIZER or n.startswith(SHARED)}
    saved = {n: s for n, s in state.items() if n == DEFAULT_OPTIMIZER or n.startswith(SHARED)}
    if not saved or not mine or saved.keys() == mine or not all("moments" in s for s in saved.values()):
        return dict(state)
    moments = {name: moment for s in saved.values() for name, moment in s["moments"].items()}
    template = saved.get(DEFAULT_OPTIMIZER, next(iter(saved.values())))
    arranged: dict[str, Any] = {}
    for name in sorted(mine, key=lambda name: name == DEFAULT_OPTIMIZER):
        own = {_local(names[name], ref) for ref in names[name].refs}
        # What is nobody's here goes to the last, the default one, where it is found and named.
        taken = [n for n in moments if n in own or name == DEFAULT_OPTIMIZER]
        arranged[name] = {**saved.get(name, template), "moments": {n: moments.pop(n) for n in taken}}
    return {n: s for n, s in state.items() if n not in saved} | arranged


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


def _fits(value: Any, own: Any, param: Tensor) -> bool:
    shape = tuple(np.shape(value))
    if isinstance(own, Tensor):
        return shape == tuple(own.shape) or np.size(value) == own.numel() == 1
    return shape in ((), (1,), tuple(param.shape))


def _local(slot: OptimizerSlot, ref: str) -> str:
    return ref.removeprefix(f"{slot.module_id}/")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _to_numpy(value: Any) -> Any:
    return value.detach().cpu().clone().numpy() if isinstance(value, Tensor) else value
