"""From a config to what it describes. The classes come from the registry, so nothing is imported upward."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from unison.config.agents import spaces_by_module
from unison.config.environment import spaces_of
from unison.config.spaces import Space, is_space
from unison.errors import ConfigError
from unison.registry import lookup
from unison.types import DEFAULT_MODULE_ID, ModuleID

if TYPE_CHECKING:
    from unison.config.algorithm_config import AlgorithmConfig

Spaces: TypeAlias = Mapping[ModuleID, tuple[Space, Space]]
"""`{module id: (observation space, action space)}`."""
_EXAMPLE = f"{{'{DEFAULT_MODULE_ID}': (observation_space, action_space)}}"


def build_learner(config: "AlgorithmConfig", env: Any, spaces: Spaces | None) -> Any:
    """A built Learner of the config's class."""
    ready = _ready(config)
    learner_class = ready.learner_class or _class_of_algorithm(ready, "learner")
    learner = learner_class(config=ready, module_spec=make_module_spec(ready, env, spaces))
    learner.build()
    return learner


def build_learner_group(config: "AlgorithmConfig", env: Any, spaces: Spaces | None) -> Any:
    """A LearnerGroup; its Learners are built by itself."""
    ready = _ready(config)
    return lookup("learner_group", "default")(config=ready, module_spec=make_module_spec(ready, env, spaces))


def build_algorithm(config: "AlgorithmConfig") -> Any:
    """The Algorithm."""
    if config.env is None:
        raise ConfigError("An algorithm needs an environment; set one: config.environment('CartPole-v1').")
    return _class_of_algorithm(config, "algorithm")(config=_ready(config))


def make_module_spec(config: "AlgorithmConfig", env: Any = None, spaces: Spaces | None = None) -> Any:
    """The MultiAgentRLModuleSpec of the config's modules, with every space filled in that is known."""
    known = _checked_spaces(spaces) if spaces is not None else _find_spaces(config, env)
    if config.normalize_observations and not config.model_config["normalize_observations"]:
        # The module holds the statistics, so that training, evaluation and export see the same observations.
        config = config.copy().change({"model_config": {**config.model_config, "normalize_observations": True}})
    return lookup("module_spec_builder", "default")(config, known).build_spec()


def _ready(config: "AlgorithmConfig") -> "AlgorithmConfig":
    config.validate()
    return config if config.is_frozen else config.copy().freeze()


def _class_of_algorithm(config: "AlgorithmConfig", kind: str) -> type[Any]:
    if config.algorithm_name is None:
        raise ConfigError(
            f"{type(config).__name__} names no algorithm, so there is no {kind} to build. Use the config of one, "
            "such as PPOConfig, or give training(learner_class=...) and build a Learner."
        )
    return lookup(kind, config.algorithm_name)


def _find_spaces(config: "AlgorithmConfig", env: Any) -> Spaces:
    if config.observation_space is not None and env is None:
        found = (config.observation_space, config.action_space)
    elif env is not None or config.env is not None:
        found = spaces_of(env, config.env_config) if env is not None else config.environment_spaces()
        if isinstance(found, dict):
            return spaces_by_module(config, found)
    elif config.rl_module_spec is not None or any(config.policies.values()):
        return {}  # the specs may hold spaces of their own; if not, they say so themselves
    else:
        raise ConfigError(
            "The networks need to know their spaces: set environment(env=...), or environment(observation_space=..., "
            "action_space=...), or pass env= or spaces={module_id: (observation_space, action_space)} when building."
        )
    return dict.fromkeys(config.policies, found)


def _checked_spaces(spaces: Any) -> Spaces:
    if not isinstance(spaces, Mapping):
        raise ConfigError(f"spaces is {spaces!r}; it takes a dict by module: {_EXAMPLE}.")
    given = cast("Mapping[ModuleID, Any]", spaces)
    for module_id, pair in given.items():
        two = cast("tuple[Any, ...]", pair) if isinstance(pair, tuple | list) else ()
        if len(two) != 2 or not all(map(is_space, two)):
            raise ConfigError(
                f"spaces['{module_id}'] is {pair!r}; it takes a pair of gymnasium spaces: (observation, action)."
            )
    if not given:
        raise ConfigError(f"spaces is empty; give e.g. {_EXAMPLE}.")
    return given
