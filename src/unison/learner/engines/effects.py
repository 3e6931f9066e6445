"""What a step leaves behind in Python objects: tensors that can be honoured, and changes that can't."""

from typing import Any

import torch
from torch import Tensor

from unison.learner.engines.objects import children
from unison.learner.engines.recording import Call, Recording, Ref, Untraceable, storage_of, whole_storage
from unison.learner.engines.torch_parts import alike
from unison.learner.engines.watching import Path, Spy, assign, readable, resolve, walk

_ABSENT = object()


class Effects:
    """Compares the objects below a Learner before and after a recorded step, and puts them back.

    Args:
        root: the Learner.
        skip: its attributes that the engine itself moves.
    """

    def __init__(self, root: Any, skip: frozenset[str]) -> None:
        self._root = root
        self._skip = skip
        self._before = dict(walk(root, skip))
        # A hook may hang what was there already on another, shorter path.
        self._homes = {id(value): path for path, value in reversed(self._before.items())}
        self._changed: dict[Path, Any] = {}

    def compare(self) -> None:
        """Note what differs from before. Call it right after the step."""
        for path, value in walk(self._root, self._skip, self._homes):
            old = self._before.get(path, _ABSENT)
            if value is not old and not _same(old, value):
                self._changed[path] = value
        for path, old in self._before.items():
            if path in self._changed or isinstance(old, dict | list):
                continue
            try:
                resolve(self._root, path)
            except (LookupError, TypeError):
                self._changed[path] = _ABSENT

    def undo(self, *, keep_caches: bool = False) -> None:
        """Make the objects what they were; `keep_caches` leaves objects where there was none before."""
        for path in sorted(self._changed, key=len):
            old = self._before.get(path, _ABSENT)
            if keep_caches and _is_cache(old, self._changed[path]):
                continue
            try:
                if old is _ABSENT:
                    _remove(self._root, path)
                else:
                    assign(self._root, path, old)
            except (LookupError, TypeError, AttributeError):
                continue  # an object above it has been put back already

    def settle(self, recording: Recording, spy: Spy, *, strict: bool) -> dict[Path, Ref]:
        """The tensors that the step leaves at places where there was none of that shape; by path.

        A tensor that takes the place of another one of its shape is state: a call is added to the
        recording that writes it into the old one.

        Raises:
            Untraceable: the step changed something else, and this is `strict`.
        """
        left: dict[Path, Ref] = {}
        for path, value in self._changed.items():
            old = self._before.get(path, _ABSENT)
            ref = recording.ref_of(value) if isinstance(value, Tensor) else None
            if ref is None and (not strict or _holds_only(value, recording)):
                continue  # the items of a container are listed by themselves
            if ref is None:
                place = spy.written.get(str(path[0][1]), "a hook")
                raise Untraceable(f"{place} changes self.{readable(path)}, which is no tensor, in every step")
            if isinstance(old, Tensor) and alike(old, value):
                _feed_back(recording, old, value, ref)
            else:
                left[path] = ref
        return left


def _same(old: Any, new: Any) -> bool:
    if isinstance(new, Tensor) or isinstance(old, Tensor) or type(old) is not type(new):
        return False
    if isinstance(new, int | float | str | bytes | complex):
        return bool(old == new) or (old != old and new != new)
    # Containers count by their items; objects that a step makes anew, by what hangs below them.
    return isinstance(new, dict | list | tuple) or hasattr(new, "__dict__")


def _is_cache(old: Any, new: Any) -> bool:
    plain = isinstance(new, Tensor | int | float | str | bytes | complex) or new is _ABSENT
    return (old is _ABSENT or old is None) and not plain


def _holds_only(value: Any, recording: Recording) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    items: list[Any] = [item for _, item in children(value)]
    return all(isinstance(item, Tensor) and recording.ref_of(item) is not None for item in items)


def _remove(root: Any, path: Path) -> None:
    kind, key = path[-1]
    holder = resolve(root, path[:-1])
    if kind == "item":
        del holder[key]
    else:
        delattr(holder, key)


def _feed_back(recording: Recording, old: Tensor, new: Tensor, ref: Ref) -> None:
    known = recording.ref_of(old)
    if known is None:
        known = Ref(len(recording.values))
        recording.values[known.index] = old
        recording.externals.append((known, old))
    key = storage_of(old)
    if key not in recording.before:
        recording.before[key] = whole_storage(old.detach()).clone()
    after = recording.before[key].clone()
    after.as_strided(old.shape, old.stride(), old.storage_offset()).copy_(new.detach())
    recording.after[key] = after
    copy: Any = torch.ops.aten.copy_.default
    recording.calls.append(Call(copy, (known, ref), {}, [None], "the end of the step"))
