"""What makes a config fluent and checked, apart from what its settings mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from unison.config.contradictions import Contradiction
from unison.config.files import parse_value, read_file
from unison.config.sections import Section
from unison.config.setter import catalog
from unison.config.values import from_plain, thaw
from unison.errors import ConfigError
from unison.registry import lookup
from unison.suggest import did_you_mean, nearest


class UnknownSettingError(ConfigError, AttributeError):
    """A setting that does not exist (also an AttributeError, as settings are attributes)."""


class FluentConfig(ABC):
    """Sections of settings, each with its Setter, every setting also an attribute."""

    algorithm_name: ClassVar[str | None] = None
    """The name under which the algorithm's classes are registered; None for no algorithm."""

    is_frozen: bool
    _sections: dict[str, Section]
    _derived: dict[Any, Any]
    """What was computed from the settings; every change empties it."""

    def __init__(self) -> None:
        """Start from the defaults."""
        self._keep({name: section() for name, section in catalog(type(self)).sections.items()})

    def _keep(self, sections: dict[str, Section]) -> None:
        """Keep the sections, and their values as plain attributes, so that reading a setting costs nothing."""
        values = {name: value for section in sections.values() for name, value in section.as_dict().items()}
        vars(self).update(values, _sections=sections, _derived={}, is_frozen=False)
        for setter in sections.keys() & values.keys():
            del vars(self)[setter]  # `framework` stays the setter

    def __getattr__(self, name: str) -> Any:
        """Only unknown names arrive here: the error names the nearest setting."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise self.unknown_setting(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set one setting, checked."""
        self.change({name: value})

    def __repr__(self) -> str:
        """What differs from the defaults."""
        changed = [
            f"{name}={value!r}"
            for section in self._sections.values()
            for name, value in section.as_dict().items()
            if section.is_given(name)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def change(self, settings: Mapping[str, Any]) -> Self:
        """Set several settings by name, whatever their setter: all of them, or none if one is wrong."""
        if self.is_frozen:
            raise ConfigError(f"This {type(self).__name__} is frozen; change a copy of it: config.copy().")
        per_setter: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            setter = catalog(type(self)).setter_of.get(name)
            if setter is None:
                raise self.unknown_setting(name)
            per_setter.setdefault(setter, {})[name] = value
        before = self._sections
        self._keep({**before, **{setter: before[setter].changed(values) for setter, values in per_setter.items()}})
        try:
            self._check(given_only=True)
        except ConfigError:
            self._keep(before)
            raise
        return self

    def unknown_setting(self, name: str, *, setter: str | None = None) -> UnknownSettingError:
        """The error for a setting that does not exist, or not in this setter."""
        known, methods = catalog(type(self)).setter_of, [] if setter else _public_methods(type(self))
        called = f"{type(self).__name__}.{setter}()" if setter else type(self).__name__
        if name in known:
            return UnknownSettingError(f"{called} has no setting '{name}'; it belongs to {known[name]}().")
        close = nearest(name, [*known, *methods])
        if close in known:
            hint = f"Did you mean '{close}' (set by {known[close]}())?"
        elif close:
            hint = f"Did you mean the method {close}()?"
        else:
            hint = did_you_mean(name, catalog(type(self)).sections[setter].field_names() if setter else known)
        return UnknownSettingError(f"{called} has no setting '{name}'. {hint}")

    def freeze(self) -> Self:
        """Make every later change raise; returns the config."""
        vars(self)["is_frozen"] = True
        return self

    def copy(self) -> Self:
        """A copy that can be changed, also of a frozen config."""
        copy = type(self)()
        copy._keep(dict(self._sections))
        return copy

    def validate(self) -> None:
        """Raise ConfigError if settings contradict each other, defaults included."""
        self._check(given_only=False)

    @abstractmethod
    def contradictions(self) -> Iterator[Contradiction]:
        """What makes no sense together. Hook: a subclass yields its own beside those of its base."""

    def _check(self, *, given_only: bool) -> None:
        """Check what goes together; with `given_only`, a default may still be changed to fit a later setting."""
        for contradiction in self.contradictions():
            if not given_only or all(self._is_given(name) for name in contradiction.settings):
                raise ConfigError(f"{type(self).__name__}: {contradiction.reason}")

    def _is_given(self, name: str) -> bool:
        return self._sections[catalog(type(self)).setter_of[name]].is_given(name)

    def set_path(self, path: str, value: Any) -> Self:
        """Set by a dotted path, as the command line's `--set` does: `set_path("training.lr", "3e-4")`.

        The setter's name in front may be left out; behind a setting that is a dict follow its keys
        (`model_config.hidden_sizes`). A string is read as a number, list, true, none and so on.
        """
        names = path.split(".")
        known = catalog(type(self))
        if len(names) > 1 and names[0] in known.sections:
            setter, *names = names
            if names[0] not in known.sections[setter].field_names():
                raise self.unknown_setting(names[0], setter=setter)
        elif len(names) > 1 and names[0] not in known.setter_of:
            raise UnknownSettingError(f"'{path}': {did_you_mean(names[0], [*known.sections, *known.setter_of])}")
        name, *keys = names
        new = parse_value(value) if isinstance(value, str) else value
        if keys:
            new = _with_item(path, thaw(self._sections[known.setter_of[name]].as_dict()[name]), keys, new)
        return self.change({name: new})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain data that JSON and YAML can hold, by section; classes by import path."""
        sections = {name: section.model_dump(mode="json", by_alias=True) for name, section in self._sections.items()}
        return {"algorithm_name": self.algorithm_name, **sections}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None) -> Self:
        """The config that `to_dict` was called on, or one that a person wrote in its form; what is left out is default.

        Args:
            data: `{"algorithm_name": ..., "<setter>": {setting: value}}`. It names classes to import: load only
                what you trust.
            overrides: settings, by name, that replace those in `data`; needed for what could not be stored.

        Raises:
            ConfigError: an unknown section or setting, or one that could not be stored and is not overridden.
        """
        arguments: dict[str, Any] = {"data": data, "overrides": overrides or {}}
        for name, given in arguments.items():
            if not isinstance(given, Mapping):
                raise ConfigError(f"{name} is {given!r}, no mapping; from_dict takes what to_dict() gives.")
        stored, replaced = dict(data), dict(overrides or {})
        config = cls._class_named(stored.pop("algorithm_name", None))()
        known = catalog(type(config)).sections
        settings: dict[str, Any] = {}
        for setter, values in stored.items():
            if setter not in known:
                raise ConfigError(f"A config has no section '{setter}'. {did_you_mean(setter, known)}")
            if not isinstance(values, Mapping):
                raise ConfigError(f"The section '{setter}' of a config takes settings by name, not {values!r}.")
            for name, value in cast("Mapping[str, Any]", values).items():
                if name not in known[setter].field_names():
                    raise config.unknown_setting(name, setter=setter)
                if name not in replaced:
                    settings[name] = _read_setting(name, value)
        return config.change({**settings, **replaced})

    @classmethod
    def _class_named(cls, name: str | None) -> type[Self]:
        named = cls if name is None else lookup("config", name)
        if issubclass(cls, named):
            return cls
        if issubclass(named, cls):
            return named
        raise ConfigError(f"This is a config of '{name}', not one that {cls.__name__} can read.")

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The config in a YAML, TOML or JSON file of the form that `from_dict` takes."""
        return cls.from_dict(read_file(path))


def _public_methods(config_class: type) -> list[str]:
    return [name for name in dir(config_class) if name[0] != "_" and callable(getattr(config_class, name))]


def _read_setting(name: str, value: Any) -> Any:
    try:
        return from_plain(value)
    except Exception as error:  # whatever malformed data or an imported module raises
        cause = str(error).rstrip(".")
        raise ConfigError(
            f"The setting '{name}' cannot be read: {cause}. Or give it anew: from_checkpoint or "
            f"from_dict(overrides={{'{name}': ...}})."
        ) from error


def _with_item(path: str, tree: Any, keys: list[str], value: Any) -> Any:
    """The dict with the item under nested `keys` replaced; missing dicts on the way are made."""
    if not isinstance(tree, dict):
        raise ConfigError(f"'{path}' leads nowhere: there is no dict that '{keys[0]}' could be in.")
    key, *rest = keys
    tree = cast("dict[str, Any]", tree)
    return {**tree, key: _with_item(path, tree.get(key, {}), rest, value) if rest else value}
