"""Trained modules from a path, without the rest of the training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison.algorithms.checkpoints import read_config
from unison.algorithms.run_folder import RunFolder, find_checkpoint
from unison.checkpoint import CheckpointKeeper, read_checkpoint, read_manifest
from unison.config import AlgorithmConfig, make_module_spec
from unison.errors import CheckpointError
from unison.learner.saving import from_parts
from unison.modules import MultiAgentRLModule


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
    names = [name for name in read_manifest(checkpoint).parts if name.startswith("modules/")]
    found = read_checkpoint(checkpoint, names)
    config = read_config(checkpoint)
    modules = make_module_spec(config).build()
    weights = from_parts(found.parts)["rl_module"]
    modules.set_state({module_id: state for module_id, state in weights.items() if module_id in modules})
    return Trained(checkpoint, config, modules.eval(), dict(found.metadata.get("counters", {})))
