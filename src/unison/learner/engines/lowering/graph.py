"""From a functional graph of aten operations to a function of JAX arrays."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unison.learner.engines.lowering.pieces import Cuts, Pieces, lower
from unison.learner.engines.lowering.table import DTYPES, OPERATIONS, Array, Site, jax, jnp, lax, operation_name
from unison.learner.engines.torch_parts import map_arg
from unison.modules.module_state import to_numpy

_COMPUTED_ONCE = ("amax.default", "sum.default", "exp.default")
"""Where these give one number, XLA would compute it again for every entry of what it is used on."""
_TRANSPOSES = ("t.default", "transpose.int", "permute.default")
_FACTORS = {"mm.default": (0, 1), "bmm.default": (0, 1), "addmm.default": (1, 2), "convolution.default": (0, 1)}
"""Which arguments of products are multiplied."""


def missing_operations(module: torch.fx.GraphModule) -> list[str]:
    """The operations of a graph that no lowering knows, and the dtypes that JAX has not."""
    missing: set[str] = set()
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        name = operation_name(node.target)
        if name not in OPERATIONS:
            missing.add(str(node.target))
        value = _first_value(node)
        if isinstance(value, Tensor) and value.dtype not in DTYPES:
            missing.add(f"{node.target} on {value.dtype}")
    return sorted(missing)


def to_jax(module: torch.fx.GraphModule, cuts: Mapping[int, Cuts] | None = None) -> Callable[..., list[Any]]:
    """The function that a graph computes: flat list of inputs in, flat list of outputs out.

    Args:
        module: the graph.
        cuts: vectors of such a length are computed in pieces; inputs and outputs may be.
    """
    nodes = list(module.graph.nodes)
    sites = {node: _site(node) for node in nodes if node.op == "call_function"}

    def run(inputs: list[Array]) -> list[Array]:
        values: dict[Any, Any] = {}
        remaining = iter(inputs)

        def load(argument: Any) -> Any:
            return map_arg(argument, values.__getitem__)

        for node in nodes:
            if node.op == "placeholder":
                values[node] = jax.tree.map(_held, next(remaining))
            elif node.op == "get_attr":
                values[node] = jnp.asarray(to_numpy(getattr(module, node.target)))
            elif node.op == "output":
                return [_returned(argument, load(argument)) for argument in node.args[0]]
            elif node.target is operator.getitem:
                values[node] = values[node.args[0]][node.args[1]]
            else:
                site = sites[node]
                result = lower(node, site, load(node.args), load(node.kwargs), cuts or {})
                is_fitted = isinstance(result, tuple | list | Pieces)
                values[node] = result if is_fitted else _fitted(node, site, result)
        raise AssertionError("a graph ends with its output")

    return run


def _held(array: Array) -> Array:
    """An input as programs hold it."""
    return array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array


def _returned(node: Any, value: Any) -> Any:
    """An output, of the dtype that torch gives it."""
    if isinstance(node, torch.fx.Node) and getattr(_first_value(node), "dtype", None) is torch.bfloat16:
        return jax.tree.map(_as_bfloat16, value)
    return value


def _as_bfloat16(array: Array) -> Array:
    return array.astype(jnp.bfloat16)


def _fitted(node: Any, site: Site, result: Array) -> Array:
    """A result of the dtype that torch gives it; another shape is an error of the lowering."""
    if result.shape != site.shape:
        raise NotImplementedError(f"{node.target} gives {site.shape} in torch but {result.shape} in JAX")
    fitted = result.astype(site.dtype)
    return (
        lax.optimization_barrier(fitted)
        if site.shape == () and operation_name(node.target) in _COMPUTED_ONCE
        else fitted
    )


def _first_value(node: Any) -> Any:
    """What it gives; of several, the first tensor."""
    value: Any = node.meta.get("val")
    if not isinstance(value, tuple | list):
        return value
    return next((item for item in value if isinstance(item, Tensor)), None)  # pyright: ignore[reportUnknownVariableType]


def _site(node: Any) -> Site:
    value = _first_value(node)
    transposed = tuple(_is_transposed(argument) for argument in node.args)
    if not isinstance(value, Tensor):
        return Site((), None, False, transposed)
    is_bfloat16 = value.dtype is torch.bfloat16 and not _is_only_multiplied(node)
    return Site(tuple(value.shape), DTYPES.get(value.dtype), is_bfloat16, transposed)


def _is_only_multiplied(node: Any) -> bool:
    """Whether it is a conversion of which nothing but products comes, maybe of its transpose."""
    if operation_name(node.target) not in ("_to_copy.default", *_TRANSPOSES):
        return False

    def only_multiplies(user: Any) -> bool:
        places = _FACTORS.get(operation_name(user.target))
        if places is None:
            return operation_name(user.target) in _TRANSPOSES and _is_only_multiplied(user)
        return all(number in places for number, argument in enumerate(user.args) if argument is node)

    return all(map(only_multiplies, node.users))


def _is_transposed(node: Any) -> bool:
    """Whether it is turned an odd number of times, as in a backward pass weights are twice."""
    turned = False
    while isinstance(node, torch.fx.Node) and node.op == "call_function" and operation_name(node.target) in _TRANSPOSES:
        turned, node = not turned, node.args[0]
    return turned
