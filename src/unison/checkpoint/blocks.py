"""The bytes of a file, read or written block by block on several threads, and the SHA-256 of each block.

Hashing one long stream goes at the speed of one core, slower than a disk. Here each thread takes a block at a time and
hashes it in pieces that still lie in its cache from being read or written.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

Transfer = Callable[[int, list[memoryview], int], int]
"""`os.preadv` or `os.pwritev`."""

_MIN_BLOCK = 1 << 20
_MAX_BLOCK = 64 << 20
_PIECE = 256 << 10
_THREADS = min(4, os.cpu_count() or 1)


def block_size(size: int) -> int:
    """Bytes of each block of a file of `size` bytes: 1 MiB, and more for files above 64 MiB."""
    return min(_MAX_BLOCK, max(_MIN_BLOCK, 1 << max(0, (size - 1) // 64).bit_length()))


def transfer_pool() -> ThreadPoolExecutor:
    """The threads that help `transfer_blocks`."""
    return ThreadPoolExecutor(max(1, _THREADS - 1))


def transfer_blocks(
    transfer: Transfer, descriptor: int, buffers: Iterable[memoryview], block: int, pool: ThreadPoolExecutor
) -> list[str]:
    """Read or write the whole file, which is the buffers one after another; return the digest of each block.

    The buffers are asked for one after another, as they are needed. When this returns or raises, no thread is still
    at work on the descriptor.

    Raises:
        OSError: reading or writing failed.
        EOFError: the file is shorter than the buffers.
    """
    blocks = _blocks(buffers, block)
    lock = threading.Lock()
    digests: dict[int, str] = {}

    def work() -> None:
        while True:
            with lock:
                index, views = next(blocks, (-1, ()))
            if index < 0:
                return
            digests[index] = _transfer_block(transfer, descriptor, views, index * block)

    # The first block tells whether there is enough to do for more threads than this one.
    first = next(blocks, None)
    if first is None:
        return []
    helpers = [pool.submit(work) for _ in range(_THREADS - 1)] if sum(map(len, first[1])) == block else []
    try:
        digests[0] = _transfer_block(transfer, descriptor, first[1], 0)
        work()
    finally:
        with lock:
            blocks.close()  # After an error nobody begins another block.
        wait(helpers)
    for helper in helpers:
        helper.result()
    return [digests[index] for index in range(len(digests))]


def _blocks(buffers: Iterable[memoryview], block: int) -> Generator[tuple[int, Sequence[memoryview]]]:
    index, views, room = 0, list[memoryview](), block
    for buffer in buffers:
        while len(buffer):
            head, buffer = buffer[:room], buffer[room:]
            views.append(head)
            room -= len(head)
            if not room:
                yield index, views
                index, views, room = index + 1, [], block
    if views:
        yield index, views


def _transfer_block(transfer: Transfer, descriptor: int, views: Sequence[memoryview], offset: int) -> str:
    sha = hashlib.sha256()
    for view in views:
        while len(view):
            piece = view[:_PIECE]
            piece = piece[: transfer(descriptor, [piece], offset)]
            if not len(piece):
                raise EOFError(f"it ends at byte {offset}")
            sha.update(piece)
            offset += len(piece)
            view = view[len(piece) :]
    return sha.hexdigest()
