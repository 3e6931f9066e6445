"""The state of a Learner: modules, optimizers and the rest, got and set wholly or in part."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unison.checkpoint import read_checkpoint, write_checkpoint
from unison.config import AlgorithmConfig, differing_settings
from unison.errors import CheckpointError, ModuleError, StateError
from unison.learner.optimizer_state import check_slot_state, get_slot_state, set_slot_state
from unison.types import ALL_MODULES, ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

logger = logging.getLogger("unison")
COMPONENTS = ("rl_module", "optimizer", "learner")


def get_state(
    learner: "TorchLearner",
    components: str | Collection[str] | None,
    module_ids: Collection[ModuleID] | None,
    inference_only: bool,
) -> dict[str, Any]:
    """See Learner.get_state; `components` may name parts as "rl_module", or one module as "rl_module/<id>"."""
    names = COMPONENTS if components is None else [components] if isinstance(components, str) else list(components)
    if inference_only and components is None:
        names = ("rl_module",)
    state: dict[str, Any] = {}
    for name in names:
        component, _, module_id = name.partition("/")
        ids = [module_id] if module_id else module_ids
        _check_known(learner, ids)
        if component == "rl_module":
            state.setdefault(component, {}).update(get_module_state(learner, ids, inference_only))
        elif component == "optimizer":
            optimizers = get_optimizer_state(learner)
            chosen = optimizers if ids is None else {m: s for m, s in optimizers.items() if m in ids}
            state.setdefault(component, {}).update(chosen)
        elif component == "learner":
            state[component] = _get_rest(learner, ids)
        else:
            raise StateError(f"A Learner has no component '{name}'. Known: {list(COMPONENTS)}.")
    return state


def set_state(learner: "TorchLearner", state: Mapping[str, Any]) -> None:
    """See Learner.set_state."""
    unknown = sorted(set(state) - set(COMPONENTS))
    if unknown:
        raise StateError(f"A Learner has no components {unknown}. Known: {list(COMPONENTS)}.")
    optimizers = state.get("optimizer", {})
    _check_known(learner, state.get("rl_module", {}).keys())
    _check_optimizers(learner, optimizers)
    rest = state.get("learner")
    if rest is not None:
        _check_rest(learner, rest)
    learner.last_snapshot = None  # What a state replaces is not to be undone.
    if "rl_module" in state:
        learner.module.set_state(state["rl_module"])
    for module_id, named in optimizers.items():
        for name, saved in named.items():
            set_slot_state(learner.optimizers.get(module_id, name), saved)
    if rest is not None:
        _set_rest(learner, rest)


def get_module_state(
    learner: "TorchLearner", module_ids: Collection[ModuleID] | None, inference_only: bool
) -> dict[ModuleID, Any]:
    """See TorchLearner.get_module_state."""
    _check_known(learner, module_ids)
    return learner.module.get_state(module_ids=module_ids, inference_only=inference_only)


def set_module_state(learner: "TorchLearner", state: Mapping[ModuleID, Any]) -> None:
    """See TorchLearner.set_module_state."""
    set_state(learner, {"rl_module": state})


def get_optimizer_state(learner: "TorchLearner") -> dict[ModuleID, dict[str, Any]]:
    """See TorchLearner.get_optimizer_state."""
    learner._check_is_built()  # pyright: ignore[reportPrivateUsage]  # the API's name
    state: dict[ModuleID, dict[str, Any]] = {}
    for slot in learner.optimizers.slots.values():
        state.setdefault(slot.module_id, {})[slot.name] = get_slot_state(slot)
    return state


def set_optimizer_state(learner: "TorchLearner", state: Mapping[ModuleID, Mapping[str, Any]]) -> None:
    """See TorchLearner.set_optimizer_state."""
    set_state(learner, {"optimizer": state})


def metadata(learner: "TorchLearner") -> dict[str, Any]:
    """What the manifest of a Learner's checkpoint says besides its files."""
    learner._check_is_built()  # pyright: ignore[reportPrivateUsage]  # the API's name
    return {
        "kind": "learner",
        "learner_class": f"{type(learner).__module__}:{type(learner).__qualname__}",
        "config": learner.config.to_dict(),
        "module_ids": list(learner.module.keys()),
        "optimizers": {m: [s.name for s in learner.optimizers.of_module(m)] for m in learner.module},
        "counters": dict(learner.counters),
    }


def to_parts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a checkpoint, one per module and per optimizer, that hold a Learner's state."""
    parts = {f"modules/{module_id}": weights for module_id, weights in state.get("rl_module", {}).items()}
    for module_id, named in state.get("optimizer", {}).items():
        parts |= {f"optimizers/{module_id}/{name}": saved for name, saved in named.items()}
    if "learner" in state:
        parts["learner"] = state["learner"]
    return parts


def from_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_parts`; parts of others are passed over."""
    state: dict[str, Any] = {"rl_module": {}, "optimizer": {}}
    for name, tree in parts.items():
        kind, _, rest = name.partition("/")
        if kind == "modules":
            state["rl_module"][rest] = tree
        elif kind == "optimizers":
            module_id, _, optimizer_name = rest.rpartition("/")
            state["optimizer"].setdefault(module_id, {})[optimizer_name] = tree
        elif name == "learner":
            state["learner"] = tree
    return state


def save(learner: "TorchLearner", path: str | Path) -> None:
    """See Learner.save_state."""
    write_checkpoint(path, to_parts(learner.get_state()), metadata(learner))


def load(learner: "TorchLearner", path: str | Path, settings: str) -> dict[str, tuple[Any, Any]]:
    """See Learner.load_state."""
    learner._check_is_built()  # pyright: ignore[reportPrivateUsage]  # the API's name
    checkpoint = read_checkpoint(path)
    state = from_parts(checkpoint.parts)
    if not state["rl_module"]:
        raise CheckpointError(f"{path} holds no modules; it holds the parts {sorted(checkpoint.parts)}.")
    learner.set_state(state)
    if settings == "config":
        learner.use_own_settings()
    return report_differences(learner.config, checkpoint.metadata, settings)


def report_differences(config: AlgorithmConfig, saved: Mapping[str, Any], settings: str) -> dict[str, tuple[Any, Any]]:
    """Log and return the settings in which a config differs from that in a checkpoint's metadata."""
    if not isinstance(saved.get("config"), Mapping):
        return {}
    differences = differing_settings(config.to_dict(), saved["config"])
    for name, (own, other) in differences.items():
        logger.warning("%s is %r here but %r in the checkpoint; optimizers go by the %s.", name, own, other, settings)
    return differences


def _get_rest(learner: "TorchLearner", module_ids: Collection[ModuleID] | None) -> dict[str, Any]:
    chosen = learner.coefficients if module_ids is None else {m: learner.coefficients[m] for m in module_ids}
    rest: dict[str, Any] = {
        "coefficients": {m: {n: t.cpu().numpy().copy() for n, t in named.items()} for m, named in chosen.items()}
    }
    if module_ids is None:
        rest["counters"] = dict(learner.counters)
        if learner.precision.scaled:
            rest["precision"] = {n: t.cpu().numpy().copy() for n, t in learner.precision.state.items()}
        rest["generator"] = learner.generator.get_state().numpy().copy()
    return rest


def _check_rest(learner: "TorchLearner", rest: Mapping[str, Any]) -> None:
    coefficients = rest.get("coefficients", {})
    _check_known(learner, coefficients.keys())
    for module_id, named in coefficients.items():
        unknown = sorted(named.keys() - learner.coefficients[module_id].keys())
        if unknown:
            raise StateError(f"Module '{module_id}' has no coefficients {unknown}; the state is of another algorithm.")


def _set_rest(learner: "TorchLearner", rest: Mapping[str, Any]) -> None:
    for module_id, named in rest.get("coefficients", {}).items():
        for name, value in named.items():
            learner.coefficients[module_id][name].fill_(float(value))
    learner.counters.update(rest.get("counters", {}))
    if learner.precision.scaled:  # The scale of a run in another precision says nothing here.
        for name, value in rest.get("precision", {}).items():
            learner.precision.state[name].fill_(float(value))
    if "generator" in rest:
        learner.generator.set_state(torch.as_tensor(np.array(rest["generator"], dtype=np.uint8)))


def _check_optimizers(learner: "TorchLearner", state: Mapping[ModuleID, Mapping[str, Any]]) -> None:
    for module_id, named in state.items():
        for name, saved in named.items():
            if (module_id, name) not in learner.optimizers.slots:
                known = sorted(f"{m}/{n}" for m, n in learner.optimizers.slots)
                raise StateError(f"There is no optimizer '{name}' of module '{module_id}'. Known: {known}.")
            check_slot_state(learner.optimizers.get(module_id, name), saved)


def _check_known(learner: "TorchLearner", module_ids: Collection[ModuleID] | None) -> None:
    for module_id in module_ids or ():
        if module_id not in learner.module and module_id != ALL_MODULES:
            raise ModuleError(f"There is no module '{module_id}'. Known: {sorted(learner.module.keys())}.")
