"""A Learner's state as the parts of a checkpoint, and what its manifest says."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unison.checkpoint import write_checkpoint
from unison.config.values import to_plain
from unison.modules.module_checkpoint import MODULES
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

OPTIMIZERS = "optimizers/"
REST = "learner"
GROUP = "learner_group"
"""The part in which a LearnerGroup counts its updates."""


def save(learner: "TorchLearner", path: str | Path) -> None:
    """See Learner.save_state."""
    write_checkpoint(path, to_parts(learner.get_state()), metadata(learner))


def metadata(learner: "TorchLearner") -> dict[str, Any]:
    """What the manifest of a Learner's checkpoint says besides its files."""
    learner._check_is_built()  # pyright: ignore[reportPrivateUsage]  # the API's name
    optimizers: dict[ModuleID, list[str]] = {module_id: [] for module_id in learner.module}
    for slot in learner.optimizers.slots.values():
        optimizers.setdefault(slot.module_id, []).append(slot.name)
    said: dict[str, Any] = {
        "kind": "learner",
        "learner_class": f"{type(learner).__module__}:{type(learner).__qualname__}",
        "config": learner.config.to_dict(),
        **learner.module.describe(),
        "config_overrides": to_plain(learner.config_overrides),
        "optimizers": optimizers,
        "counters": dict(learner.counters),
    }
    if learner.should_update is not learner.config.policies_to_train:
        said["policies_to_train"] = to_plain(learner.should_update)
    return said


def to_parts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a checkpoint, one per module and per optimizer, that hold a Learner's state."""
    parts = {f"{MODULES}{module_id}": weights for module_id, weights in state.get("rl_module", {}).items()}
    for module_id, named in state.get("optimizer", {}).items():
        parts |= {f"{OPTIMIZERS}{module_id}/{name}": saved for name, saved in named.items()}
    return parts | {name: state[name] for name in (REST, GROUP) if name in state}


def without_group(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a group's state is its Learners'."""
    return {name: part for name, part in state.items() if name != GROUP}


def from_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_parts`; parts of others are passed over."""
    state: dict[str, Any] = {"rl_module": {}, "optimizer": {}}
    for name, tree in parts.items():
        if name.startswith(MODULES):
            state["rl_module"][name.removeprefix(MODULES)] = tree
        elif name.startswith(OPTIMIZERS):
            module_id, _, optimizer_name = name.removeprefix(OPTIMIZERS).rpartition("/")
            state["optimizer"].setdefault(module_id, {})[optimizer_name] = tree
        elif name in (REST, GROUP):
            state[name] = tree
    return state
