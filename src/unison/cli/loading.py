"""Trained modules from a path, without the rest of the training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison.algorithms.checkpoints import read_config
from unison.algorithms.run_folder import RunFolder, find_checkpoint
from unison.checkpoint import CheckpointKeeper
from unison.config import AlgorithmConfig, make_module_spec
from unison.errors import CheckpointError
from unison.modules import MultiAgentRLModule
from unison.modules.module_checkpoint import class_and_arguments, read_module_states


@dataclass(frozen=True)
class Trained:
    """Modules with their trained weights.

    Attributes:
        checkpoint: where they come from.
        config: what they were trained with.
        modules: ready to act.
        counters: how far the training was.
    """

    checkpoint: Path
    config: AlgorithmConfig
    modules: MultiAgentRLModule
    counters: dict[str, Any]


def choose_checkpoint(path: Path, *, best: bool) -> Path:
    """The checkpoint that a path means: itself, or the last or best whole one of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    folder = RunFolder(path)
    if not best:
        return find_checkpoint(path)
    if not folder.holds_a_run:
        raise CheckpointError(f"--best chooses among the checkpoints of a run, and {path} is no run folder.")
    by = folder.read_config().keep_best_by
    chosen = CheckpointKeeper(folder.checkpoint_folder, keep_best_by=by).best() if by else None
    if chosen is None:
        raise CheckpointError(f"{path} has no best checkpoint: none has a result '{by or 'to go by'}'.")
    return chosen


def load_trained(path: Path, *, best: bool = False) -> Trained:
    """Build the modules of a checkpoint and load their weights.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    checkpoint = choose_checkpoint(path, best=best)
    metadata, states = read_module_states(checkpoint)
    config = read_config(checkpoint)
    modules = make_module_spec(config).build()
    held = metadata["modules"]
    for module_id in [m for m in held if m not in modules]:  # Added while it trained.
        module_class, arguments = class_and_arguments(checkpoint, metadata, module_id, None)
        modules.add_module(module_id, module_class(**arguments))
    for module_id in [m for m in modules if m not in held]:
        modules.remove_module(module_id)
    modules.set_state(states)
    return Trained(checkpoint, config, modules.eval(), dict(metadata.get("counters", {})))
