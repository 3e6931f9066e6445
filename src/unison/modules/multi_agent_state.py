"""The states of several modules, which may share submodules.

`Members` are the modules by id; `root` is the module that holds them, and perhaps layers of its own, which go by the id
ALL_MODULES.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from unison.errors import StateError
from unison.modules.module_state import (
    ModuleState,
    Pairs,
    Tensors,
    apply,
    check_agreement,
    check_state,
    first_names,
    tensors_by_name,
    to_numpy,
)
from unison.modules.rl_module import RLModule
from unison.types import ALL_MODULES, ModuleID

Members = Mapping[ModuleID, RLModule]
SharedNames = dict[ModuleID, dict[str, tuple[ModuleID, str]]]
"""For each module the names of the tensors that belong to an earlier one: to which module, and their name there."""


def tensors_by_module(
    root: nn.Module, members: Members, module_ids: Iterable[ModuleID] | None = None
) -> dict[ModuleID, Tensors]:
    """The tensors of all modules, or of some; those of ALL_MODULES come last, and only if there are any."""
    ids = members.keys() if module_ids is None else [i for i in module_ids if i != ALL_MODULES]
    tensors = {module_id: tensors_by_name(members[module_id]) for module_id in ids}
    if module_ids is None or ALL_MODULES in module_ids:
        contained = {id(t) for module in members.values() for t in tensors_by_name(module).values()}
        own = {name: t for name, t in tensors_by_name(root).items() if id(t) not in contained}
        if own or module_ids is not None:
            tensors[ALL_MODULES] = own
    return tensors


def owned_tensors(tensors: Mapping[ModuleID, Tensors]) -> dict[ModuleID, Tensors]:
    """Each tensor once: under the first module that has it, by its first name there."""
    seen: set[int] = set()
    owned: dict[ModuleID, Tensors] = {}
    for module_id, names in tensors.items():
        owned[module_id] = {name: t for name, t in first_names(names).items() if id(t) not in seen}
        seen.update(map(id, names.values()))
    return owned


def shared_names(tensors: Mapping[ModuleID, Tensors]) -> SharedNames:
    """Which tensors belong to an earlier module."""
    owners: dict[int, tuple[ModuleID, str]] = {}
    shared: SharedNames = {}
    for module_id, names in tensors.items():
        for name, tensor in names.items():
            owner = owners.setdefault(id(tensor), (module_id, name))
            if owner[0] != module_id:
                shared.setdefault(module_id, {})[name] = owner
    return shared


def get_states(
    root: nn.Module, members: Members, module_ids: Iterable[ModuleID] | None, inference_only: bool
) -> dict[ModuleID, ModuleState]:
    """The states of modules; what several of them share is listed once, under the first."""
    tensors = tensors_by_module(root, members, None if module_ids is None else list(module_ids))
    seen: set[int] = set()
    states: dict[ModuleID, ModuleState] = {}
    for module_id, names in tensors.items():
        if module_id == ALL_MODULES:
            state = {} if inference_only else {name: to_numpy(t) for name, t in first_names(names).items()}
        else:
            state = members[module_id].get_state(inference_only)
        states[module_id] = {
            name: value for name, value in state.items() if name not in names or id(names[name]) not in seen
        }
        seen.update(id(names[name]) for name in states[module_id] if name in names)
    if inference_only:
        states.pop(ALL_MODULES, None)
    return states


def check_states(root: nn.Module, members: Members, states: Mapping[ModuleID, Mapping[str, Any]]) -> Pairs:
    """Raise what `set_states` would, and change nothing; return the tensors that it will copy.

    What a module with a `set_state` of its own is given can't be checked here.
    """
    pairs: Pairs = []
    for module_id, state in _completed(root, members, states).items():
        if not _is_customized(members, module_id):
            try:
                tensors = tensors_by_module(root, members, [module_id])[module_id]
                pairs += _check(root, members, module_id, tensors, state)
            except StateError as error:
                hint = _sharing_hint(root, members, module_id, state)
                raise StateError(f"Module '{module_id}': {error}{hint}") from None
    check_agreement(type(root).__name__, pairs)
    return pairs


def set_states(root: nn.Module, members: Members, states: Mapping[ModuleID, Mapping[str, Any]]) -> None:
    """Take over the states of modules, wholly or (on an error) not at all."""
    pairs = check_states(root, members, states)
    customized = {m: s for m, s in _completed(root, members, states).items() if _is_customized(members, m)}
    before = {module_id: members[module_id].get_state() for module_id in customized}
    for module_id, state in customized.items():  # They may hold more than tensors, so only they can check.
        try:
            members[module_id].set_state(state)
        except BaseException:
            for other in list(before)[: list(before).index(module_id)]:
                members[other].set_state(before[other])
            raise
    apply(pairs)


def complete_states(
    states: Mapping[ModuleID, Mapping[str, Any]], shared: SharedNames, module_ids: Iterable[ModuleID]
) -> dict[ModuleID, dict[str, Any]]:
    """The states of some modules with what they share put back in, so that they can be loaded without the others."""
    complete: dict[ModuleID, dict[str, Any]] = {}
    for module_id in module_ids:
        borrowed = {
            name: states[owner][owner_name]
            for name, (owner, owner_name) in shared.get(module_id, {}).items()
            if owner_name in states[owner]
        }
        complete[module_id] = {**states[module_id], **borrowed}
    return complete


def _completed(
    root: nn.Module, members: Members, states: Mapping[ModuleID, Mapping[str, Any]]
) -> dict[ModuleID, dict[str, Any]]:
    """Each state with what it shares with another of them and what stands there."""
    tensors = tensors_by_module(root, members, list(states))
    held: dict[int, Any] = {}
    for module_id, state in states.items():
        held.update({id(tensors[module_id][name]): state[name] for name in state if name in tensors[module_id]})
    return {module_id: {**_absent(tensors[module_id], state, held), **state} for module_id, state in states.items()}


def _is_customized(members: Members, module_id: ModuleID) -> bool:
    return module_id != ALL_MODULES and type(members[module_id]).set_state is not RLModule.set_state


def _check(root: nn.Module, members: Members, module_id: ModuleID, tensors: Tensors, state: Mapping[str, Any]) -> Pairs:
    if module_id == ALL_MODULES:
        return check_state(type(root).__name__, tensors, state)
    return members[module_id].check_state(state)


def _absent(tensors: Mapping[str, Tensor], state: Mapping[str, Any], held: Mapping[int, Any]) -> dict[str, Any]:
    """Values of the tensors that this state lacks and that of another module, which shares them, holds."""
    present = {id(tensors[name]) for name in state if name in tensors}
    return {
        name: held[id(tensor)]
        for name, tensor in first_names(tensors).items()
        if id(tensor) in held and id(tensor) not in present
    }


def _sharing_hint(root: nn.Module, members: Members, module_id: ModuleID, state: Mapping[str, Any]) -> str:
    shared = shared_names(tensors_by_module(root, members)).get(module_id, {})
    for name, (owner, owner_name) in shared.items():
        if name not in state:
            return f" '{name}' is shared with module '{owner}' and saved there as '{owner_name}': load both states."
    return ""
