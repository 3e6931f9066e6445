"""Words for the types of settings: what help texts and error messages call them."""

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Shown:
    """Metadata of an annotated type: the words that stand for it."""

    text: str


_WORDS: dict[Any, str] = {
    NoneType: "None",
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    Any: "anything",
}
_BOUNDS = {Ge: (">=", "ge"), Gt: (">", "gt"), Le: ("<=", "le"), Lt: ("<", "lt")}


def describe_setting(field: FieldInfo) -> str:
    """The values a setting may take, in words: `a number >= 0 or None`."""
    return _describe(field.annotation, tuple(field.metadata))


def choices(annotation: Any) -> list[str]:
    """The strings among the literal values of a type, however deep."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [choice for inner in get_args(annotation) for choice in choices(inner)]


def _describe(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    for mark in metadata:
        if isinstance(mark, Shown):
            return mark.text
    bounds = " and ".join(_bound(mark) for mark in metadata if type(mark) in _BOUNDS)
    return f"{_describe_type(annotation)} {bounds}".rstrip()


def _describe_type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(arguments[0], arguments[1:])
    if origin is Literal:
        return _either([repr(value) for value in arguments])
    if origin in (Union, UnionType):
        return _either([_describe(argument) for argument in arguments])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list of ({_describe(arguments[0])})"
        return f"[{', '.join(_describe(argument) for argument in arguments)}]"
    if isinstance(annotation, TypeVar):
        return str(annotation)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bound(mark: Any) -> str:
    sign, attribute = _BOUNDS[type(mark)]
    return f"{sign} {getattr(mark, attribute)}"


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
