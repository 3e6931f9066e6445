"""Float32 products on the processor's matrix unit, for programs of XLA."""

import ctypes
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from unison.learner.engines.kernels.calls import make_call

_NEEDS = {"amx_tile", "amx_bf16", "avx512f"}
_OPTIONS = ("-mamx-tile", "-mamx-bf16", "-mavx512f")
_SMALLEST = 64


def is_worth_it(rows: int, inner: int, columns: int) -> bool:
    """Whether a product of these sizes is faster by `product` than by XLA's own."""
    return min(rows, inner, columns) >= _SMALLEST


def is_available() -> bool:
    """Whether this machine has the matrix unit and a C++ compiler; the first call compiles, a matter of 2 seconds."""
    return _target() is not None


def product(a: Any, b: Any, *, a_is_transposed: bool = False, b_is_transposed: bool = False) -> Any:
    """`a @ b` [m, n] in float32, of `a` [m, k] and `b` [k, n], either of which may be given transposed.

    Under `jax.vmap`, one call makes all products.

    Args:
        a: array of JAX, [m, k], or [k, m] if it is transposed.
        b: array of JAX, [k, n], or [n, k] if it is transposed.
        a_is_transposed: whether `a` is.
        b_is_transposed: whether `b` is.
    """
    jax: Any = import_module("jax")
    shape = (a.shape[int(a_is_transposed)], b.shape[int(not b_is_transposed)])
    call = jax.ffi.ffi_call(_target(), jax.ShapeDtypeStruct(shape, a.dtype), vmap_method="broadcast_all")
    return call(a, b, left_is_transposed=a_is_transposed, right_is_transposed=b_is_transposed)


@cache
def _target() -> str | None:
    """The name under which XLA knows the product."""
    if not processor_flags() >= _NEEDS:
        return None
    made = make_call("xla_product.cpp", "unison_product", _OPTIONS)
    if made is None:
        return None
    name, library = made
    library.unison_request_tiles.restype = ctypes.c_bool
    return name if library.unison_request_tiles() else None


def processor_flags() -> set[str]:
    """What Linux says that this processor can do; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
