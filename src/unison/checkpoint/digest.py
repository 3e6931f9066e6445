"""SHA-256 of the blocks of a file, on threads of their own.

Hashing one long stream goes at the speed of one core, slower than a disk. The blocks of a file are
hashed at once, and while other bytes are read or written.
"""

import hashlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

_MIN_BLOCK = 1 << 20
_MAX_BLOCK = 64 << 20
_MAX_THREADS = 4  # as many hash faster than one thread reads
_INLINE_BYTES = 64 << 10  # below this, handing over to a thread costs more than hashing


def block_size(size: int) -> int:
    """Bytes of each block of a file of `size` bytes: 1 MiB, and more for files above 64 MiB."""
    return min(_MAX_BLOCK, max(_MIN_BLOCK, 1 << max(0, (size - 1) // 64).bit_length()))


def hashing_pool() -> ThreadPoolExecutor:
    """The threads for `BlockDigests`."""
    return ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))


class BlockDigests:
    """The SHA-256 of each block of the bytes given to `update`.

    The bytes must not change before `hexdigests` returns.
    """

    def __init__(self, pool: ThreadPoolExecutor, block: int) -> None:
        self._pool = pool
        self._block = block
        self._room = block
        self._views: list[memoryview] = []
        self._pending: deque[Future[str]] = deque()
        self._done: list[str] = []

    def update(self, data: memoryview) -> None:
        """Take in more bytes."""
        while len(data):
            head, data = data[: self._room], data[self._room :]
            self._views.append(head)
            self._room -= len(head)
            if not self._room:
                self._finish_block()

    def hexdigests(self) -> list[str]:
        """Wait for the threads and return the digests."""
        if self._views:
            self._finish_block()
        while self._pending:
            self._done.append(self._pending.popleft().result())
        return self._done

    def _finish_block(self) -> None:
        # What waits to be hashed is held in memory: no more than two blocks for each thread.
        if len(self._pending) >= 2 * _MAX_THREADS:
            self._done.append(self._pending.popleft().result())
        views, self._views = self._views, []
        if self._block - self._room <= _INLINE_BYTES and not self._pending:
            self._done.append(_sha256(views))
        else:
            self._pending.append(self._pool.submit(_sha256, views))
        self._room = self._block


def _sha256(views: Sequence[memoryview]) -> str:
    sha = hashlib.sha256()
    for view in views:
        sha.update(view)
    return sha.hexdigest()
