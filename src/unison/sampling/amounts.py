"""How much a sampler is asked for."""

import operator
from typing import Any

from unison.config import AlgorithmConfig
from unison.errors import ConfigError


def amount_to_sample(
    config: AlgorithmConfig, num_timesteps: Any, num_episodes: Any, *, num_envs: int, num_runners: int = 1
) -> tuple[str, int]:
    """Which of the two numbers of `sample` counts, by its name, and how much it is.

    Args:
        config: says how many steps are sampled if neither number is given: `rollout_fragment_length` of each
            environment.
        num_timesteps: as `sample` was given it.
        num_episodes: as `sample` was given it.
        num_envs: the environments of one runner.
        num_runners: how many of them sample.

    Raises:
        ConfigError: both numbers were given, or one that is not whole and positive.
    """
    if num_timesteps is not None and num_episodes is not None:
        raise ConfigError("sample() takes num_timesteps or num_episodes, not both.")
    if num_episodes is not None:
        return "num_episodes", positive(num_episodes, "sample()", "episodes")
    if num_timesteps is not None:
        return "num_timesteps", positive(num_timesteps, "sample()", "steps")
    length = config.rollout_fragment_length
    if length == "auto":
        length = -(-config.train_batch_size // (num_envs * max(1, config.num_env_runners)))
    return "num_timesteps", length * num_envs * num_runners


def positive(number: Any, method: str, what: str) -> int:
    """A whole number of at least 1.

    Raises:
        ConfigError: it is another; names the method.
    """
    try:
        whole = operator.index(number)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ConfigError(f"{method} was asked for {number!r} {what}; ask for a whole number of at least 1.")
    return whole
