"""The joint distribution of a Dict or Tuple action space."""

from collections.abc import Iterable
from typing import cast, final

import torch
from torch import Tensor

from unison.errors import BatchError
from unison.modules.distributions.base import Distribution, DistributionType, same_class
from unison.types import Tree


@final
class Product(Distribution):
    """Independent parts, from their inputs side by side in the order of the space.

    Actions are dicts (of a Dict space) or tuples (of a Tuple space) of the parts' actions.
    """

    def __init__(self, inputs: Tensor, types: tuple[DistributionType, ...], keys: tuple[str, ...] | None) -> None:
        """Make the parts of inputs `[..., K]`.

        Args:
            inputs: The parts' inputs side by side.
            types: The parts' types, in the order of the space.
            keys: The names of a Dict space's parts; None for a Tuple space.
        """
        pieces = torch.split(inputs, [part.input_size for part in types], dim=-1)
        self._parts = [part(piece) for part, piece in zip(types, pieces, strict=True)]
        self._keys = keys

    def log_prob(self, actions: Tree) -> Tensor:
        """The log-probability of a tree of actions, summed over the parts, `[...]`."""
        return _total(part.log_prob(action) for part, action in zip(self._parts, self._split(actions), strict=True))

    def entropy(self) -> Tensor:
        """The entropy, summed over the parts."""
        return _total(part.entropy() for part in self._parts)

    def kl(self, other: Distribution) -> Tensor:
        """The divergence, summed over the parts."""
        return _total(part.kl(theirs) for part, theirs in zip(self._parts, same_class(self, other)._parts, strict=True))

    def mode(self) -> Tree:
        """The tree of the parts' modes."""
        return self._join([part.mode() for part in self._parts])

    def sample(self, generator: torch.Generator | None = None) -> Tree:
        """Draw a tree of actions."""
        return self._join([part.sample(generator) for part in self._parts])

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tree, Tensor]:
        """Draw a tree of actions and give its log-probability `[...]`."""
        pairs = [part.sample_with_log_prob(generator) for part in self._parts]
        return self._join([actions for actions, _ in pairs]), _total(log_prob for _, log_prob in pairs)

    def _split(self, actions: Tree) -> list[Tree]:
        """The parts' actions in order; the tree must have the structure of the space."""
        if isinstance(actions, dict) and self._keys is not None:
            named = cast(dict[str, Tree], actions)
            if set(named) == set(self._keys):
                return [named[key] for key in self._keys]
        elif isinstance(actions, tuple) and self._keys is None:
            items = cast(tuple[Tree, ...], actions)
            if len(items) == len(self._parts):
                return list(items)
        wanted = f"a dict with the keys {list(self._keys)}" if self._keys else f"a tuple of {len(self._parts)}"
        raise BatchError(
            f"Actions of this space are {wanted}, but {_describe(actions)} came. Check the column 'actions'."
        )

    def _join(self, actions: list[Tree]) -> Tree:
        return tuple(actions) if self._keys is None else dict(zip(self._keys, actions, strict=True))


def _describe(actions: Tree) -> str:
    """The outermost structure of a tree of actions, in words."""
    if isinstance(actions, dict):
        return f"one with the keys {list(cast(dict[str, Tree], actions))}"
    if isinstance(actions, tuple):
        return f"a tuple of {len(cast(tuple[Tree, ...], actions))}"
    return f"an object of the class {cast(object, actions).__class__.__name__}"


def _total(terms: Iterable[Tensor]) -> Tensor:
    first, *others = terms
    for term in others:
        first = first + term
    return first
