"""Where two configs differ, as plain data."""

from collections.abc import Mapping
from typing import Any


def differing_settings(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings, as `"<setter>.<name>"`, in which two results of `to_dict` differ, with both values.

    A setting that one of them does not know counts as None there.
    """
    differences: dict[str, tuple[Any, Any]] = {}
    for section in dict.fromkeys([*own, *other]):
        first, second = own.get(section), other.get(section)
        if not isinstance(first, Mapping) or not isinstance(second, Mapping):
            if first != second:
                differences[section] = (first, second)
            continue
        for name in dict.fromkeys([*first, *second]):
            pair = (first.get(name), second.get(name))
            if pair[0] != pair[1]:
                differences[f"{section}.{name}"] = pair
    return differences
