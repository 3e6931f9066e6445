"""Operations that move entries without changing them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from unison.learner.engines.lowering.table import Array, Site, jnp, lax, lowers


@lowers("view.default", "_unsafe_view.default", "reshape.default", "unsqueeze.default", "squeeze.default",
        "squeeze.dim", "squeeze.dims", "view_copy.default")  # fmt: skip
def _reshape(site: Site, x: Array, *_: Any) -> Array:
    return x.reshape(site.shape)


@lowers("permute.default")
def _permute(_: Site, x: Array, dims: Sequence[int]) -> Array:
    return jnp.transpose(x, dims)


@lowers("t.default")
def _t(_: Site, x: Array) -> Array:
    return x.T


@lowers("transpose.int")
def _transpose(_: Site, x: Array, a: int, b: int) -> Array:
    return jnp.swapaxes(x, a, b)


@lowers("expand.default")
def _expand(site: Site, x: Array, *_: Any, **__: Any) -> Array:
    return jnp.broadcast_to(x, site.shape)


@lowers("slice.Tensor")
def _slice(_: Site, x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    start, end, _step = slice(start, end, step).indices(x.shape[dim])
    return lax.slice_in_dim(x, start, max(start, end), step, dim)


@lowers("narrow.default")
def _narrow(_: Site, x: Array, dim: int, start: int, length: int) -> Array:
    return lax.slice_in_dim(x, start, start + length, 1, dim)


@lowers("slice_scatter.default")
def _slice_scatter(
    _: Site, x: Array, source: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    start, end, step = slice(start, end, step).indices(x.shape[dim])
    where = (slice(None),) * (dim % x.ndim) + (slice(start, end, step),)
    return x.at[where].set(source)


@lowers("select.int")
def _select(_: Site, x: Array, dim: int, index: int) -> Array:
    return lax.index_in_dim(x, index, dim, keepdims=False)


@lowers("select_scatter.default")
def _select_scatter(_: Site, x: Array, source: Array, dim: int, index: int) -> Array:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(source)


@lowers("as_strided.default")
def _as_strided(site: Site, x: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Array:
    index: Any = offset or 0
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        index = index + (jnp.arange(length) * step).reshape((-1,) + (1,) * (len(size) - axis - 1))
    return x.reshape(-1)[jnp.broadcast_to(jnp.asarray(index), site.shape)]


@lowers("as_strided_scatter.default")
def _as_strided_scatter(
    _: Site, x: Array, source: Array, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Array:
    index: Any = offset or 0
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        index = index + (jnp.arange(length) * step).reshape((-1,) + (1,) * (len(size) - axis - 1))
    return x.reshape(-1).at[jnp.broadcast_to(jnp.asarray(index), source.shape)].set(source).reshape(x.shape)


@lowers("cat.default")
def _cat(site: Site, parts: Sequence[Array], dim: int = 0) -> Array:
    kept = [p.astype(site.dtype) for p in parts if p.shape != (0,)] or list(parts)
    joined = jnp.concatenate(kept, dim)
    # XLA would take a sum over the parts of a flat buffer apart, into a reduction for each part.
    return lax.optimization_barrier(joined) if joined.ndim == 1 else joined


@lowers("stack.default")
def _stack(_: Site, parts: Sequence[Array], dim: int = 0) -> Array:
    return jnp.stack(parts, dim)


@lowers("split.Tensor")
def _split(_: Site, x: Array, size: int, dim: int = 0) -> list[Array]:
    length = x.shape[dim]
    return [lax.slice_in_dim(x, i, min(i + size, length), 1, dim) for i in range(0, length, size)]


@lowers("split_with_sizes.default")
def _split_with_sizes(_: Site, x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    ends = list(accumulate(sizes))
    return [lax.slice_in_dim(x, end - size, end, 1, dim) for size, end in zip(sizes, ends, strict=True)]


@lowers("unbind.int")
def _unbind(_: Site, x: Array, dim: int = 0) -> list[Array]:
    return [lax.index_in_dim(x, i, dim, keepdims=False) for i in range(x.shape[dim])]


@lowers("repeat.default")
def _repeat(site: Site, x: Array, repeats: Sequence[int]) -> Array:
    return jnp.tile(x, repeats).reshape(site.shape)


@lowers("flip.default")
def _flip(_: Site, x: Array, dims: Sequence[int]) -> Array:
    return jnp.flip(x, tuple(dims))


@lowers("constant_pad_nd.default")
def _pad(_: Site, x: Array, pad: Sequence[int], value: float = 0) -> Array:
    # torch names the padding of the last dimension first.
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    config = [(0, 0, 0)] * (x.ndim - len(pairs)) + [(before, after, 0) for before, after in pairs]
    return lax.pad(x, jnp.asarray(value, x.dtype), config)


@lowers("diagonal.default")
def _diagonal(_: Site, x: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return jnp.diagonal(x, offset, dim1, dim2)
