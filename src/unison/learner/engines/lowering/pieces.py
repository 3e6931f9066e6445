"""Long vectors in pieces, of which each large parameter is one.

An optimizer's parameters are one vector, and so are their gradients and moments. A program that holds them as such
takes each weight out of its vector before it multiplies by it, joins all gradients, and copies the whole vector where
a metric reads one number of it. In pieces a weight lies by itself, and what is computed entry by entry is computed
piece by piece.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, fx

from unison.learner.engines.lowering.table import OPERATIONS, Array, Lowering, Site, jax, jnp, operation_name
from unison.learner.engines.torch_parts import map_aggregate

LARGE = 1 << 14
"""Entries from which on a parameter is a piece of its own: for smaller ones that costs more than it saves."""
Span = tuple[int, int]
"""The first entry of a stretch, and the first after it."""
_SAME_PLACES = ("view.default", "clone.default", "full_like.default")
"""Beside what torch calls pointwise: entry i of the result is of entry i."""
_SUM_OVER_RANKS = "unison.sum_over_ranks.default"
_OF_ALL = ("linalg_vector_norm.default", "sum.dim_IntList")
"""Operations that give of all entries, which they do by themselves, what they give of what they give of the pieces."""


@dataclass(frozen=True)
class Cuts:
    """How vectors of one length are cut.

    Args:
        large: the pieces that are a large parameter each.
        small: the stretches between them, which together are the last piece, if there are any.
    """

    large: tuple[Span, ...]
    small: tuple[Span, ...]

    @classmethod
    def around(cls, large: Sequence[Span], length: int) -> "Cuts":
        """The cuts that make pieces of these stretches, in order and apart, of a vector of a length."""
        ends = [0, *(place for span in large for place in span), length]
        return cls(tuple(large), tuple(span for span in zip(ends[::2], ends[1::2], strict=True) if span[0] < span[1]))

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Of the pieces."""
        rest = [sum(end - start for start, end in self.small)] if self.small else []
        return (*(end - start for start, end in self.large), *rest)

    @cached_property
    def stretches(self) -> tuple[tuple[int, int, int], ...]:
        """What the pieces are made of, in order: the piece, the first entry, the first after it."""
        large = ((number, *span) for number, span in enumerate(self.large))
        return (*large, *((len(self.large), *span) for span in self.small))

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """In which piece a stretch lies, and how far in; None if in several."""
        for number, (first, last) in enumerate(self.large):
            if first <= start and end <= last:
                return number, start - first
        before = 0
        for first, last in self.small:
            if first <= start and end <= last:
                return len(self.large), before + start - first
            before += last - first
        return None


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Pieces:
    """A vector in pieces."""

    arrays: tuple[Array, ...]
    cuts: Cuts

    @classmethod
    def of(cls, vector: Array, cuts: Cuts) -> "Pieces":
        """A vector, cut."""
        large, small = ([vector[start:end] for start, end in spans] for spans in (cuts.large, cuts.small))
        return cls((*large, jnp.concatenate(small)) if small else tuple(large), cuts)

    @cached_property
    def joined(self) -> Array:
        """The vector."""
        return jnp.concatenate([self.between(*span) for span in sorted((*self.cuts.large, *self.cuts.small))])

    def between(self, start: int, end: int) -> Array:
        """The entries from `start` to before `end`."""
        place = self.cuts.place(start, end)
        if place is None:
            return self.joined[start:end]
        return self.arrays[place[0]][place[1] : place[1] + end - start]

    def tree_flatten(self) -> tuple[tuple[Array, ...], Cuts]:
        """For JAX."""
        return self.arrays, self.cuts

    @classmethod
    def tree_unflatten(cls, cuts: Cuts, arrays: Sequence[Array]) -> "Pieces":
        """For JAX."""
        return cls(tuple(arrays), cuts)


def find_cuts(graph: fx.Graph, state: Sequence[fx.Node], side_by_side: int = 1) -> dict[int, Cuts]:
    """Where large parameters are taken out of vectors that are as long as one of the state, by their length.

    Args:
        graph: of a step.
        state: its inputs that are state.
        side_by_side: how many such steps are taken by the same operations: a piece is as large as all of its kind.
    """
    lengths = {_length(node) for node in state}
    large: dict[int, set[Span]] = {}
    for node in graph.nodes:
        length = _length(node.args[0]) if operation_name(node.target) == "slice.Tensor" else None
        if length is not None and length in lengths:
            start, end = _span(length, *node.args[1:]) or (0, 0)
            if side_by_side * (end - start) >= LARGE and end - start < length:
                large.setdefault(length, set()).add((start, end))
    return {length: Cuts.around(_apart(spans), length) for length, spans in large.items()}


def in_pieces(vector: Array | Pieces, cuts: Mapping[int, Cuts]) -> Array | Pieces:
    """A vector in pieces, where there are cuts for its length."""
    own = cuts.get(vector.shape[0]) if getattr(vector, "ndim", None) == 1 else None
    return vector if own is None else Pieces.of(vector, own)


def whole(value: Any) -> Any:
    """A vector, joined if it was in pieces; anything else as it is."""
    return value.joined if isinstance(value, Pieces) else value


def lower(node: fx.Node, site: Site, args: Any, kwargs: Any, cuts: Mapping[int, Cuts]) -> Any:
    """What a node of a graph gives.

    Args:
        node: a call.
        site: its place.
        args: what it is called with; vectors may come in pieces.
        kwargs: as `args`.
        cuts: how the results are cut that are vectors of such a length.
    """
    name = operation_name(node.target)
    lowering = OPERATIONS[name]
    given = _given((args, kwargs))
    own = cuts.get(site.shape[0]) if len(site.shape) == 1 else None
    if own is not None and name == "cat.default":
        return _joined(lowering, site, args[0], own)
    if given and name == _SUM_OVER_RANKS:
        return lowering(site, *args)
    if given:
        is_by_entry = name in _SAME_PLACES or torch.Tag.pointwise in getattr(node.target, "tags", ())
        if is_by_entry and own is not None and all(pieces.cuts == own for pieces in given):
            return _by_entry(lowering, site, args, kwargs, own)
        if name == "slice.Tensor" and (span := _span(sum(given[0].cuts.lengths), *args[1:])) is not None:
            return given[0].between(*span)
        is_exact = site.dtype in (jnp.float32, jnp.float64)
        if name in _OF_ALL and args[1:] in ((), ([],)) and not kwargs and is_exact:
            return lowering(site, jnp.stack([lowering(site, array) for array in given[0].arrays]))
    args, kwargs = map_aggregate((args, kwargs), whole)
    return lowering(site, *args, **kwargs)


def _given(arguments: Any) -> list[Pieces]:
    """The vectors in pieces among arguments."""
    found: list[Pieces] = []

    def look(leaf: Any) -> None:
        if isinstance(leaf, Pieces):
            found.append(leaf)

    map_aggregate(arguments, look)
    return found


def _by_entry(lowering: Lowering, site: Site, args: Any, kwargs: Any, cuts: Cuts) -> Pieces:
    """What is computed of each entry by itself, piece by piece."""

    def piece(number: int, length: int) -> Array:
        def part(leaf: Any) -> Any:
            if getattr(leaf, "shape", None) == site.shape:
                leaf = Pieces.of(leaf, cuts)
            return leaf.arrays[number] if isinstance(leaf, Pieces) else leaf

        own_args, own_kwargs = map_aggregate((args, kwargs), part)
        return lowering(replace(site, shape=(length,)), *own_args, **own_kwargs).astype(site.dtype)

    return Pieces(tuple(piece(number, length) for number, length in enumerate(cuts.lengths)), cuts)


def _joined(lowering: Lowering, site: Site, parts: Sequence[Array | Pieces], cuts: Cuts) -> Array | Pieces:
    """Vectors joined to pieces, if each lies within one."""
    wholes = [whole(part) for part in parts]
    ends = accumulate((part.shape[0] for part in wholes), initial=0)
    places = [cuts.place(*span) for span in pairwise(ends)]
    groups: list[list[Array]] = [[] for _ in cuts.lengths]
    for place, part in zip(places, wholes, strict=True):
        if place is None:
            return lowering(site, wholes)
        groups[place[0]].append(part)
    sites = [replace(site, shape=(length,)) for length in cuts.lengths]
    return Pieces(tuple(lowering(own, group) for own, group in zip(sites, groups, strict=True)), cuts)


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Stretches that share no entries, in order: of those that do, the shorter."""
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda span: span[1] - span[0]):
        if all(end <= first or last <= start for first, last in kept):
            kept.append((start, end))
    return sorted(kept)


def _length(node: Any) -> int | None:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) and value.dim() == 1 else None


def _span(
    length: int, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> tuple[int, int] | None:
    """From where to where a slice goes, unless it leaves out entries between."""
    first, last, step = slice(start, end, step).indices(length)
    return (first, max(first, last)) if step == 1 else None
