"""What a Learner needs from the group it is part of: its rank, and sums over all ranks."""

import json
from typing import Any, Protocol

import torch
from torch import Tensor

from unison.learner.shared_buffers import SharedBuffers

_LENGTH, _SHORT = 8, 4096  # bytes: of a value's length, and of a value that goes with it


class Collective(Protocol):
    """One rank's part of a group. Whoever fills it makes every result bit-identical on all ranks."""

    rank: int
    world_size: int
    shared_buffers: SharedBuffers | None
    """Through which code that is not Python may take part in sums, if the ranks share memory."""

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Replace a contiguous tensor by its sum over all ranks; returns it."""
        ...


class Alone:
    """A group of one: sums are the tensors themselves."""

    rank = 0
    world_size = 1
    shared_buffers: SharedBuffers | None = None

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Nothing to add."""
        return tensor


def gather_objects(collective: Collective, value: Any) -> list[Any]:
    """A small JSON-able value of every rank, in order of rank; the same list on each.

    One sum where all values are short, for each makes the ranks wait for each other; a second one for the rest.
    """
    if collective.world_size == 1:
        return [value]
    data = json.dumps(value).encode()
    begun = _table(collective, len(data).to_bytes(_LENGTH, "little") + data[:_SHORT], _LENGTH + _SHORT)
    lengths = [int.from_bytes(row[:_LENGTH], "little") for row in begun]
    texts = [row[_LENGTH:] for row in begun]
    if max(lengths) > _SHORT:
        rest = _table(collective, data[_SHORT:], max(lengths) - _SHORT)
        texts = [first + more for first, more in zip(texts, rest, strict=True)]
    return [json.loads(text[:length]) for text, length in zip(texts, lengths, strict=True)]


def _table(collective: Collective, row: bytes, width: int) -> list[bytes]:
    """A row of bytes of every rank, filled up with zeros to `width`."""
    table = torch.zeros((collective.world_size, width), dtype=torch.uint8)
    if row:
        table[collective.rank, : len(row)] = torch.frombuffer(bytearray(row), dtype=torch.uint8)
    return [own.tobytes() for own in collective.all_reduce_(table).numpy()]
