"""Configs in files: YAML, TOML and JSON."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from unison.errors import ConfigError


def read_file(path: str | Path) -> dict[str, Any]:
    """The mapping in a .yaml, .yml, .toml or .json file; raises ConfigError naming the file."""
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".toml", ".json"):
        raise ConfigError(f"Cannot tell the format of '{path}'; name it .yaml, .toml or .json.")
    try:
        text = path.read_text(encoding="utf-8")
        data: Any = tomllib.loads(text) if path.suffix == ".toml" else _parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"Cannot read the config '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The config '{path}' is not well-formed: {error}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"The config '{path}' must hold sections, such as 'training:' with settings below it.")
    return dict(cast("Mapping[str, Any]", data))


def parse_value(text: str) -> Any:
    """The value that a string stands for: `3e-4`, `[64, 64]`, `true`, `none`, `{name: sgd}`, or a plain string."""
    if text.strip().lower() == "none":
        return None
    try:
        return _parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"Cannot read the value '{text}': {error}") from error


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_yaml_loader())  # it makes no objects: a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


@cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader, taught that `3e-4` is a number, as everywhere but in YAML 1.1, and that keys come once."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node: Any = super().compose_mapping_node(anchor)  # pyright: ignore[reportUnknownMemberType]
            first: dict[str, Any] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                name, mark = str(key.value), key.start_mark
                if first.setdefault(name, mark) is not mark:
                    twice = f"the key '{name}' stands there twice, first in line {first[name].line + 1}; keep one"
                    raise yaml.constructor.ConstructorError(problem=twice, problem_mark=mark)
            return node

    number = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))  # pyright: ignore[reportUnknownMemberType]
    return Loader
