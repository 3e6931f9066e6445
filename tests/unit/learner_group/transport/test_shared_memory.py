import mmap
import os
import resource
from pathlib import Path

import pytest

from support.hosted import limit
from unison.errors import LearnerGroupError
from unison.learner_group.shared_memory import Segment, SharedMemoryError


def test_what_is_written_is_read_by_another_holder_of_the_descriptor() -> None:
    segment = Segment()
    segment.write(b"abc", 0)
    segment.write(memoryview(b"xyz"), 5)
    other = Segment(os.dup(segment.descriptor))
    assert other.read() == b"abc\0\0xyz"
    assert other.read(2) == b"ab"


def test_a_private_mapping_keeps_its_writes_to_itself() -> None:
    segment = Segment()
    segment.write(b"0000", 0)
    mine, theirs = segment.map(4, private=True), segment.map(4, private=True)
    mine[0:1] = b"1"
    assert (mine[:4], theirs[:4], segment.read()) == (b"1000", b"0000", b"0000")


def test_a_shared_mapping_is_seen_by_all() -> None:
    segment = Segment()
    segment.reserve(mmap.PAGESIZE)
    first, second = segment.map(8), segment.map(8)
    first[0:1] = b"1"
    assert second[0:1] == b"1"


def test_mappings_outlive_the_descriptor() -> None:
    segment = Segment()
    segment.write(b"here", 0)
    mapping = segment.map(4)
    segment.close()
    segment.close()
    assert mapping[:4] == b"here"


def test_reading_more_than_there_is_says_so() -> None:
    segment = Segment()
    segment.write(b"abc", 0)
    with pytest.raises(LearnerGroupError, match="lacks 2 of the 5 bytes"):
        segment.read(5)


def test_no_room_is_an_error_that_names_the_size_and_the_cure() -> None:
    segment = Segment()
    with limit(resource.RLIMIT_FSIZE, 1 << 20):
        with pytest.raises(SharedMemoryError, match=r"4,194,304 bytes.*File too large.*smaller batches"):
            segment.reserve(4 << 20)
        with pytest.raises(SharedMemoryError, match=r"4,194,304 bytes"):
            segment.write(bytes(4 << 20), 0)
    segment.write(bytes(4 << 20), 0)


def test_a_segment_has_no_name_in_any_file_system() -> None:
    before = set(os.listdir("/dev/shm"))
    segment = Segment()
    segment.reserve(1 << 20)
    assert set(os.listdir("/dev/shm")) == before
    assert "memfd" in str(Path(f"/proc/self/fd/{segment.descriptor}").readlink())
