"""The base of every group of settings: a pydantic model whose errors say what to do.

A setting is declared once, as a field with type, range, default and one line of help.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
)
from pydantic.fields import FieldInfo

from unison.config.describe import Shown, choices, describe_setting
from unison.config.spaces import is_space
from unison.config.values import freeze, import_from, to_plain
from unison.errors import ConfigError
from unison.suggest import did_you_mean, nearest


class Settings(BaseModel):
    """A group of settings. Wrong values raise ConfigError, at construction and at assignment."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        validate_assignment=True,
        validate_default=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )
    called: ClassVar[str] = "settings"
    """What error messages call this group."""

    def __init__(self, **settings: Any) -> None:
        """Check and keep the settings."""
        try:
            super().__init__(**{name: _without_numpy(value) for name, value in settings.items()})
        except ValidationError as error:
            raise self._explained(error, settings) from None

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """A copy with some settings changed."""
        copy = self.model_copy()
        for name, value in settings.items():
            field = self.field_names().get(name)
            if field is None:
                raise ConfigError(f"{self.called} has no setting '{name}'. {did_you_mean(name, self.field_names())}")
            try:
                setattr(copy, field, _without_numpy(value))
            except ValidationError as error:
                raise self._explained(error, settings) from None
        return copy

    def is_given(self, name: str) -> bool:
        """Whether the setting was given, even if with the value of its default."""
        return self.field_names()[name] in self.model_fields_set

    def as_dict(self) -> dict[str, Any]:
        """The settings by public name."""
        return {name: getattr(self, field) for name, field in self.field_names().items()}

    @classmethod
    def field_names(cls) -> dict[str, str]:
        """Public names of the settings -> names of the fields (they differ only where pydantic claims a name)."""
        return {info.alias or name: name for name, info in cls.model_fields.items()}

    @classmethod
    def help(cls) -> str:
        """One paragraph for each setting: its name, values, default and meaning."""
        return "\n".join(_help_line(name, cls.model_fields[field]) for name, field in cls.field_names().items())

    @classmethod
    def _explained(cls, error: ValidationError, given: Mapping[str, Any]) -> ConfigError:
        problem = error.errors()[0]
        causes = [each.get("ctx", {}).get("error") for each in error.errors() if each["loc"][:1] == problem["loc"][:1]]
        reasons = [cause for cause in causes if isinstance(cause, ValueError)]
        if not problem["loc"]:
            return ConfigError(f"{cls.called}: {reasons[0]}")
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            return ConfigError(f"{cls.called} has no setting '{name}'. {did_you_mean(name, cls.field_names())}")
        field = cls.model_fields[cls.field_names().get(name, name)]
        name = field.alias or name
        if reasons:
            return ConfigError(f"{cls.called}: {name} is wrong: {reasons[0]}")
        value = given[name]
        close = nearest(value, choices(field.annotation)) if isinstance(value, str) else None
        hint = f" Did you mean '{close}'?" if close else ""
        return ConfigError(
            f"{cls.called}: {name}={value!r} is not allowed; it takes {describe_setting(field)}.{hint} "
            f"({name}: {field.description})"
        )


def _help_line(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return f"    {name}: {field.description}\n        Takes {describe_setting(field)}; default {default!r}."


def _without_numpy(value: Any) -> Any:
    return cast("Any", value.item()) if isinstance(value, np.generic) else value


@runtime_checkable
class Spec(Protocol):
    """A spec of a module, as far as a config knows it: something that builds."""

    def build(self) -> Any:
        """Build the module."""
        ...


def _checked(accepts: Callable[[Any], bool]) -> PlainValidator:
    def check(value: Any) -> Any:
        if not accepts(value):
            raise AssertionError("of another kind")  # pydantic's sign for a value that is not allowed
        return value

    return PlainValidator(check)


def _imported(value: Any) -> Any:
    return import_from(value) if isinstance(value, str) and ":" in value else value


def _is_spec(value: Any) -> bool:
    return isinstance(value, Spec) and not isinstance(value, type)


def _is_learner_class(value: Any) -> bool:
    # By what it can do: the class Learner itself lies above, where torch is.
    return isinstance(value, type) and hasattr(value, "update_from_batch") and hasattr(value, "build")


_plain = PlainSerializer(to_plain)
AnyDict = Annotated[dict[str, Any], AfterValidator(freeze), _plain, Shown("a dict with string keys")]
"""A dict of the user's own making."""
Function = Annotated[
    Any, _checked(callable), BeforeValidator(_imported), _plain, Shown("a function (or 'module:name' of one)")
]
"""A function or class that is called, or where to import it from."""
LearnerClass = Annotated[
    Any,
    _checked(_is_learner_class),
    BeforeValidator(_imported),
    _plain,
    Shown("a subclass of Learner (or 'module:name' of one)"),
]
"""A class of Learner, or where to import it from."""
AnySpace = Annotated[Any, _checked(is_space), _plain, Shown("a gymnasium.Space")]
AnySpec = Annotated[Any, _checked(_is_spec), _plain, Shown("a spec of a module (an object with build())")]
