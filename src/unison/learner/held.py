"""What a torch module and all below it hold: torch's own walk makes names, and takes several times longer."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def held_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Every parameter; one that several parts share comes as often."""
    return _held(module, "_parameters")


def held_buffers(module: nn.Module) -> Iterator[Tensor]:
    """Every buffer; one that several parts share comes as often."""
    return _held(module, "_buffers")


def buffer_places(module: nn.Module) -> Iterator[dict[str, Tensor | None]]:
    """The dicts that buffers hang in, by name."""
    return _places(module, "_buffers")


def _held(module: nn.Module, kind: str) -> Iterator[Any]:
    for place in _places(module, kind):
        yield from [value for value in place.values() if value is not None]


def _places(module: nn.Module, kind: str) -> Iterator[dict[str, Any]]:
    parts: list[dict[str, Any]] = [module.__dict__]
    for part in parts:
        # A place that was registered without anything in it holds None.
        if below := part["_modules"]:
            parts += [module.__dict__ for module in below.values() if module is not None]
        if place := part[kind]:
            yield place
