"""PyTorch's operations in terms of JAX: a table from names to functions, and what runs a graph by it.

Importing this package needs JAX (the extra `xla`).
"""

from unison.learner.engines.lowering import creation, indexing, pointwise, products, ranks, reductions, shapes
from unison.learner.engines.lowering.graph import missing_operations, to_jax
from unison.learner.engines.lowering.steps import Steps
from unison.learner.engines.lowering.table import OPERATIONS

__all__ = [
    "OPERATIONS",
    "Steps",
    "creation",
    "indexing",
    "missing_operations",
    "pointwise",
    "products",
    "ranks",
    "reductions",
    "shapes",
    "to_jax",
]
