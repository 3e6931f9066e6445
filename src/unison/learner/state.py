"""The state of a Learner: modules, optimizers and the rest, got and set wholly or in part."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from unison.errors import ModuleError, StateError
from unison.learner.learner_state import ModuleChoice
from unison.learner.optimizer_state import arrange, check_slot_state, get_slot_state, lend_moments, set_slot_state
from unison.types import ALL_MODULES, ModuleID, check_several_ids

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

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
            state.setdefault(component, {}).update(get_optimizer_state(learner, ids))
        elif component == "learner":
            state[component] = _get_rest(learner, ids)
        else:
            raise StateError(f"A Learner has no component '{name}'. Known: {list(COMPONENTS)}.")
    return state


def check_state(
    learner: "TorchLearner", state: Mapping[str, Any], *, shared: Mapping[ModuleID, Mapping[str, Any]] | None = None
) -> None:
    """See Learner.check_state."""
    unknown = sorted(set(state) - set(COMPONENTS))
    if unknown:
        raise StateError(f"A Learner has no components {unknown}. Known: {list(COMPONENTS)}.")
    weights, optimizers = state.get("rl_module", {}), _arranged(learner, state)
    _check_known(learner, weights.keys())
    if shared is not None:
        _check_sharing(learner, weights, shared)
        _check_is_whole(learner, weights, optimizers)
        _check_leaving(learner, weights)
    learner.module.check_state(weights)  # Before the optimizers, whose moments have the shapes of the parameters.
    _check_optimizers(learner, optimizers)
    rest = state.get("learner")
    if rest is not None:
        _check_rest(learner, rest)


def set_state(learner: "TorchLearner", state: Mapping[str, Any]) -> None:
    """See Learner.set_state."""
    check_state(learner, state)
    learner.last_snapshot = None  # What a state replaces is not to be undone.
    # First what fails most likely: a module with a state of its own kind. Whoever calls this goes back on errors.
    learner.module.set_state(state.get("rl_module", {}))
    for module_id, named in _arranged(learner, state).items():
        for name, saved in named.items():
            if (module_id, name) in learner.optimizers.slots:
                set_slot_state(learner.optimizers.get(module_id, name), saved)
    set_rest(learner, state.get("learner", {}))


def _arranged(learner: "TorchLearner", state: Mapping[str, Any]) -> dict[ModuleID, dict[str, Any]]:
    """The optimizers that a state has, divided as they are here."""
    optimizers: Mapping[ModuleID, Any] = state.get("optimizer", {})
    return {m: arrange(named, learner.optimizers.registered_by(m)) for m, named in optimizers.items()}


def chosen_part(state: Mapping[str, Any], module_ids: ModuleChoice) -> dict[str, Any]:
    """What a state says about some modules, under the ids that they go by elsewhere.

    Raises:
        ModuleError: the state says nothing about one of them, or two are to go by one id.
    """
    if module_ids is None:
        return dict(state)
    check_several_ids(module_ids)
    renamed = isinstance(module_ids, Mapping)
    names = dict(cast("Mapping[ModuleID, ModuleID]", module_ids)) if renamed else {m: m for m in module_ids}
    if len(set(names.values())) < len(names):
        raise ModuleError(f"module_ids={names} gives two modules one id.")
    rest = state.get("learner", {}).get("coefficients", {})
    parts = {"rl_module": state.get("rl_module", {}), "optimizer": state.get("optimizer", {}), "learner": rest}
    known = set[ModuleID]().union(*parts.values())
    missing = sorted(names.keys() - known)
    if missing:
        raise ModuleError(f"There are no modules {missing} in the state. It has: {sorted(known)}.")
    part: dict[str, Any] = {
        component: {own: parts[component][m] for m, own in names.items() if m in parts[component]}
        for component in COMPONENTS
        if component in state
    }
    return {**part, "learner": {"coefficients": part["learner"]}} if "learner" in part else part


def get_module_state(
    learner: "TorchLearner", module_ids: Collection[ModuleID] | None, inference_only: bool
) -> dict[ModuleID, Any]:
    """See TorchLearner.get_module_state."""
    _check_known(learner, module_ids)
    return learner.module.get_state(module_ids=module_ids, inference_only=inference_only)


def get_optimizer_state(
    learner: "TorchLearner", module_ids: Collection[ModuleID] | None = None
) -> dict[ModuleID, dict[str, Any]]:
    """The optimizers of all modules; or of some, with the moments of what they share with others."""
    learner._check_is_built()  # pyright: ignore[reportPrivateUsage]  # the API's name
    state: dict[ModuleID, dict[str, Any]] = {}
    for slot in learner.optimizers.slots.values():
        state.setdefault(slot.module_id, {})[slot.name] = get_slot_state(slot)
    return state if module_ids is None else lend_moments(state, learner.module.shared_parameters(), module_ids)


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
        rest["schedule_step"] = learner.schedule_step
    return rest


def _check_rest(learner: "TorchLearner", rest: Mapping[str, Any]) -> None:
    coefficients = rest.get("coefficients", {})
    _check_known(learner, coefficients.keys())
    for module_id, named in coefficients.items():
        unknown = sorted(named.keys() - learner.coefficients[module_id].keys())
        if unknown:
            raise StateError(f"Module '{module_id}' has no coefficients {unknown}; the state is of another algorithm.")
    unknown = sorted(rest.get("precision", {}).keys() - learner.precision.state.keys())
    if unknown and learner.precision.scaled:
        raise StateError(f"The loss scaler has no {unknown}. Known: {sorted(learner.precision.state)}.")
    numbers = {
        **{f"coefficient '{n}' of module '{m}'": v for m, named in coefficients.items() for n, v in named.items()},
        **{f"'{name}' of the loss scaler": value for name, value in rest.get("precision", {}).items()},
        **{f"counter '{name}'": value for name, value in rest.get("counters", {}).items()},
        "schedule_step": rest.get("schedule_step", 0),
    }
    for name, value in numbers.items():
        if np.size(value) != 1 or np.asarray(value).dtype.kind not in "iuf":
            raise StateError(f"The {name} must be a number, but the state holds {value!r}.")
        if not np.isfinite(value).all() or (not name.startswith("coefficient") and float(value) < 0):
            raise StateError(f"The {name} must be finite, and not below 0, but the state holds {value!r}.")
    if "generator" in rest:
        try:
            torch.Generator().set_state(_as_generator_state(rest["generator"]))
        except (RuntimeError, TypeError, ValueError) as error:
            raise StateError(f"The state of the generator of the order of rows is of no use: {error}") from error


def set_rest(learner: "TorchLearner", rest: Mapping[str, Any]) -> None:
    """Take over the component "learner" of a state, which fits."""
    for module_id, named in rest.get("coefficients", {}).items():
        for name, value in named.items():
            learner.coefficients[module_id][name].fill_(float(value))
    learner.counters.update({name: int(value) for name, value in rest.get("counters", {}).items()})
    if learner.precision.scaled:  # The scale of a run in another precision says nothing here.
        for name, value in rest.get("precision", {}).items():
            learner.precision.state[name].fill_(float(value))
    if "generator" in rest:
        learner.generator.set_state(_as_generator_state(rest["generator"]))
    learner.schedule_step = int(rest.get("schedule_step", learner.schedule_step))


def _as_generator_state(saved: Any) -> torch.Tensor:
    return torch.as_tensor(np.array(saved, dtype=np.uint8))


def _check_optimizers(learner: "TorchLearner", state: Mapping[ModuleID, Mapping[str, Any]]) -> None:
    shared = learner.module.shared_parameters() if state else {}
    for module_id, named in state.items():
        foreign = shared.get(module_id, {})
        for name, saved in named.items():
            if (module_id, name) not in learner.optimizers.slots:
                moments = saved.get("moments", {})
                if moments and moments.keys() <= foreign.keys():
                    continue  # It was lent what is another module's here.
                known = sorted(f"{m}/{n}" for m, n in learner.optimizers.slots)
                raise StateError(f"There is no optimizer '{name}' of module '{module_id}'. Known: {known}.")
            check_slot_state(learner.optimizers.get(module_id, name), saved, foreign=foreign)


def _check_sharing(
    learner: "TorchLearner", weights: Mapping[ModuleID, Any], saved: Mapping[ModuleID, Mapping[str, Any]]
) -> None:
    """Raise where modules share parameters here and did not where the state comes from, or the other way round."""
    own = {m: named for m, named in learner.module.shared_parameters().items() if m in weights}
    for module_id in dict.fromkeys([*own, *saved]):
        here, there = own.get(module_id, {}), saved.get(module_id, {})
        for name in dict.fromkeys([*here, *there]):
            if here.get(name) != there.get(name):
                raise StateError(
                    f"Parameter '{name}' of module '{module_id}' {_sharing(here.get(name))} here, and in the state it "
                    f"{_sharing(there.get(name))}. Use the same marl_module_class, or load modules by module_ids=."
                )


def _sharing(owner: tuple[ModuleID, str] | None) -> str:
    return "is shared with no earlier module" if owner is None else f"is '{owner[1]}' of module '{owner[0]}'"


def _check_is_whole(
    learner: "TorchLearner", weights: Mapping[ModuleID, Any], optimizers: Mapping[ModuleID, Mapping[str, Any]]
) -> None:
    """Raise where the state is silent about a module that is in it only in part; nothing is to be guessed."""
    slots = learner.optimizers.slots
    missing = [f"{m}/{name}" for m, name in slots if m in weights and name not in optimizers.get(m, {})]
    if missing:
        raise StateError(
            f"The state holds the weights but not the optimizers {missing}, which would begin anew. Set components="
            '["rl_module"] to load weights alone, or register the optimizers under the names of the state: '
            f"{[f'{m}/{name}' for m, named in optimizers.items() for name in named]}."
        )


def _check_leaving(learner: "TorchLearner", staying: Collection[ModuleID]) -> None:
    """Raise where a module that the state lacks can't be removed, the last one first."""
    remaining = dict(learner.module.items())
    for module_id in reversed(list(remaining)):
        if module_id not in staying:
            del remaining[module_id]
            kept = [p for module in remaining.values() for p in module.parameters()]
            learner.optimizers.check_removal(module_id, keep=kept)


def _check_known(learner: "TorchLearner", module_ids: Collection[ModuleID] | None) -> None:
    check_several_ids(module_ids)
    for module_id in module_ids or ():
        if module_id not in learner.module and module_id != ALL_MODULES:
            raise ModuleError(f"There is no module '{module_id}'. Known: {sorted(learner.module.keys())}.")
