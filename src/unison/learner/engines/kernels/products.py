"""Products by a processor's units for bfloat16, for programs of XLA: rounded to it, or exact ones of its parts."""

import ctypes
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from unison.learner.engines.kernels.calls import make_call

Precision = Literal["float32", "bfloat16"]


class _Unit(NamedTuple):
    """What computes products.

    Args:
        needs: of the processor, in the words of Linux.
        options: of the compiler.
        smallest: the length of matrices from which on it is faster than XLA.
    """

    needs: frozenset[str]
    options: tuple[str, ...]
    smallest: int


_AVX512_ROUNDED = _Unit(frozenset({"avx512_bf16", "avx512f"}), ("-mavx512bf16", "-mavx512f"), 16)
_AMX = _Unit(
    _AVX512_ROUNDED.needs | {"amx_tile", "amx_bf16"}, (*_AVX512_ROUNDED.options, "-mamx-tile", "-mamx-bf16"), 64
)
_AMX_ROUNDED = _AMX._replace(options=(*_AMX.options, "-DUNISON_PARTS=1"))
_UNITS: dict[Precision, tuple[_Unit, ...]] = {"float32": (_AMX,), "bfloat16": (_AMX_ROUNDED, _AVX512_ROUNDED)}
"""The faster one first."""


def find_unit(precision: Precision, rows: int, inner: int, columns: int) -> str | None:
    """What `product` takes to make a product of these sizes faster than XLA's own in float32, if this machine has it.

    The first call compiles, a matter of 2 seconds; it takes a C++ compiler.

    Args:
        precision: what numbers are rounded to before they are multiplied; sums are in float32.
        rows: of the left matrix.
        inner: columns of the left matrix, and rows of the right one.
        columns: of the right matrix.
    """
    length = min(rows, inner, columns)
    return next((name for unit in _UNITS[precision] if length >= unit.smallest and (name := _made(unit))), None)


def product(
    unit: str,
    a: Any,
    b: Any,
    *,
    a_is_transposed: bool = False,
    b_is_transposed: bool = False,
    is_rounded: bool = False,
) -> Any:
    """`a @ b` [m, n] in float32, of `a` [m, k] and `b` [k, n], either of which may be given transposed.

    Under `jax.vmap`, one call makes all products.

    Args:
        unit: from `find_unit`; it takes matrices of any size.
        a: array of JAX in float32, [m, k], or [k, m] if it is transposed.
        b: array of JAX in float32, [k, n], or [n, k] if it is transposed.
        a_is_transposed: whether `a` is.
        b_is_transposed: whether `b` is.
        is_rounded: whether the result is rounded to bfloat16.
    """
    jax: Any = import_module("jax")
    shape = (a.shape[int(a_is_transposed)], b.shape[int(not b_is_transposed)])
    call = jax.ffi.ffi_call(unit, jax.ShapeDtypeStruct(shape, a.dtype), vmap_method="broadcast_all")
    turned = {"left_is_transposed": a_is_transposed, "right_is_transposed": b_is_transposed}
    return call(a, b, **turned, is_rounded=is_rounded)


@cache
def _made(unit: _Unit) -> str | None:
    """The name under which XLA knows the product."""
    if not unit.needs <= processor_flags():
        return None
    made = make_call("xla_product.cpp", "unison_product", unit.options)
    if made is None:
        return None
    name, library = made
    library.unison_is_allowed.restype = ctypes.c_bool
    return name if library.unison_is_allowed() else None


def processor_flags() -> set[str]:
    """What Linux says that this processor can do; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
