"""Modules to and from checkpoint directories of their own."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unison.checkpoint import read_checkpoint, write_checkpoint
from unison.errors import CheckpointError
from unison.modules.description import arguments_of, class_of, describe
from unison.types import ALL_MODULES, ModuleID

if TYPE_CHECKING:
    from unison.modules.multi_agent_state import SharedNames
    from unison.modules.rl_module import RLModule

PathLike = str | os.PathLike[str]
_ONE, _MANY = "rl_module", "multi_agent_rl_module"


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


def save_modules(
    path: PathLike,
    modules: "Mapping[ModuleID, RLModule]",
    states: Mapping[ModuleID, Mapping[str, Any]],
    shared: "SharedNames",
) -> None:
    """Write several modules, with what they share once."""
    parts: dict[str, Any] = {f"modules/{module_id}": dict(state) for module_id, state in states.items()}
    parts["descriptions"] = {module_id: _describe(module) for module_id, module in modules.items()}
    parts["shared"] = shared
    write_checkpoint(path, parts, {"kind": _MANY, "modules": list(states)})


def load_modules(
    path: PathLike, module_ids: Iterable[ModuleID] | None, module_classes: "Mapping[ModuleID, type[RLModule]]"
) -> "tuple[dict[ModuleID, RLModule], dict[ModuleID, dict[str, Any]]]":
    """Build several modules; return them and their states, in which everything shared is there."""
    from unison.modules.multi_agent_state import complete_states  # It imports RLModule, which imports this file.

    checkpoint = read_checkpoint(path)
    _check_kind(path, checkpoint.metadata, _MANY)
    saved: list[ModuleID] = checkpoint.metadata["modules"]
    wanted = saved if module_ids is None else list(module_ids)
    unknown = [module_id for module_id in wanted if module_id not in saved]
    if unknown:
        raise CheckpointError(f"The checkpoint {path} holds no module {unknown}; it holds {saved}.")
    descriptions = checkpoint.parts["descriptions"]
    modules = {
        module_id: class_of(descriptions[module_id], module_classes.get(module_id))(
            **arguments_of(descriptions[module_id])
        )
        for module_id in wanted
        if module_id != ALL_MODULES
    }
    states = {module_id: checkpoint.parts[f"modules/{module_id}"] for module_id in saved}
    return modules, complete_states(states, checkpoint.parts["shared"], wanted)


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
