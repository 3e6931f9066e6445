"""What is needed to build a module again: its class, spaces and settings, as plain data."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from unison.config import ModelConfig
from unison.config.spaces import space_from_plain, space_to_plain
from unison.errors import CheckpointError, ConfigError, SpaceError
from unison.registry import lookup, registered_name

Description = dict[str, Any]


def describe(
    module_class: type,
    observation_space: gym.Space[Any] | None,
    action_space: gym.Space[Any] | None,
    model_config: ModelConfig,
) -> Description:
    """Describe a module as a tree of numbers, strings, lists and dicts.

    Raises:
        SpaceError: a space is of a kind that cannot be written down.
    """
    return {
        "module_class": registered_name("module", module_class),
        "class_path": f"{module_class.__module__}.{module_class.__qualname__}",
        "observation_space": _space_to_plain(observation_space),
        "action_space": _space_to_plain(action_space),
        "model_config": model_config.as_dict(),
    }


def class_of(description: Mapping[str, Any], module_class: type | None) -> type[Any]:
    """The class to build: the one given, or else the registered one that the description names.

    Nothing is ever imported because a description says so.

    Raises:
        CheckpointError: none was given, and the description's class is not registered here.
    """
    if module_class is not None:
        return module_class
    name = description["module_class"]
    if name is not None:
        try:
            return lookup("module", name)
        except ConfigError:
            pass
    raise CheckpointError(
        f"The module is of class {description['class_path']}, which is not registered here. Pass module_class=, or "
        f'decorate the class with @register("module", NAME) before it is saved, and import it before it is loaded.'
    )


def arguments_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the module's constructor: spaces and settings."""
    return {
        "observation_space": _space_from_plain(description["observation_space"]),
        "action_space": _space_from_plain(description["action_space"]),
        "model_config": description["model_config"],
    }


def _space_to_plain(space: gym.Space[Any] | None) -> dict[str, Any] | None:
    if space is None:
        return None
    plain = space_to_plain(space)
    if plain is None:
        raise SpaceError(
            f"The space {space} cannot be written to a checkpoint: only Box, Discrete, MultiDiscrete, MultiBinary, and "
            f"Dict (with string keys) and Tuple of them can."
        )
    return plain


def _space_from_plain(plain: Mapping[str, Any] | None) -> gym.Space[Any] | None:
    return None if plain is None else space_from_plain(plain)
