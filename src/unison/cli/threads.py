"""How many threads a small network should have: one."""

from typing import Any

from unison.config import AlgorithmConfig

_SMALL = 256
"""Units of a layer up to which handing its work out to threads costs more than it saves."""


def has_small_networks(config: AlgorithmConfig) -> bool:
    """Whether the default networks of a config are small: no image to see, and few units in each layer.

    Raises:
        EnvironmentFailure: the environment cannot be made.
    """
    if config.rl_module_spec is not None or any(config.policies.values()):
        return False
    model = config.model_config
    widths = [*model["hidden_sizes"], model["lstm_size"] or 0]
    if model["conv_layers"] is not None or max(widths) > _SMALL:
        return False
    if config.observation_space is not None:
        return not _has_image(config.observation_space)
    found = config.environment_spaces()
    pairs = list(found.values()) if isinstance(found, dict) else [found]
    return not any(_has_image(observation_space) for observation_space, _ in pairs)


def _has_image(space: Any) -> bool:
    if hasattr(space, "spaces"):
        inner = space.spaces
        return any(_has_image(each) for each in (inner.values() if hasattr(inner, "values") else inner))
    return len(getattr(space, "shape", None) or ()) == 3
