"""Weights of modules gathered from several checkpoints."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unison.checkpoint import read_checkpoint, read_manifest
from unison.errors import CheckpointError, ModuleError
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
                f"Modules {twice} are named both by rl_module_ckpt_dirs and in {many}; set modules_to_load without them."
            )
        parts = read_checkpoint(many, list(wanted.values())).parts
        states = {module_id: parts[part] for module_id, part in wanted.items()}
    for module_id, path in single.items():
        held = _modules_in(path)
        if len(held) != 1:
            raise CheckpointError(f"{path} holds {len(held)} modules, {sorted(held)}; give the checkpoint of one.")
        part = next(iter(held.values()))
        states[module_id] = read_checkpoint(path, [part]).parts[part]
    return states


def _modules_in(path: str | Path) -> dict[ModuleID, str]:
    return {part.removeprefix(_PREFIX): part for part in read_manifest(path).parts if part.startswith(_PREFIX)}
