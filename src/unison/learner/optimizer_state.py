"""The state of one optimizer as plain data, and back, checked before anything changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from unison.errors import StateError
from unison.learner.learning_rates import is_rate
from unison.learner.optimizer_slot import OptimizerSlot
from unison.learner.setup import construct
from unison.learner.update_rules import UpdateRule
from unison.modules.module_state import to_numpy
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.modules.multi_agent_state import SharedNames

DEFAULT_OPTIMIZER: Final = "default_optimizer"
SHARED: Final = "shared"
"""The optimizer of what several modules share; a further set of modules that share something has "shared_2"."""

_OF_THE_DEVICE: Final = frozenset({"capturable", "foreach", "fused"})
"""Settings of torch's optimizers that say how a step is computed, not what it is; not each device has each way."""
_NUMBERS: Final = ("betas", "eps", "weight_decay", "momentum", "alpha")
"""Settings by which the optimizers that have a rule step."""


def get_slot_state(slot: OptimizerSlot) -> dict[str, Any]:
    """`{"class", "settings": [one dict per param group], "moments": {parameter: {name: array}}}`.

    Parameters go by their name within the module.

    Raises:
        StateError: the optimizer keeps something else than tensors and numbers.
        OptimizerError: it has other param groups than it was registered with.
    """
    slot.check()
    settings = [
        {name: _plain(value) for name, value in options.items() if name != "params"}
        for options in slot.optimizer.param_groups
    ]
    state: Any = slot.optimizer.state
    moments = {
        _local(slot, ref): {name: _entry(slot, ref, name, value) for name, value in state[param].items()}
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
    slot.check()
    where = slot.where
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
    for options in state["settings"]:
        lr = options.get("lr")
        if not is_rate(torch.as_tensor(lr) if isinstance(lr, np.ndarray) else lr):  # a tensor's, in a state
            raise StateError(f"{where}: the learning rate must be a finite number from 0, not {lr!r}.")
        if slot.rule is None:
            continue
        reason = slot.rule.refusal(options)
        if reason is not None:
            raise StateError(f"{where} was registered otherwise than the one of the state, which has {reason}.")
        _check_settings(slot, options)
    known = {_local(slot, ref): param for ref, param in slot.refs.items()}
    moments = state["moments"]
    strangers = sorted(moments.keys() - known.keys() - set(foreign))
    absent = sorted(known.keys() - moments.keys()) if moments else []
    if strangers or absent:
        raise StateError(f"{where}: the state has unknown parameters {strangers[:3]} and lacks {absent[:3]}.")
    for name, param in known.items():
        own: Any = slot.optimizer.state.get(param, {})
        lacking = sorted(own.keys() - moments[name].keys()) if name in moments and slot.rule is not None else []
        if lacking:
            raise StateError(f"{where}: the state lacks {lacking} of parameter '{name}'.")
        for moment, value in moments.get(name, {}).items():
            if slot.rule is not None and not _is_moment(slot.rule, moment, value):
                raise StateError(
                    f"{where}: '{moment}' of parameter '{name}' must be one of {['step', *slot.rule.moments]}, with "
                    f"finite numbers, and a step not negative; the state has {value!r}."
                )
            if not _fits(slot, value, own.get(moment), param):
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
    """Take over a state that `check_slot_state` has passed.

    Settings keep their Python types, tensors their device.
    """
    for options, saved in zip(slot.optimizer.param_groups, state["settings"], strict=True):
        for name, value in saved.items():
            if name in options and name not in _OF_THE_DEVICE:
                options[name] = _setting(options[name], value)
    own: Any = slot.optimizer.state
    names = {param: _local(slot, ref) for ref, param in slot.refs.items()}
    for options in slot.optimizer.param_groups:
        for param in options["params"]:
            saved = state["moments"].get(names[param])
            if saved is None:
                own.pop(param, None)
                continue
            entries = own[param] if param in own else own.setdefault(param, {})
            for name in entries.keys() - saved.keys():
                del entries[name]
            for name, value in saved.items():
                if isinstance(entries.get(name), Tensor):
                    entries[name].copy_(torch.as_tensor(value).reshape(entries[name].shape))
                else:
                    entries[name] = _placed(name, value, param, options)
    slot.sync()
    for group in slot.groups:
        group.look_at_counts()


def _check_settings(slot: OptimizerSlot, options: Mapping[str, Any]) -> None:
    """Let the optimizer's own class look at the numbers that say how it steps."""
    own = slot.optimizer.param_groups[0]
    numbers = {name: options[name] for name in _NUMBERS if name in options and name in own}
    try:
        for name, value in numbers.items():
            if np.shape(value) != np.shape(own[name]):
                raise ValueError(f"{name}={value!r}")
        construct(type(slot.optimizer), [torch.nn.Parameter(torch.zeros(1))], numbers)
    except (TypeError, ValueError) as error:
        raise StateError(f"{slot.where}: the state has settings that are of no use: {error}.") from error


def _is_moment(rule: UpdateRule, name: str, value: Any) -> bool:
    """Whether the rule keeps something of that name, and it may be these numbers."""
    if name not in ("step", *rule.moments) or not isinstance(value, np.ndarray | np.generic | Tensor | int | float):
        return False
    numbers = torch.as_tensor(value)
    return bool(numbers.isfinite().all()) and (name != "step" or bool((numbers >= 0).all()))


def _fits(slot: OptimizerSlot, value: Any, own: Any, param: Tensor) -> bool:
    shape = tuple(np.shape(value))
    if isinstance(own, Tensor):
        return value is not None and (shape == tuple(own.shape) or np.size(value) == own.numel() == 1)
    # What an optimizer without a rule is going to keep, it alone knows: Adafactor one number for each row.
    return slot.rule is None or shape in ((), (1,), tuple(param.shape))


def _placed(name: str, value: Any, param: Tensor, options: Mapping[str, Any]) -> Any:
    """What the optimizer is to hold for a parameter; a tensor lies where torch's `load_state_dict` would put it.

    Moments get the parameter's dtype as there, which arrays can't tell of bfloat16; single numbers keep their own.
    """
    if not isinstance(value, np.ndarray | np.generic | Tensor):
        return value
    tensor = torch.as_tensor(value)
    is_moment = tensor.is_floating_point() and name != "step" and (tensor.ndim > 0 or tensor.shape == param.shape)
    dtype = param.dtype if is_moment and param.is_floating_point() else tensor.dtype
    # Counts stay on the host, where reading them waits for nothing, unless they are for a kernel to read.
    on_device = name != "step" or options.get("capturable") or options.get("fused")
    return tensor.to(param.device if on_device else "cpu", dtype, copy=True)


def _local(slot: OptimizerSlot, ref: str) -> str:
    return ref.removeprefix(f"{slot.module_id}/")


def _plain(value: Any) -> Any:
    """A setting without tensors."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in cast("tuple[Any, ...]", value))
    return value.item() if isinstance(value, Tensor) else value


def _setting(own: Any, saved: Any) -> Any:
    """A saved setting in the types of the optimizer's own: tensors stay tensors, where they are, and tuples tuples."""
    if isinstance(own, Tensor):
        return own.fill_(saved)
    if isinstance(own, tuple) and len(cast("tuple[Any, ...]", own)) == len(saved):
        return tuple(map(_setting, cast("tuple[Any, ...]", own), saved))
    return saved


def _entry(slot: OptimizerSlot, ref: str, name: str, value: Any) -> Any:
    """What an optimizer keeps for a parameter, as plain data."""
    if isinstance(value, Tensor):
        return to_numpy(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise StateError(
        f"{slot.where} keeps '{name}' of parameter '{_local(slot, ref)}', a "
        f"{type(value).__name__}, which would be lost. Let {type(slot.optimizer).__name__} keep tensors and numbers."
    )
