"""Matrix products and convolutions."""

from collections.abc import Sequence
from typing import Any

from unison.learner.engines.kernels.products import find_unit, product
from unison.learner.engines.lowering.table import Array, Site, cast, jax, jnp, lax, lowers, rounded


def matmul(
    site: Site, a: Array, b: Array, *, a_is_transposed: bool, b_is_transposed: bool, is_rounded: bool = False
) -> Array:
    """`a @ b` [m, n], where `a` [m, k] and `b` [k, n] may be the transposes of what lies in memory.

    Args:
        site: its place.
        a: [m, k].
        b: [k, n].
        a_is_transposed: whether `a` is a transpose.
        b_is_transposed: whether `b` is.
        is_rounded: whether the result is rounded too, where torch has bfloat16.
    """
    if a.dtype == b.dtype == jnp.float32:
        unit = find_unit("bfloat16" if site.is_bfloat16 else "float32", a.shape[0], a.shape[1], b.shape[1])
        if unit is not None:
            turned = {"a_is_transposed": a_is_transposed, "b_is_transposed": b_is_transposed}
            a, b = (a.T if a_is_transposed else a), (b.T if b_is_transposed else b)
            return product(unit, a, b, **turned, is_rounded=is_rounded and site.is_bfloat16)
    made = matmul_of_xla(*_factors(site, a, b), a_is_transposed=a_is_transposed)
    return rounded(site, made) if is_rounded else made


def matmul_of_xla(a: Array, b: Array, *, a_is_transposed: bool) -> Array:
    """The same by XLA's own code.

    XLA's CPU backend multiplies a transposed left matrix several times slower than a straight one.
    So the narrower of the two operands is really turned, and held apart from the product by a
    barrier, or the two would be merged again.
    """
    if not a_is_transposed:
        return jnp.matmul(a, b)
    rows, columns = a.shape[0], b.shape[1]
    if min(rows, columns) <= 1:
        return jnp.matmul(a, b)
    hold = lax.optimization_barrier
    if columns < rows:
        return hold(jnp.matmul(hold(b.T), a.T)).T
    return jnp.matmul(hold(a), b)


def _factors(site: Site, *arrays: Array) -> tuple[Array, ...]:
    """What is multiplied, rounded where torch multiplies bfloat16."""
    return tuple(rounded(site, array) for array in arrays)


@lowers("mm.default")
def _mm(site: Site, a: Array, b: Array) -> Array:
    a_is_transposed, b_is_transposed = site.transposed
    return matmul(site, a, b, a_is_transposed=a_is_transposed, b_is_transposed=b_is_transposed, is_rounded=True)


@lowers("bmm.default", "matmul.default", "dot.default", "mv.default")
def _matmul(site: Site, a: Array, b: Array) -> Array:
    return rounded(site, jnp.matmul(*_factors(site, a, b)))


@lowers("addmm.default")
def _addmm(site: Site, c: Array, a: Array, b: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    made = matmul(site, a, b, a_is_transposed=site.transposed[1], b_is_transposed=site.transposed[2])
    made = made if alpha == 1 else made * cast(alpha, site.dtype)
    return rounded(site, made + (c if beta == 1 else c * cast(beta, site.dtype)))


@lowers("baddbmm.default")
def _baddbmm(site: Site, c: Array, a: Array, b: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    made = jnp.matmul(*_factors(site, a, b))
    return rounded(site, made * cast(alpha, site.dtype) + c * cast(beta, site.dtype))


def _convolve(
    x: Array,
    weight: Array,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    letters = "DHW"[3 - (x.ndim - 2) :]
    return lax.conv_general_dilated(
        x,
        weight,
        tuple(stride),
        [(p, p) for p in padding],
        rhs_dilation=tuple(dilation),
        feature_group_count=groups,
        dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"),
    )


@lowers("convolution.default")
def _convolution(
    site: Site,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    if transposed:
        raise NotImplementedError("a transposed convolution")
    x, weight = _factors(site, x, weight)
    out = _convolve(x, weight, stride, padding, dilation, groups)
    return rounded(site, out if bias is None else out + bias.reshape((-1,) + (1,) * (x.ndim - 2)))


@lowers("convolution_backward.default")
def _convolution_backward(
    site: Site,
    gradient: Array,
    x: Array,
    weight: Array,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    if transposed:
        raise NotImplementedError("a transposed convolution")

    def forward(x: Array, weight: Array) -> Array:
        return _convolve(x, weight, stride, padding, dilation, groups)

    gradient, x, weight = _factors(site, gradient, x, weight)
    _value, pull_back = jax.vjp(forward, x, weight)
    to_x, to_weight = pull_back(gradient)
    others = (0, *range(2, x.ndim))
    return (
        rounded(site, to_x) if wanted[0] else None,
        rounded(site, to_weight) if wanted[1] else None,
        rounded(site, jnp.sum(gradient, others)) if wanted[2] else None,
    )


@lowers("native_layer_norm.default")
def _layer_norm(
    _: Site, x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    dims = tuple(range(x.ndim - len(shape), x.ndim))
    mean = jnp.mean(x, dims, keepdims=True)
    rstd = lax.rsqrt(jnp.var(x, dims, keepdims=True) + eps)
    out = (x - mean) * rstd
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, rstd
