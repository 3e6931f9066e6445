"""Modules to and from checkpoint directories of their own."""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unison.checkpoint import Manifest, read_checkpoint, write_checkpoint
from unison.checkpoint.trees import encode_plain
from unison.errors import CheckpointError, ModuleError, SpaceError
from unison.modules.description import arguments_of, class_of, describe
from unison.types import ALL_MODULES, ModuleID, check_several_ids

if TYPE_CHECKING:
    from unison.modules.multi_agent_state import SharedNames
    from unison.modules.rl_module import RLModule

PathLike = str | os.PathLike[str]
_ONE, _MANY = "rl_module", "multi_agent_rl_module"
_UNDESCRIBED = "undescribed"
MODULES = "modules/"
"""What the names of the parts begin with that hold the weights of modules, in checkpoints of many."""


def save_module(path: PathLike, module: "RLModule") -> None:
    """Write one module."""
    parts = {"module": module.get_state(), "description": _describe(module)}
    write_checkpoint(path, parts, {"kind": _ONE})


def load_module(path: PathLike, module_class: "type[RLModule] | None") -> "RLModule":
    """Build one module and load its weights."""
    checkpoint = read_checkpoint(path)
    _check_kind(path, checkpoint.metadata, _ONE)
    description = checkpoint.parts["description"]
    module = class_of(description, module_class)(**arguments_of(description))
    module.set_state(checkpoint.parts["module"])
    return module


def load_module_state(path: PathLike) -> dict[str, Any]:
    """The weights of one module, without building it."""
    checkpoint = read_checkpoint(path)
    _check_kind(path, checkpoint.metadata, _ONE)
    return checkpoint.parts["module"]


def module_list(modules: "Mapping[ModuleID, RLModule]", shared: "SharedNames") -> dict[str, Any]:
    """What a manifest says about modules: the class, spaces and settings of each, and what they share.

    Of a module that cannot be described (a space of another kind, say) it says why; such a one has to be there already
    when its state is loaded.
    """
    return {"modules": {module_id: _describe_if_possible(m) for module_id, m in modules.items()}, "shared": shared}


def class_and_arguments(
    path: PathLike, metadata: Mapping[str, Any], module_id: ModuleID, module_class: "type[RLModule] | None"
) -> "tuple[type[RLModule], dict[str, Any]]":
    """What builds one module of a checkpoint: its class, and the arguments of its constructor.

    Raises:
        CheckpointError: its class is unknown here, or it was not described.
    """
    description = metadata["modules"][module_id]
    if _UNDESCRIBED in description:
        raise CheckpointError(
            f"The checkpoint {path} holds the weights of module '{module_id}' but not how to build it: "
            f"{description[_UNDESCRIBED]} Add the module before its state is loaded."
        )
    try:
        return class_of(description, module_class), arguments_of(description)
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {path}, module '{module_id}': {error}") from error


def check_classes(path: PathLike, module_classes: Collection[ModuleID], module_ids: Collection[ModuleID]) -> None:
    """Raise ModuleError if classes are given for modules that are not among those a checkpoint gives."""
    strangers = [module_id for module_id in module_classes if module_id not in module_ids]
    if strangers:
        given = list(dict.fromkeys(module_ids))
        raise ModuleError(f"module_classes names {strangers}, but what {path} gives are the modules {given}.")


def save_modules(
    path: PathLike,
    modules: "Mapping[ModuleID, RLModule]",
    states: Mapping[ModuleID, Mapping[str, Any]],
    shared: "SharedNames",
) -> None:
    """Write several modules, with what they share once."""
    parts: dict[str, Any] = {f"{MODULES}{module_id}": dict(state) for module_id, state in states.items()}
    write_checkpoint(path, parts, {"kind": _MANY, **module_list(modules, shared)})


def load_modules(
    path: PathLike, module_ids: Iterable[ModuleID] | None, module_classes: "Mapping[ModuleID, type[RLModule]]"
) -> "tuple[dict[ModuleID, RLModule], dict[ModuleID, dict[str, Any]]]":
    """Build several modules; return them and their states, in which everything shared is there."""
    check_several_ids(module_ids)
    chosen = None if module_ids is None else list(module_ids)
    metadata, states = read_module_states(path, chosen)
    check_classes(path, module_classes, states)
    modules = {
        module_id: _build(*class_and_arguments(path, metadata, module_id, module_classes.get(module_id)))
        for module_id in states
        if module_id != ALL_MODULES
    }
    return modules, states


def read_module_states(
    path: PathLike, module_ids: Collection[ModuleID] | None = None
) -> tuple[dict[str, Any], dict[ModuleID, dict[str, Any]]]:
    """The metadata and the weights of all modules of a checkpoint of many, or of some, each of them whole.

    A Learner's, a group's and an Algorithm's are such as well.

    Raises:
        CheckpointError: it is damaged, or holds no such modules.
    """
    from unison.modules.multi_agent_state import complete_states  # It imports RLModule, which imports this file.

    def wanted(manifest: Manifest) -> list[str]:
        if "modules" not in manifest.metadata:
            _check_kind(path, manifest.metadata, _MANY)
        saved = held_modules(manifest)
        unknown = [module_id for module_id in module_ids or () if module_id not in saved]
        if unknown:
            raise CheckpointError(f"The checkpoint {path} holds no module {unknown}; it holds {saved}.")
        chosen = saved if module_ids is None else module_ids
        return [f"{MODULES}{m}" for m in with_owners(manifest.metadata["shared"], chosen)]

    checkpoint = read_checkpoint(path, wanted)
    states = {name.removeprefix(MODULES): state for name, state in checkpoint.parts.items()}
    chosen = list(states) if module_ids is None else module_ids
    return checkpoint.metadata, complete_states(states, checkpoint.metadata["shared"], chosen)


def held_modules(manifest: Manifest) -> list[ModuleID]:
    """The ids of the modules whose weights a checkpoint of many holds, ALL_MODULES among them."""
    return [part.removeprefix(MODULES) for part in manifest.parts if part.startswith(MODULES)]


def with_owners(shared: "SharedNames", module_ids: Iterable[ModuleID]) -> list[ModuleID]:
    """These modules, and those under which what they share is saved."""
    ids = list(module_ids)
    return list(dict.fromkeys([*ids, *(owner for m in ids for owner, _ in shared.get(m, {}).values())]))


def _build(module_class: "type[RLModule]", arguments: dict[str, Any]) -> "RLModule":
    return module_class(**arguments)


def _describe_if_possible(module: "RLModule") -> dict[str, Any]:
    try:
        description = _describe(module)
        encode_plain(description, "Its model_config")
    except (SpaceError, CheckpointError) as error:
        return {_UNDESCRIBED: str(error)}
    return description


def _describe(module: "RLModule") -> dict[str, Any]:
    return describe(type(module), module.observation_space, module.action_space, module.model_config)


def _check_kind(path: PathLike, metadata: Mapping[str, Any], kind: str) -> None:
    found = metadata.get("kind")
    if found != kind:
        hint = {_ONE: "RLModule.from_checkpoint", _MANY: "MultiAgentRLModule.from_checkpoint"}.get(str(found), "")
        raise CheckpointError(
            f"The checkpoint {path} holds a {found or 'checkpoint of another kind'}, not a {kind}."
            + (f" Load it with {hint}." if hint else "")
        )
