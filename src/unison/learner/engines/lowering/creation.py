"""Operations that make tensors of numbers known beforehand."""

from typing import Any

from unison.learner.engines.lowering.table import Array, Site, cast, jnp, lowers


@lowers("full.default", "full_like.default", "new_full.default")
def _full(site: Site, _: Any, value: Any, **__: Any) -> Array:
    return jnp.broadcast_to(cast(value, site.dtype), site.shape)


@lowers("scalar_tensor.default")
def _scalar(site: Site, value: Any, **_: Any) -> Array:
    return cast(value, site.dtype)


@lowers("zeros.default", "zeros_like.default", "new_zeros.default")
@lowers("empty.memory_format", "empty_like.default", "new_empty.default", "empty_strided.default")
@lowers("new_empty_strided.default", "empty_permuted.default")
def _zeros(site: Site, *_: Any, **__: Any) -> Array:
    return jnp.zeros(site.shape, site.dtype)


@lowers("ones.default", "ones_like.default", "new_ones.default")
def _ones(site: Site, *_: Any, **__: Any) -> Array:
    return jnp.ones(site.shape, site.dtype)


@lowers("fill.Scalar", "fill.Tensor")
def _fill(site: Site, _: Array, value: Any) -> Array:
    return jnp.broadcast_to(cast(value, site.dtype), site.shape)


@lowers("arange.start_step", "arange.start", "arange.default")
def _arange(site: Site, start: float = 0, end: float | None = None, step: float = 1, **_: Any) -> Array:
    return jnp.arange(start, end, step, dtype=site.dtype) if end is not None else jnp.arange(start, dtype=site.dtype)
