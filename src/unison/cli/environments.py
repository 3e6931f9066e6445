"""From the name on the command line to an environment."""

import re
from importlib import import_module
from typing import Any

from unison.config import pettingzoo_environments
from unison.errors import ConfigError
from unison.suggest import nearest

_ELSEWHERE = {"ALE": "Atari games: pip install ale-py, and name it --env ale_py:{env}."}
"""What to do about namespaces of well-known packages."""


def resolve_environment(env: str) -> Any:
    """A name of Gymnasium's or PettingZoo's that exists, or the class or function that `module:Name` means.

    `module:Some-v0` is an id too: one that importing the module registers.

    Raises:
        ConfigError: there is no such environment; names the nearest.
        MissingExtraError: it is one of PettingZoo's, which is not installed.
    """
    import gymnasium

    module, separator, name = env.rpartition(":")
    if separator:
        try:
            found = getattr(import_module(module), name, None)
        except ImportError as error:
            raise ConfigError(f"--env {env}: cannot import '{module}': {error}.") from error
        if found is not None:
            return found
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        if not separator and pettingzoo_environments.find(name) is not None:
            return env
        namespace = name.rpartition("/")[0]
        if separator and not namespace:
            raise ConfigError(f"--env {env}: '{module}' has no '{name}' and registers no such id.") from error
        raise ConfigError(f"There is no environment '{name}'. {_hint(name, gymnasium.registry)}") from error
    return env


def _hint(env: str, known: Any) -> str:
    namespace = env.rpartition("/")[0]
    if namespace in _ELSEWHERE:
        return _ELSEWHERE[namespace].format(env=env)
    by_name: dict[str, list[str]] = {}
    for each in known:
        by_name.setdefault(_base(each).lower(), []).append(each)
    close = nearest(_base(env), by_name)
    if close is None:
        return "Give a Gymnasium id, or module:Class for one of your own."
    return f"Did you mean '{max(by_name[close], key=_version)}'?"


def _base(env: str) -> str:
    return re.sub(r"-v\d+$", "", env)


def _version(env: str) -> int:
    found = re.search(r"-v(\d+)$", env)
    return int(found[1]) if found else -1
