"""Weights of modules gathered from several checkpoints."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unison.checkpoint import read_checkpoint, read_manifest
from unison.errors import CheckpointError, ModuleError
from unison.modules.module_checkpoint import load_module_state
from unison.types import ModuleID

_PREFIX = "modules/"


def read_module_states(
    many: str | Path | None, chosen: Collection[ModuleID] | None, single: Mapping[ModuleID, str | Path]
) -> dict[ModuleID, Any]:
    """The weights of the modules of one checkpoint and of several checkpoints of single modules.

    Args:
        many: a checkpoint of many modules.
        chosen: which of its modules; None: all.
        single: checkpoints of one module each, by the id of the module that takes the weights.

    Raises:
        ModuleError: a module is named in both places, or is not in the checkpoint.
        CheckpointError: a checkpoint is damaged, or holds no single module.
    """
    if many is None and not single:
        raise ModuleError("Give marl_module_ckpt_dir, or rl_module_ckpt_dirs, or both.")
    states: dict[ModuleID, Any] = {}
    if many is not None:
        held = _modules_in(many)
        missing = sorted(set(chosen or ()) - held.keys())
        if missing:
            raise ModuleError(f"{many} holds no modules {missing}; it holds {sorted(held)}.")
        wanted = held if chosen is None else {m: held[m] for m in chosen}
        twice = sorted(wanted.keys() & single.keys())
        if twice:
            raise ModuleError(
                f"Modules {twice} are named both by rl_module_ckpt_dirs and in {many}; "
                "set modules_to_load without them."
            )
        parts = read_checkpoint(many, list(wanted.values())).parts
        states = {module_id: parts[part] for module_id, part in wanted.items()}
    return states | {module_id: _only_module(path) for module_id, path in single.items()}


def _modules_in(path: str | Path) -> dict[ModuleID, str]:
    return {part.removeprefix(_PREFIX): part for part in read_manifest(path).parts if part.startswith(_PREFIX)}


def _only_module(path: str | Path) -> dict[str, Any]:
    """The weights in a checkpoint of a single module, or of many of which there is one."""
    parts = _modules_in(path)
    if not parts:
        return load_module_state(path)
    if len(parts) > 1:
        raise CheckpointError(f"{path} holds {len(parts)} modules, {sorted(parts)}; give the checkpoint of one.")
    part = next(iter(parts.values()))
    return read_checkpoint(path, [part]).parts[part]
