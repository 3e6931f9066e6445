"""A legacy in shared memory."""

import mmap
import struct
from collections.abc import Sequence
from typing import Any

from unison.learner_group.codec import decode, encode
from unison.learner_group.legacy import Legacy
from unison.learner_group.shared_memory import Segment

NUM_KEPT = 3
_NUMBER = struct.Struct("<Q")  # its place in the order of all values, from 1; 0 if there is none
_SIZES = struct.Struct("<QQ")  # behind the number: bytes of the skeleton, and in all
_HEADER = struct.Struct("<QQQ")
_START = 64


class SharedLegacy(Legacy):
    """A segment for each value; the driver holds them too, so they outlive the worker.

    Args:
        segments: as many as values are kept, alike for all workers of the rank.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._memory: list[memoryview | None] = [None] * len(segments)
        self._numbers = [_header(segment)[0] for segment in segments]

    def leave(self, value: Any) -> None:
        """Write it over the oldest one."""
        oldest = self._numbers.index(min(self._numbers))
        payload = encode(value)
        memory = self._room(oldest, _START + payload.size)
        number = max(self._numbers) + 1
        memory[: _NUMBER.size] = _NUMBER.pack(0)  # until the rest is written, there is nothing
        memory[_NUMBER.size : _HEADER.size] = _SIZES.pack(len(payload.skeleton), payload.size)
        payload.copy_to(memory[_START:])
        memory[: _NUMBER.size] = _NUMBER.pack(number)
        self._numbers[oldest] = number

    def find(self) -> list[Any]:
        """Read them all."""
        order = sorted(self._segments, key=_header, reverse=True)
        return [_value(segment) for segment in order if _header(segment)[0]]

    def _room(self, index: int, size: int) -> memoryview:
        """A segment's memory, at least `size` bytes; mapped once, for that is quicker than to write to a file."""
        memory = self._memory[index]
        if memory is None or len(memory) < size:
            length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            for segment in self._segments:  # once the first value has found room, so will all like it
                segment.reserve(length)
            memory = self._memory[index] = memoryview(self._segments[index].map(length))
        return memory


def _header(segment: Segment) -> tuple[int, int, int]:
    data = segment.read(_HEADER.size) if segment.size else bytes(_HEADER.size)
    number, skeleton, size = _HEADER.unpack(data)
    return number, skeleton, size


def _value(segment: Segment) -> Any:
    _, skeleton, size = _header(segment)
    return decode(memoryview(segment.read(_START + size))[_START:], skeleton)
