"""What a Learner needs from the group it is part of: its rank, and sums over all ranks."""

import json
from typing import Any, Protocol

import torch
from torch import Tensor


class Collective(Protocol):
    """One rank's part of a group. Whoever fills it makes every result bit-identical on all ranks."""

    rank: int
    world_size: int

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Replace a contiguous tensor by its sum over all ranks; returns it."""
        ...


class Alone:
    """A group of one: sums are the tensors themselves."""

    rank = 0
    world_size = 1

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Nothing to add."""
        return tensor


def gather_objects(collective: Collective, value: Any) -> list[Any]:
    """A small JSON-able value of every rank, in order of rank; the same list on each."""
    if collective.world_size == 1:
        return [value]
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = torch.zeros(collective.world_size, dtype=torch.int64)
    lengths[collective.rank] = len(data)
    collective.all_reduce_(lengths)
    table = torch.zeros((collective.world_size, int(lengths.max())), dtype=torch.uint8)
    table[collective.rank, : len(data)] = data
    collective.all_reduce_(table)
    rows = zip(table.numpy(), lengths.numpy(), strict=True)
    return [json.loads(row[:length].tobytes()) for row, length in rows]
