"""Weights of modules gathered from several checkpoints."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unison.checkpoint import read_manifest
from unison.errors import CheckpointError, ModuleError
from unison.modules.module_checkpoint import held_modules, load_module_state, read_module_states
from unison.types import ModuleID


def gather_module_states(
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
        held = held_modules(read_manifest(many))
        missing = sorted(set(chosen or ()) - set(held))
        if missing:
            raise ModuleError(f"{many} holds no modules {missing}; it holds {sorted(held)}.")
        wanted = held if chosen is None else list(chosen)
        twice = sorted(set(wanted) & single.keys())
        if twice:
            raise ModuleError(
                f"Modules {twice} are named both by rl_module_ckpt_dirs and in {many}; "
                "set modules_to_load without them."
            )
        _, states = read_module_states(many, wanted)
    return states | {module_id: _only_module(path) for module_id, path in single.items()}


def _only_module(path: str | Path) -> dict[str, Any]:
    """The weights in a checkpoint of a single module, or of many of which there is one."""
    held = held_modules(read_manifest(path))
    if not held:
        return load_module_state(path)
    if len(held) > 1:
        raise CheckpointError(f"{path} holds {len(held)} modules, {sorted(held)}; give the checkpoint of one.")
    return read_module_states(path)[1][held[0]]
