"""Operations that gather many entries into one."""

from collections.abc import Sequence
from typing import Any

from unison.learner.engines.lowering.table import Array, Site, jax, jnp, lowers

Dims = Sequence[int] | int | None


def axes(x: Array, dims: Dims) -> tuple[int, ...]:
    """The axes that torch means: none named are all."""
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return tuple(range(x.ndim))
    named = [dims] if isinstance(dims, int) else dims
    return tuple(d % x.ndim for d in named) if x.ndim else ()


@lowers("sum.default", "sum.dim_IntList")
def _sum(site: Site, x: Array, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    return jnp.sum(x.astype(site.dtype), axes(x, dims), keepdims=keepdim)


@lowers("mean.default", "mean.dim")
def _mean(site: Site, x: Array, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    return jnp.mean(x.astype(site.dtype), axes(x, dims), keepdims=keepdim)


@lowers("prod.default")
def _prod(site: Site, x: Array, *, dtype: Any = None) -> Array:
    return jnp.prod(x.astype(site.dtype))


@lowers("amax.default")
def _amax(_: Site, x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    return jnp.max(x, axes(x, dims), keepdims=keepdim)


@lowers("amin.default")
def _amin(_: Site, x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    return jnp.min(x, axes(x, dims), keepdims=keepdim)


@lowers("max.default")
def _max(_: Site, x: Array) -> Array:
    return jnp.max(x)


@lowers("min.default")
def _min(_: Site, x: Array) -> Array:
    return jnp.min(x)


@lowers("max.dim")
def _max_dim(_: Site, x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    return jnp.max(x, dim, keepdims=keepdim), jnp.argmax(x, dim, keepdims=keepdim).astype(jnp.int64)


@lowers("min.dim")
def _min_dim(_: Site, x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    return jnp.min(x, dim, keepdims=keepdim), jnp.argmin(x, dim, keepdims=keepdim).astype(jnp.int64)


@lowers("argmax.default")
def _argmax(_: Site, x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.argmax(x, dim, keepdims=keepdim)


@lowers("argmin.default")
def _argmin(_: Site, x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.argmin(x, dim, keepdims=keepdim)


@lowers("any.default", "any.dim", "any.dims")
def _any(_: Site, x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    return jnp.any(x, axes(x, dims), keepdims=keepdim)


@lowers("all.default", "all.dim", "all.dims")
def _all(_: Site, x: Array, dims: Dims = None, keepdim: bool = False) -> Array:
    return jnp.all(x, axes(x, dims), keepdims=keepdim)


@lowers("var.correction")
def _var(_: Site, x: Array, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Array:
    return jnp.var(x, axes(x, dims), ddof=1 if correction is None else correction, keepdims=keepdim)


@lowers("var_mean.correction")
def _var_mean(
    site: Site, x: Array, dims: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Array, Array]:
    variance = _var(site, x, dims, correction=correction, keepdim=keepdim)
    return variance, jnp.mean(x, axes(x, dims), keepdims=keepdim)


@lowers("linalg_vector_norm.default")
def _vector_norm(
    site: Site, x: Array, order: float = 2, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Array:
    x = x.astype(site.dtype)
    if order == 2:
        return jnp.sqrt(jnp.sum(x * x, axes(x, dims), keepdims=keepdim))
    if order == float("inf"):
        return jnp.max(jnp.abs(x), axes(x, dims), keepdims=keepdim)
    return jnp.sum(jnp.abs(x) ** order, axes(x, dims), keepdims=keepdim) ** (1.0 / order)


@lowers("logsumexp.default")
def _logsumexp(_: Site, x: Array, dims: Dims, keepdim: bool = False) -> Array:
    return jax.nn.logsumexp(x, axes(x, dims), keepdims=keepdim)


@lowers("cumsum.default")
def _cumsum(site: Site, x: Array, dim: int, *, dtype: Any = None) -> Array:
    return jnp.cumsum(x.astype(site.dtype), dim)


@lowers("_log_softmax.default")
def _log_softmax(_: Site, x: Array, dim: int, half_to_float: bool) -> Array:
    return jax.nn.log_softmax(x, dim)


@lowers("_softmax.default")
def _softmax(_: Site, x: Array, dim: int, half_to_float: bool) -> Array:
    return jax.nn.softmax(x, dim)
