"""The setters of a config: methods made from sections, so that each setting is written down once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

from unison.config.sections import Section
from unison.errors import ConfigError

if TYPE_CHECKING:
    from unison.config.fluent import FluentConfig

ConfigT = TypeVar("ConfigT", bound="FluentConfig")


class Setter:
    """A method that sets the settings of one section and returns the config.

    Its name, signature and help text come from the section: `help(AlgorithmConfig.training)` lists every setting.
    """

    def __init__(self, section: type[Section]) -> None:
        """Make a setter for a section."""
        self.section = section

    def __set_name__(self, owner: type["FluentConfig"], name: str) -> None:
        """Build the method once its name is known."""
        self.section.called = f"{name}()"
        self._function = _make_function(name, self.section)

    @overload
    def __get__(self, config: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, config: ConfigT, owner: type) -> Callable[..., ConfigT]: ...
    def __get__(self, config: "FluentConfig | None", owner: type) -> Callable[..., Any]:
        """The plain function on the class, the bound method on a config."""
        return self._function if config is None else self._function.__get__(config, owner)


@dataclass(frozen=True)
class Catalog:
    """The settings of a config class: its sections by setter, and the place of each setting."""

    sections: dict[str, type[Section]]
    setter_of: dict[str, str]


@cache
def catalog(config_class: type["FluentConfig"]) -> Catalog:
    """The settings of a config class, its bases' included."""
    setters = {
        name: member
        for cls in reversed(config_class.__mro__)
        for name, member in vars(cls).items()
        if isinstance(member, Setter)
    }
    sections = {name: setter.section for name, setter in setters.items()}
    return Catalog(sections, {setting: name for name, section in sections.items() for setting in section.field_names()})


def _make_function(name: str, section: type[Section]) -> Callable[..., Any]:
    def set_section(config: "FluentConfig", *positional: Any, **settings: Any) -> "FluentConfig":
        if positional:
            settings = {**_named(name, section, positional), **settings}
        for setting in settings:
            if setting not in section.field_names():
                raise config.unknown_setting(setting, setter=name)
        return config.change(settings)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for position, (setting, field) in enumerate(section.field_names().items()):
        first = section.positional and position == 0
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if first else inspect.Parameter.KEYWORD_ONLY
        default = section.model_fields[field].get_default(call_default_factory=True)
        parameters.append(inspect.Parameter(setting, kind, default=default))
    set_section.__name__ = name
    set_section.__qualname__ = name
    set_section.__doc__ = f"{inspect.getdoc(section)}\n\nArgs:\n{section.help()}"
    set_section.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return set_section


def _named(name: str, section: type[Section], positional: tuple[Any, ...]) -> dict[str, Any]:
    first = next(iter(section.field_names()))
    if not section.positional or len(positional) != 1:
        raise ConfigError(f"{name}() takes its settings by name: {name}({first}=...).")
    return {first: positional[0]}
