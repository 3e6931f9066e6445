"""Values that a config holds: dicts that cannot be changed behind its back, and their form as plain data.

Plain data is what JSON, YAML and TOML can hold. What they cannot is written as a dict of one key that starts with `$`:
`{"$import": "package.module:Name"}` for a class or function, `$space`, `$dataclass`, `$array`, `$tuple`, `$set`,
`$path`, `$float` (nan and inf), `$dict` (keys that are no strings) and `$not_serializable`. Nothing is ever pickled.
"""

import dataclasses
import importlib
import inspect
import math
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from unison.config.spaces import is_space, space_from_plain, space_to_plain
from unison.errors import ConfigError


class FrozenDict(dict[str, Any]):
    """A dict that refuses changes: a setting is changed by giving it anew, so that it is checked."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError("A dict held by a config cannot be changed in place; give the whole setting anew.")

    __setitem__ = __delitem__ = __ior__ = _refuse  # pyright: ignore[reportAssignmentType]
    update = setdefault = pop = popitem = clear = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self) -> tuple[type["FrozenDict"], tuple[dict[str, Any]]]:
        """Copy and pickle by building anew, as items cannot be set one by one."""
        return FrozenDict, (dict(self),)


def freeze(value: Any) -> Any:
    """The value with every dict in it made a FrozenDict."""
    return _rebuild(value, FrozenDict)


def thaw(value: Any) -> Any:
    """The value with every dict in it made a plain, changeable one."""
    return _rebuild(value, dict)


def _rebuild(value: Any, make_dict: Callable[[Iterable[tuple[Any, Any]]], Any]) -> Any:
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return make_dict((key, _rebuild(inner, make_dict)) for key, inner in items)
    if type(value) in (list, tuple):
        return type(value)(_rebuild(inner, make_dict) for inner in value)
    return value


def import_path(value: Any) -> str | None:
    """`module:qualname` of a class or function, or None where importing it would not give the same object back."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name or module == "__main__":
        return None
    try:
        return f"{module}:{name}" if import_from(f"{module}:{name}") is value else None
    except ConfigError:
        return None


def import_from(path: str) -> Any:
    """The class or function at `"package.module:Name"`.

    A stored config may come from a stranger. So nothing of the standard library is ever handed out (what it
    could do with settings of the stranger's choice, such as run a command, is never a setting), nor anything
    but classes and functions.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigError(f"'{path}' is no import path; write it as 'package.module:Name'.")
    if module_name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        raise ConfigError(f"'{path}' is part of Python itself, not a class or function for a setting; give it anew.")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"Cannot import '{path}': {error}.{_where_to_put(module_name, error)}") from error
    home = str(getattr(found, "__module__", "")).partition(".")[0]
    if not (inspect.isclass(found) or inspect.isfunction(found)) or home in sys.stdlib_module_names - {"__main__"}:
        raise ConfigError(f"'{path}' is no class or function of a package; give the setting anew.")
    return found


def _where_to_put(module_name: str, error: Exception) -> str:
    """What to do about a module that is not found."""
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent is None or not f"{module_name}.".startswith(f"{absent}."):
        return ""
    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    folders = [os.path.abspath(path) for path in sys.path if os.path.isdir(path or ".")]
    places = dict.fromkeys(folder for folder in folders if not folder.startswith(libraries))
    return (
        f" It was looked for in {', '.join(places)} and among what is installed. Put the folder that it lies in on "
        "PYTHONPATH."
    )


def to_plain(value: Any) -> Any:
    """The value as plain data; what cannot be stored becomes `{"$not_serializable": repr}`."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, int | float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, dict):
        return _dict_to_plain(cast("dict[Any, Any]", value))
    if type(value) in _SEQUENCES:
        plain = [to_plain(inner) for inner in value]
        return plain if isinstance(value, list) else {_SEQUENCES[type(value)]: plain}
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, Any]", value)
        return {"$array": {"dtype": array.dtype.str, "values": to_plain(array.tolist())}}
    if isinstance(value, Path):
        return {"$path": str(value)}
    return _object_to_plain(value)


_SEQUENCES: dict[Any, str] = {list: "", tuple: "$tuple", set: "$set", frozenset: "$set"}


def _dict_to_plain(value: dict[Any, Any]) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: to_plain(inner) for key, inner in value.items()}
    return {"$dict": [[to_plain(key), to_plain(inner)] for key, inner in value.items()]}


def _object_to_plain(value: Any) -> Any:
    if is_space(value):
        plain = space_to_plain(value)
        if plain is not None:
            return {"$space": plain}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and (path := import_path(type(value))):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"$dataclass": {"class": path, "fields": fields}}
    elif path := import_path(value):
        return {"$import": path}
    return {"$not_serializable": repr(value)}


def from_plain(value: Any) -> Any:
    """The value that `to_plain` was given; raises ConfigError where it could not be stored."""
    if isinstance(value, list):
        return [from_plain(inner) for inner in cast("list[Any]", value)]
    if not isinstance(value, Mapping):
        return value
    data = cast("Mapping[str, Any]", value)
    tag = next(iter(data), "")
    if len(data) != 1 or not tag.startswith("$"):
        return {key: from_plain(inner) for key, inner in data.items()}
    if tag not in _READERS:
        raise ConfigError(f"'{tag}' is none of the forms that a config is stored in: {', '.join(_READERS)}.")
    return _READERS[tag](data[tag])


def _read_dataclass(data: Mapping[str, Any]) -> Any:
    found = import_from(data["class"])
    if not dataclasses.is_dataclass(found) or not isinstance(found, type):
        raise ConfigError(f"'{data['class']}' is no dataclass, so no setting is made from it.")
    return found(**from_plain(data["fields"]))


def _read_array(data: Mapping[str, Any]) -> Any:
    return np.array(from_plain(data["values"]), dtype=data["dtype"])


def _read_not_serializable(text: str) -> NoReturn:
    raise ConfigError(f"{text} could not be stored.")


_READERS: dict[str, Callable[[Any], Any]] = {
    "$import": import_from,
    "$space": space_from_plain,
    "$dataclass": _read_dataclass,
    "$array": _read_array,
    "$tuple": lambda items: tuple(from_plain(items)),
    "$set": lambda items: set(from_plain(items)),
    "$dict": lambda pairs: {from_plain(key): from_plain(inner) for key, inner in pairs},
    "$path": Path,
    "$float": float,
    "$not_serializable": _read_not_serializable,
}
