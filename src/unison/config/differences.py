"""Where two configs differ, as plain data."""

from collections.abc import Mapping
from typing import Any, cast


def differing_settings(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings, as `"<setter>.<name>"`, in which two results of `to_dict` differ, with both values.

    A setting that one of them does not know counts as None there.
    """
    differences: dict[str, tuple[Any, Any]] = {}
    for section in dict.fromkeys([*own, *other]):
        first, second = _by_name(section, own.get(section)), _by_name(section, other.get(section))
        for name in dict.fromkeys([*first, *second]):
            pair = (first.get(name), second.get(name))
            if pair[0] != pair[1]:
                differences[name] = pair
    return differences


def _by_name(section: str, value: Any) -> dict[str, Any]:
    """The settings of a section by their whole name; a value outside of sections goes by its own."""
    if isinstance(value, dict):
        return {f"{section}.{name}": setting for name, setting in cast("dict[str, Any]", value).items()}
    return {section: value}
