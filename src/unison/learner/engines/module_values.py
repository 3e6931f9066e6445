"""What modules hold besides numbers and tensors: containers and objects of users, whose values a trace freezes."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from unison.learner.engines.frozen import Held, Same, TooMuch, difference, frozen
from unison.learner.engines.objects import class_attributes, is_of_users
from unison.learner.engines.recording import Untraceable
from unison.learner.engines.watching import readable

_OF_TORCH = frozenset(vars(nn.Module()))
_OTHERWISE_KNOWN = (int, float, str, bool, type(None), Tensor, nn.Module)


class ModuleValues:
    """The values that some modules hold; to ask whether they are the same costs nothing where there are none.

    Args:
        modules: whose values they are.

    Raises:
        Untraceable: one of them holds too much.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._noted = [(module, *found) for module in modules for found in self._find(module)]

    def change(self) -> str | None:
        """Which of them is no longer what it was, or None."""
        for module, name, old in self._noted:
            try:
                now = frozen(_value(module, name))
            except TooMuch:
                now = None
            if now != old:
                path = (("attribute", name), *difference(old, now))
                return f"the attribute '{readable(path)}' of a module"
        return None

    def _find(self, module: nn.Module) -> Iterator[tuple[str, Any]]:
        for name in {**class_attributes(module), **vars(module)}.keys() - _OF_TORCH:
            value = _value(module, name)
            if isinstance(value, _OTHERWISE_KNOWN):
                continue
            try:
                found = frozen(value)
            except TooMuch:
                what = f"the attribute '{name}' of a module"
                raise Untraceable(f"{what} holds too much to be compared in every update") from None
            # Other objects come and go with every pass: a module may keep the distribution that it made last.
            if isinstance(found, Held) or (
                is_of_users(type(module)) and (callable(value) or not isinstance(found, Same))
            ):
                yield name, found


def _value(module: nn.Module, name: str) -> Any:
    own = vars(module)
    return own[name] if name in own else class_attributes(module).get(name)
