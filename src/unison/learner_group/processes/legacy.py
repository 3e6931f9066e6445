"""A legacy in shared memory."""

import struct
from collections.abc import Sequence
from typing import Any

from unison.learner_group.legacy import Legacy
from unison.learner_group.processes.codec import decode, encode
from unison.learner_group.shared_memory import Segment

NUM_KEPT = 3
_HEADER = struct.Struct("<QQQ")  # its place in the order of all values, from 1; bytes of the skeleton, and in all
_START = 64


class SharedLegacy(Legacy):
    """A segment for each value; the driver holds them too, so they outlive the worker.

    Args:
        segments: as many as values are kept, alike for all workers of the rank.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments

    def leave(self, value: Any) -> None:
        """Write it over the oldest one."""
        numbers = [number for number, _, _ in map(_header, self._segments)]
        segment = self._segments[numbers.index(min(numbers))]
        payload = encode(value)
        segment.write(bytes(_HEADER.size), 0)  # until the rest is written, there is nothing
        payload.write(segment, _START)
        segment.write(_HEADER.pack(max(numbers) + 1, len(payload.skeleton), payload.size), 0)

    def find(self) -> list[Any]:
        """Read them all."""
        order = sorted(self._segments, key=_header, reverse=True)
        return [_value(segment) for segment in order if _header(segment)[0]]


def _header(segment: Segment) -> tuple[int, int, int]:
    data = segment.read(_HEADER.size) if segment.size else bytes(_HEADER.size)
    number, skeleton, size = _HEADER.unpack(data)
    return number, skeleton, size


def _value(segment: Segment) -> Any:
    _, skeleton, size = _header(segment)
    return decode(memoryview(segment.read(_START + size))[_START:], skeleton)
