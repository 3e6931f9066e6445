"""What a worker leaves in shared memory: the last values, whole, also for the next one of its rank."""

import numpy as np
import pytest

from unison.learner_group.processes.legacy import NUM_KEPT, SharedLegacy
from unison.learner_group.shared_memory import Segment, SharedMemoryError


def value(number: int, size: int = 10) -> tuple[int, np.ndarray]:
    return number, np.full(size, number, np.float32)


def numbers(legacy: SharedLegacy) -> list[int]:
    found = legacy.find()
    for number, array in found:
        assert np.all(array == number)
    return [number for number, _ in found]


def test_the_last_values_are_kept_and_outlive_their_worker() -> None:
    segments = [Segment() for _ in range(NUM_KEPT)]
    legacy = SharedLegacy(segments)
    assert legacy.find() == []
    for number in range(1, 8):
        legacy.leave(value(number, size=[10, 5000, 3, 40_000][number % 4]))
        assert numbers(legacy) == list(range(number, max(0, number - NUM_KEPT), -1))
    successor = SharedLegacy(segments)
    assert numbers(successor) == [7, 6, 5]
    successor.leave(value(8))
    assert numbers(successor) == [8, 7, 6]


def test_a_worker_that_ends_on_the_way_has_left_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [Segment() for _ in range(NUM_KEPT)]
    legacy = SharedLegacy(segments)
    for number in range(1, 5):
        legacy.leave(value(number))

    class Ended(Exception):
        pass

    def end(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr("unison.learner_group.codec.Payload.copy_to", end)
        with pytest.raises(Ended):
            legacy.leave(value(5))
    assert numbers(SharedLegacy(segments)) == [4, 3]


def test_no_room_leaves_the_last_values(monkeypatch: pytest.MonkeyPatch) -> None:
    legacy = SharedLegacy([Segment() for _ in range(NUM_KEPT)])
    for number in range(1, 5):
        legacy.leave(value(number))

    def full(*_: object) -> None:
        raise SharedMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "reserve", full)
        legacy.leave(value(5))  # has its room already
        with pytest.raises(SharedMemoryError):
            legacy.leave(value(6, size=100_000))
    assert numbers(legacy) == [5, 4, 3]
