"""Where tensors hang below a Learner, and which of its attributes a step reads and writes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from unison.learner.engines.frozen import PLAIN, TooMuch, frozen
from unison.learner.engines.objects import Step, attributes_of, children
from unison.learner.engines.recording import Untraceable, current_place
from unison.learner.links import Links

Path: TypeAlias = tuple[Step, ...]
"""From an object to what hangs below it."""

MACHINERY = frozenset({"step", "metrics", "engine", "exchange", "generator", "snapshot_memory", "last_snapshot"})
"""Attributes of a Learner that belong to the machinery of an update: the next one puts other things there."""

_LIMIT = 50_000


def walk(
    root: Any, skip: frozenset[str] = frozenset(), homes: Mapping[int, Path] | None = None
) -> Iterator[tuple[Path, Any]]:
    """Everything below `root`, nearest first, each object once; attributes of `root` in `skip` are passed over.

    What is below an object in `homes` (paths by identity) goes by the path there, whichever way leads to it now.
    """
    seen: set[int] = {id(root)}
    level: list[tuple[Path, Any]] = [((), root)]
    count = 0
    while level:
        following: list[tuple[Path, Any]] = []
        for path, value in level:
            for step, child in children(value):
                if not path and step[1] in skip:
                    continue
                yield (*path, step), child
                count += 1
                if count > _LIMIT:
                    return
                if isinstance(child, (*PLAIN, Tensor)) or id(child) in seen:
                    continue
                seen.add(id(child))
                home = None if homes is None else homes.get(id(child))
                following.append(((*path, step) if home is None else home, child))
        level = following


def resolve(root: Any, path: Path) -> Any:
    """What lies at the end of a path; raises LookupError where it has gone."""
    value: Any = root
    for kind, key in path:
        value = _step_down(value, kind, key)
    return value


def _step_down(value: Any, kind: str, key: Any) -> Any:
    return value[key] if kind == "item" else attributes_of(value)[key]


def links(root: Any, paths: Sequence[Path]) -> Links:
    """Every step of some paths, each once: as long as all of them hold, the paths lead to the same objects."""
    noted = Links()
    found: dict[Path, Any] = {(): root}
    for path in paths:
        for length, (kind, key) in enumerate(path, 1):
            if path[:length] not in found:
                above = found[path[: length - 1]]
                found[path[:length]] = noted.add(above if kind == "item" else attributes_of(above), key)
    return noted


def assign(root: Any, path: Path, value: Any) -> None:
    """Put `value` at the end of a path."""
    kind, key = path[-1]
    holder = resolve(root, path[:-1])
    if kind == "item":
        holder[key] = value
    else:
        setattr(holder, key, value)


def readable(path: Path) -> str:
    """A path from an object as a person would write it."""
    return "".join(f".{key}" if kind == "attribute" else f"[{key!r}]" for kind, key in path).removeprefix(".")


def tensors_below(root: Any, skip: frozenset[str] = frozenset()) -> dict[int, Path]:
    """The first path to each tensor below `root`, by the tensor's id."""
    found: dict[int, Path] = {}
    for path, value in walk(root, skip):
        if isinstance(value, Tensor):
            found.setdefault(id(value), path)
    return found


def class_value(kind: type, name: str) -> Any:
    """What an attribute is by an object's class, if that is data and no method, property or the like; else None."""
    found: Any = next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)
    return None if hasattr(found, "__get__") else found


class Attributes:
    """The attributes of an object, frozen; looked at once between two renewals, the same object while equal."""

    def __init__(self, target: Any) -> None:
        self._target: object = target
        self._attributes: dict[str, Any] = vars(target)
        self._values: dict[str, Any] = {}
        self._looked: set[str] = set()

    def renew(self) -> "Attributes":
        """Look at everything anew when it is asked for."""
        self._looked.clear()
        return self

    def __getitem__(self, name: str) -> Any:
        if name not in self._looked:
            own = name in self._attributes
            value = self._attributes[name] if own else class_value(type(self._target), name)
            try:
                now = frozen(value)
            except TooMuch:
                now = object()
            if name not in self._values or self._values[name] != now:
                self._values[name] = now
            self._looked.add(name)
        return self._values[name]


class Spy:
    """Notes which attributes of an object are read and written while it is active.

    Args:
        target: the object; its class is replaced by a subclass for the time being.
        skip: attributes that don't count.
    """

    def __init__(self, target: Any, skip: frozenset[str]) -> None:
        self._target = target
        self._class: type[Any] = type(target)
        self._skip = skip
        self.read: dict[str, Any] = {}
        self.readers: dict[str, str] = {}
        self.written: dict[str, str] = {}

    def __enter__(self) -> "Spy":
        self._target.__class__ = _spying_class(self._class, self._note_read, self._note_write)
        return self

    def __exit__(self, *_: object) -> None:
        object.__setattr__(self._target, "__class__", self._class)

    def _note_read(self, name: str, value: Any) -> None:
        if name in self._skip or name in self.read:
            return
        place = self.readers[name] = current_place()
        try:
            self.read[name] = frozen(value)
        except TooMuch:
            raise Untraceable(
                f"{place} reads self.{name}, which holds too much to be compared in every update"
            ) from None

    def _note_write(self, name: str) -> None:
        if name not in self._skip:
            self.written.setdefault(name, current_place())


def _spying_class(base: Any, note_read: Callable[[str, Any], None], note_write: Callable[[str], None]) -> type:
    def __getattribute__(self: Any, name: str) -> Any:
        value = base.__getattribute__(self, name)
        is_own = name in base.__getattribute__(self, "__dict__")
        if not name.startswith("__") and (is_own or class_value(base, name) is not None):
            note_read(name, value)
        return value

    def __setattr__(self: Any, name: str, value: Any) -> None:
        note_write(name)
        base.__setattr__(self, name, value)

    body = {"__getattribute__": __getattribute__, "__setattr__": __setattr__, "__module__": base.__module__}
    return type(base.__name__, (base,), body)
