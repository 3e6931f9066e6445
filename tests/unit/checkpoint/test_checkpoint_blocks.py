"""Blocks of a file that several threads transfer."""

import threading
import time

import pytest

from unison.checkpoint.blocks import transfer_blocks, transfer_pool

BLOCK = 1 << 20


def test_no_thread_is_at_work_after_an_error() -> None:
    begun, finished = threading.Event(), list[int]()
    at_work: set[int] = set()

    def transfer(descriptor: int, pieces: list[memoryview], offset: int) -> int:
        if offset == 0:
            begun.wait(5)
            raise OSError(28, "No space left on device")
        at_work.add(offset)
        begun.set()
        time.sleep(0.01)
        at_work.discard(offset)
        finished.append(offset)
        return len(pieces[0])

    pool = transfer_pool()
    with pytest.raises(OSError, match="No space left"):
        transfer_blocks(transfer, -1, [memoryview(bytearray(16 * BLOCK))], BLOCK, pool)
    by_then = list(finished)
    assert not at_work
    pool.shutdown()
    assert finished == by_then
    assert max(by_then, default=0) < 8 * BLOCK
