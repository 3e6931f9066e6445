"""When two traced steps are one program: same operations on same shapes, whatever tensors they are bound to."""

import hashlib
from typing import Any

from torch import Tensor

from unison.learner.engines.torch_parts import map_arg
from unison.learner.engines.traced import TracedStep


def fingerprint(traced: TracedStep) -> str:
    """A digest of everything that a program depends on except the values of its inputs."""
    digest = hashlib.sha256()
    names: dict[Any, int] = {}

    def name(node: Any) -> "_Name":
        return _Name(names[node])

    def put(value: Any) -> None:
        digest.update(repr(value).encode())

    for node in traced.graph.module.graph.nodes:
        names[node] = len(names)
        put((node.op, str(node.target) if node.op != "placeholder" else "input"))
        put(map_arg((node.args, node.kwargs), name))
        value: Any = node.meta.get("val")
        parts: list[Any] = list(value) if isinstance(value, tuple | list) else [value]  # pyright: ignore[reportUnknownArgumentType]
        for part in parts:
            if isinstance(part, Tensor):
                put((tuple(part.shape), part.dtype))
        if node.op == "get_attr":
            put(getattr(traced.graph.module, node.target).tolist())
    put((traced.scratch, traced.graph.used, traced.gathers, traced.layout.num_metrics, len(traced.graph.state)))
    return digest.hexdigest()


class _Name:
    def __init__(self, number: int) -> None:
        self._number = number

    def __repr__(self) -> str:
        return f"%{self._number}"
