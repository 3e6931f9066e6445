"""Operations on each entry by itself."""

from typing import Any

from unison.learner.engines.lowering.table import Array, Lowering, Site, cast, jax, jnp, lax, lowers, rounded


def _unary(function: Any) -> Lowering:
    def lowering(site: Site, x: Array) -> Array:
        return function(cast(x, site.dtype) if site.dtype != jnp.bool_ else x)

    return lowering


def _binary(function: Any) -> Lowering:
    def lowering(site: Site, a: Any, b: Any, alpha: float = 1) -> Array:
        # Comparisons give booleans but compare in the type of their operands.
        dtype = jnp.result_type(a, b) if site.dtype == jnp.bool_ else site.dtype
        second = cast(b, dtype) if alpha == 1 else cast(b, dtype) * cast(alpha, dtype)
        return function(cast(a, dtype), second)

    return lowering


def _logical(function: Any) -> Lowering:
    def lowering(_: Site, a: Array, b: Array) -> Array:
        return function(a, b)

    return lowering


for _name, _function in {
    "neg": jnp.negative, "exp": jnp.exp, "expm1": jnp.expm1, "log": jnp.log, "log1p": jnp.log1p, "log2": jnp.log2,
    "sqrt": jnp.sqrt, "rsqrt": lax.rsqrt, "abs": jnp.abs, "sign": jnp.sign, "floor": jnp.floor, "ceil": jnp.ceil,
    "round": jnp.round, "trunc": jnp.trunc, "sin": jnp.sin, "cos": jnp.cos, "tan": jnp.tan, "atan": jnp.arctan,
    "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "erf": jax.scipy.special.erf,
    "reciprocal": jnp.reciprocal, "logical_not": jnp.logical_not, "bitwise_not": jnp.invert, "acos": jnp.arccos,
    "asin": jnp.arcsin, "sinh": jnp.sinh, "cosh": jnp.cosh, "log10": jnp.log10, "lgamma": jax.scipy.special.gammaln,
    "atanh": jnp.arctanh,
}.items():  # fmt: skip
    lowers(f"{_name}.default")(_unary(_function))

for _names, _function in (
    (("add.Tensor", "add.Scalar"), jnp.add),
    (("sub.Tensor", "sub.Scalar"), jnp.subtract),
    (("mul.Tensor", "mul.Scalar"), jnp.multiply),
    (("div.Tensor", "div.Scalar"), jnp.true_divide),
    (("remainder.Tensor", "remainder.Scalar"), jnp.remainder),
    (("fmod.Tensor", "fmod.Scalar"), jnp.fmod),
    (("pow.Tensor_Tensor", "pow.Scalar"), jnp.power),
    (("atan2.default",), jnp.arctan2),
    (("minimum.default",), jnp.minimum),
    (("maximum.default",), jnp.maximum),
    (("eq.Tensor", "eq.Scalar"), jnp.equal),
    (("ne.Tensor", "ne.Scalar"), jnp.not_equal),
    (("lt.Tensor", "lt.Scalar"), jnp.less),
    (("le.Tensor", "le.Scalar"), jnp.less_equal),
    (("gt.Tensor", "gt.Scalar"), jnp.greater),
    (("ge.Tensor", "ge.Scalar"), jnp.greater_equal),
    (("bitwise_and.Tensor", "bitwise_and.Scalar"), jnp.bitwise_and),
    (("bitwise_or.Tensor", "bitwise_or.Scalar"), jnp.bitwise_or),
    (("bitwise_xor.Tensor", "bitwise_xor.Scalar"), jnp.bitwise_xor),
):
    lowers(*_names)(_binary(_function))


for _name, _function in {"and": jnp.logical_and, "or": jnp.logical_or, "xor": jnp.logical_xor}.items():
    lowers(f"logical_{_name}.default")(_logical(_function))


@lowers("isnan.default")
def _isnan(_: Site, x: Array) -> Array:
    return jnp.isnan(x)


@lowers("isinf.default")
def _isinf(_: Site, x: Array) -> Array:
    return jnp.isinf(x)


@lowers("nan_to_num.default")
def _nan_to_num(
    _: Site, x: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Array:
    return jnp.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf)


@lowers("rsub.Scalar", "rsub.Tensor")
def _rsub(site: Site, a: Array, b: Any, alpha: float = 1) -> Array:
    return cast(b, site.dtype) - cast(a, site.dtype) * cast(alpha, site.dtype)


@lowers("div.Tensor_mode", "div.Scalar_mode")
def _div_mode(site: Site, a: Array, b: Any, rounding_mode: str | None = None) -> Array:
    if rounding_mode == "floor":
        return jnp.floor_divide(a, cast(b, a.dtype))
    quotient = jnp.true_divide(a, b)
    return jnp.trunc(quotient) if rounding_mode == "trunc" else quotient


@lowers("pow.Tensor_Scalar")
def _pow(site: Site, x: Array, exponent: float) -> Array:
    x = cast(x, site.dtype)
    if exponent == 2:
        return x * x
    if exponent == 0.5:
        return jnp.sqrt(x)
    if float(exponent).is_integer():
        return lax.integer_pow(x, int(exponent))
    return jnp.power(x, cast(exponent, site.dtype))


@lowers("clamp.default", "clamp.Tensor", "clamp_min.default", "clamp_min.Tensor")
def _clamp(site: Site, x: Array, low: Any = None, high: Any = None) -> Array:
    x = cast(x, site.dtype)
    if low is not None:
        x = jnp.maximum(x, cast(low, site.dtype))
    return x if high is None else jnp.minimum(x, cast(high, site.dtype))


@lowers("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(site: Site, x: Array, high: Any) -> Array:
    return _clamp(site, x, None, high)


@lowers("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(site: Site, condition: Array, a: Any, b: Any) -> Array:
    return jnp.where(condition, cast(a, site.dtype), cast(b, site.dtype))


@lowers("gelu.default")
def _gelu(_: Site, x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


@lowers("elu.default")
def _elu(_: Site, x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale))


@lowers("leaky_relu.default")
def _leaky_relu(_: Site, x: Array, slope: float = 0.01) -> Array:
    return jnp.where(x > 0, x, x * cast(slope, x.dtype))


@lowers("_to_copy.default", "to.dtype", "prims.convert_element_type.default")
def _to(site: Site, x: Array, *_: Any, **__: Any) -> Array:
    return rounded(site, x.astype(site.dtype))


@lowers("copy.default")
def _copy(site: Site, old: Array, new: Array, non_blocking: bool = False) -> Array:
    return jnp.broadcast_to(new, site.shape).astype(old.dtype)


@lowers("clone.default", "detach.default", "alias.default", "lift_fresh.default", "lift_fresh_copy.default")
def _identity(_: Site, x: Array, **__: Any) -> Array:
    return x
