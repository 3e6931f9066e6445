"""A checkpoint into a Learner or a LearnerGroup: everything is checked first, then all of it is taken over."""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast, get_args

import torch

from unison.checkpoint import Checkpoint, Manifest, read_checkpoint
from unison.config import AlgorithmConfig, differing_settings
from unison.config.values import from_plain
from unison.errors import CheckpointError, ConfigError, ModuleError, StateError
from unison.learner.learner import ShouldUpdate
from unison.learner.learner_state import ModuleChoice, SettingsSource
from unison.learner.optimizer_state import lend_moments
from unison.learner.saving import OPTIMIZERS, REST, from_parts
from unison.learner.state import chosen_part
from unison.modules import SingleAgentRLModuleSpec
from unison.modules.module_checkpoint import MODULES, check_classes, class_and_arguments, held_modules, with_owners
from unison.modules.multi_agent_state import complete_states
from unison.types import ModuleID, check_several_ids

logger = logging.getLogger("unison")
ModuleClasses = Mapping[ModuleID, type[Any]]


class ModuleHolder(Protocol):
    """What a checkpoint of modules is taken over by: a Learner or a LearnerGroup."""

    config: AlgorithmConfig
    components: ClassVar[tuple[str, ...]]
    """What its state consists of."""

    def get_module_ids(self) -> list[ModuleID]: ...  # noqa: D102
    def add_module(  # noqa: D102
        self,
        *,
        module_id: ModuleID,
        module_spec: SingleAgentRLModuleSpec,
        config_overrides: Mapping[str, Any] | None = None,
    ) -> None: ...
    def remove_module(self, module_id: ModuleID) -> None: ...  # noqa: D102
    def check_state(self, state: Mapping[str, Any], *, shared: Mapping[ModuleID, Any] | None = None) -> None: ...  # noqa: D102
    def set_state(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102
    def use_own_settings(self, module_ids: Collection[ModuleID] | None = None) -> None: ...  # noqa: D102
    def restore_should_update(self, should_update: ShouldUpdate) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class LoadOptions:
    """How a checkpoint is taken over; see Learner.load_state."""

    settings: SettingsSource = "checkpoint"
    module_ids: ModuleChoice = None
    components: Collection[str] | None = None
    module_classes: ModuleClasses | None = None

    def __post_init__(self) -> None:
        if self.settings not in get_args(SettingsSource):
            raise StateError(f"settings={self.settings!r}: it is one of {get_args(SettingsSource)}.")
        check_several_ids(self.module_ids)
        if isinstance(self.components, str):
            raise StateError(f"components={self.components!r} is a string; give a list: [{self.components!r}].")

    @property
    def is_whole(self) -> bool:
        """Whether everything is taken over, the list of modules included."""
        return self.module_ids is None and self.components is None


def load(holder: ModuleHolder, path: str | Path, options: LoadOptions) -> dict[str, tuple[Any, Any]]:
    """See Learner.load_state."""
    if options.is_whole:
        checkpoint = read_checkpoint(path)
    else:
        checkpoint = read_checkpoint(path, lambda manifest: _parts_for(manifest, options))
    return take_over(holder, path, checkpoint, options)


def take_over(
    holder: ModuleHolder, path: str | Path, checkpoint: Checkpoint, options: LoadOptions
) -> dict[str, tuple[Any, Any]]:
    """Take over the Learner's share of a checkpoint that was read, wholly or (on an error) not at all.

    Args:
        holder: a Learner or a LearnerGroup.
        path: where the checkpoint came from, for messages.
        checkpoint: its parts; those of others are passed over.
        options: what of it.

    Returns:
        What differs, as Learner.load_state.
    """
    metadata = checkpoint.metadata
    state = _state_of(path, checkpoint, options, holder.components)
    names = _names(options.module_ids, metadata.get("modules", state.get("rl_module", {})))
    classes = options.module_classes or {}
    check_classes(path, classes, [*names, *names.values()])
    before = holder.get_module_ids()
    adds = "modules" in metadata and (options.is_whole or options.module_ids is not None)
    missing = {saved: own for saved, own in names.items() if own not in before} if adds else {}
    additions = [_addition(path, metadata, saved, own, classes) for saved, own in missing.items()]
    added: list[ModuleID] = []
    # The weights that new modules begin with are replaced; the global random numbers are left alone.
    with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]  # untyped
        try:
            for arguments in additions:
                holder.add_module(**arguments)
                added.append(arguments["module_id"])
            holder.check_state(state, shared=metadata.get("shared") if options.is_whole else None)
            holder.set_state(state)
        except BaseException:
            for module_id in reversed(added):
                with suppress(ModuleError):
                    holder.remove_module(module_id)
            raise
    if options.is_whole and adds:
        for module_id in reversed(before):  # The first of those that share something has its optimizer.
            if module_id not in names:
                holder.remove_module(module_id)
    if options.is_whole:
        _take_over_rule(holder, path, metadata)
    if options.settings == "config":
        holder.use_own_settings(None if options.module_ids is None else list(names.values()))
    return report_differences(holder.config, metadata, options.settings)


def report_differences(config: AlgorithmConfig, saved: Mapping[str, Any], settings: str) -> dict[str, tuple[Any, Any]]:
    """Log and return the settings in which a config differs from that in a checkpoint's metadata."""
    if not isinstance(saved.get("config"), Mapping):
        return {}
    differences = differing_settings(config.to_dict(), saved["config"])
    schedules = {f"training.{name}": schedule for name, schedule in config.scheduled_settings().items()}
    for name, (own, other) in differences.items():
        if name in schedules and not schedules[name].is_constant:
            rule = "the schedule here counts from the next update on"
        elif name in schedules or name == "training.optimizer":
            rule = f"that of the {settings} counts"
        else:
            rule = "the one here counts"
        logger.warning("%s is %r here but %r in the checkpoint; %s.", name, own, other, rule)
    return differences


def _state_of(
    path: str | Path, checkpoint: Checkpoint, options: LoadOptions, components: Sequence[str]
) -> dict[str, Any]:
    """The state that is to be set, under the ids of the one who takes it over."""
    held = held_modules(checkpoint.manifest)
    if not held:
        raise CheckpointError(f"{path} holds no modules; it holds the parts {sorted(checkpoint.manifest.parts)}.")
    strangers = [module_id for module_id in options.module_ids or () if module_id not in held]
    if strangers:
        raise ModuleError(f"{path} holds no modules {strangers}; it holds {held}.")
    state = from_parts(checkpoint.parts)
    wanted = components if options.components is None else options.components
    unknown = sorted(set(wanted) - set(components))
    if unknown:
        raise StateError(f"There are no components {unknown}. Known: {list(components)}.")
    state = {name: state[name] for name in wanted if name in state}
    if options.module_ids is None:
        return state
    shared, chosen = checkpoint.metadata.get("shared", {}), list(options.module_ids)
    if "rl_module" in state:
        state["rl_module"] = complete_states(state["rl_module"], shared, chosen)
    if "optimizer" in state:
        state["optimizer"] = lend_moments(state["optimizer"], shared, chosen)
    return chosen_part(state, options.module_ids)


def _parts_for(manifest: Manifest, options: LoadOptions) -> list[str]:
    """The parts that hold what is asked for, and what it shares."""
    shared: Any = manifest.metadata.get("shared", {})
    chosen = None if options.module_ids is None else with_owners(shared, options.module_ids)
    parts: list[str] = []
    for name in manifest.parts:
        kind = next((k for k in (MODULES, OPTIMIZERS) if name.startswith(k)), "")
        module_id = name.removeprefix(kind)
        module_id = module_id.rpartition("/")[0] if kind == OPTIMIZERS else module_id
        if name == REST or (kind and (chosen is None or module_id in chosen)):
            parts.append(name)
    return parts


def _names(module_ids: ModuleChoice, saved: Sequence[ModuleID] | Mapping[ModuleID, Any]) -> dict[ModuleID, ModuleID]:
    """The id here of each module that is taken over, by its id in the checkpoint."""
    if isinstance(module_ids, Mapping):
        return dict(cast("Mapping[ModuleID, ModuleID]", module_ids))
    return {module_id: module_id for module_id in (saved if module_ids is None else module_ids)}


def _addition(
    path: str | Path, metadata: Mapping[str, Any], saved: ModuleID, own: ModuleID, classes: ModuleClasses
) -> dict[str, Any]:
    """The arguments of `add_module` for a module that is in the checkpoint only."""
    module_class, arguments = class_and_arguments(path, metadata, saved, classes.get(own, classes.get(saved)))
    overrides = metadata.get("config_overrides", {}).get(saved)
    if overrides is None:  # It was there from the beginning.
        multi_agent = cast("Mapping[str, Any]", metadata.get("config", {})).get("multi_agent", {})
        overrides = multi_agent.get("algorithm_config_overrides_per_module", {}).get(saved, {})
    try:
        settings = from_plain(overrides)
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: a setting of module '{saved}' was not saved: {error} Add the module before its state is loaded."
        ) from error
    spec = SingleAgentRLModuleSpec(module_class, **arguments)
    return {"module_id": own, "module_spec": spec, "config_overrides": settings}


def _take_over_rule(holder: ModuleHolder, path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Let train whichever modules trained: by the setting `policies_to_train`, or by what had been put in its place."""
    if "policies_to_train" in metadata:
        try:
            holder.restore_should_update(from_plain(metadata["policies_to_train"]))
        except ConfigError as error:
            logger.warning("%s: the function that decides which modules train was not saved: %s", path, error)
    elif "config" in metadata:
        holder.restore_should_update(holder.config.policies_to_train)
