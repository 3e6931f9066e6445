"""Operations that pick entries by index."""

from collections.abc import Sequence
from typing import Any

from unison.learner.engines.lowering.table import Array, Site, jnp, lowers

_FEW = 64
"""Up to this many choices, comparing with each is faster on a CPU than to gather one by one."""


def _places(index: Array, dim: int) -> tuple[Array, ...]:
    """The index of every entry along each dimension, `index` along `dim`."""
    grids = [jnp.arange(n).reshape((-1,) + (1,) * (index.ndim - axis - 1)) for axis, n in enumerate(index.shape)]
    grids[dim] = index
    return tuple(grids)


def _is_one_of_few(x: Array, index: Array, dim: int) -> bool:
    return x.ndim > 0 and x.shape[dim] <= _FEW and index.shape[dim] == 1


def _one_hot(x: Array, index: Array, dim: int) -> Array:
    """Booleans of the shape of `x`: where `index` points."""
    axis = dim % x.ndim
    counts = jnp.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    return index == counts


@lowers("gather.default")
def _gather(_: Site, x: Array, dim: int, index: Array, **__: Any) -> Array:
    same = all(a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if i != dim % max(x.ndim, 1))
    if _is_one_of_few(x, index, dim) and same:
        return jnp.sum(jnp.where(_one_hot(x, index, dim), x, 0), dim, keepdims=True)
    return x[_places(index, dim)]


@lowers("scatter_add.default")
def _scatter_add(_: Site, x: Array, dim: int, index: Array, source: Array) -> Array:
    same = all(a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if i != dim % max(x.ndim, 1))
    if _is_one_of_few(x, index, dim) and same:
        return x + jnp.where(_one_hot(x, index, dim), source, jnp.zeros((), source.dtype))
    part = source[tuple(slice(0, n) for n in index.shape)]
    return x.at[_places(index, dim)].add(part)


@lowers("scatter.src")
def _scatter(_: Site, x: Array, dim: int, index: Array, source: Array) -> Array:
    return x.at[_places(index, dim)].set(source[tuple(slice(0, n) for n in index.shape)])


@lowers("scatter.value")
def _scatter_value(_: Site, x: Array, dim: int, index: Array, value: float) -> Array:
    return x.at[_places(index, dim)].set(value)


@lowers("index_select.default")
def _index_select(_: Site, x: Array, dim: int, index: Array) -> Array:
    return jnp.take(x, index, axis=dim, mode="clip")


@lowers("embedding.default")
def _embedding(_: Site, table: Array, index: Array, *__: Any) -> Array:
    return table[index]


@lowers("embedding_dense_backward.default")
def _embedding_backward(site: Site, gradient: Array, index: Array, rows: int, padding: int, *_: Any) -> Array:
    if padding >= 0:
        gradient = jnp.where((index == padding)[..., None], 0, gradient)
    return jnp.zeros(site.shape, site.dtype).at[index].add(gradient)


@lowers("index.Tensor")
def _index(_: Site, x: Array, indices: Sequence[Array | None]) -> Array:
    return x[tuple(slice(None) if i is None else i for i in indices)]


@lowers("index_put.default", "_unsafe_index_put.default")
def _index_put(_: Site, x: Array, indices: Sequence[Array | None], values: Array, accumulate: bool = False) -> Array:
    place = x.at[tuple(slice(None) if i is None else i for i in indices)]
    return place.add(values) if accumulate else place.set(values)


@lowers("index_add.default")
def _index_add(_: Site, x: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].add(source * alpha)


@lowers("tril.default")
def _tril(_: Site, x: Array, diagonal: int = 0) -> Array:
    return jnp.tril(x, diagonal)


@lowers("triu.default")
def _triu(_: Site, x: Array, diagonal: int = 0) -> Array:
    return jnp.triu(x, diagonal)
