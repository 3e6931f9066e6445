"""The table of lowerings, and what a lowering knows of the place it fills."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

import torch

# JAX's own types say little of arrays in a trace, and it is an extra: so it is Any here.
jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")
lax: Any = import_module("jax.lax")

Array: TypeAlias = Any

DTYPES: dict[torch.dtype, Any] = {
    torch.float32: jnp.float32,
    torch.float64: jnp.float64,
    torch.float16: jnp.float16,
    torch.bfloat16: jnp.float32,
    torch.int64: jnp.int64,
    torch.int32: jnp.int32,
    torch.int16: jnp.int16,
    torch.int8: jnp.int8,
    torch.uint8: jnp.uint8,
    torch.bool: jnp.bool_,
}
"""JAX's types. What is bfloat16 in torch is held in float32, and rounded where it is multiplied, where products give it
and where it comes from other types: after each operation it takes XLA's CPU backend three times as long as that."""


@dataclass(frozen=True)
class Site:
    """One operation of a graph.

    Args:
        shape: of its result (of the first, if there are several).
        dtype: of its result, JAX's.
        is_bfloat16: whether it is bfloat16 in torch, and not only multiplied, which rounds it anyway.
        transposed: for each argument, whether it is a matrix that the graph has just transposed.
    """

    shape: tuple[int, ...]
    dtype: Any
    is_bfloat16: bool
    transposed: tuple[bool, ...]


Lowering: TypeAlias = Callable[..., Any]
OPERATIONS: dict[str, Lowering] = {}
"""Lowerings by the name of the aten operation; called with the site and the operation's arguments."""


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Decorator: the function lowers the aten operations of these names, such as "add.Tensor"."""

    def add(lowering: Lowering) -> Lowering:
        for name in names:
            OPERATIONS[name] = lowering
        return lowering

    return add


def operation_name(target: Any) -> str:
    """The name of a graph's call target in the table."""
    return str(target).removeprefix("aten.")


def rounded(site: Site, result: Array) -> Array:
    """A result of a place where torch rounds to bfloat16."""
    return lax.reduce_precision(result.astype(jnp.float32), 8, 7) if site.is_bfloat16 else result


def cast(value: Any, dtype: Any) -> Array:
    """A tensor or a number as an array of `dtype`."""
    return jnp.asarray(value, dtype)
