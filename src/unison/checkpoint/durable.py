"""Bytes and names that a crash of the machine cannot take."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_EARLY = 1 << 20  # smaller pieces cost more calls than they save waiting
_SYNC_FILE_RANGE_WRITE = 2  # Linux, sync_file_range(2)
# None where the system has no such call.
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


def write_early(descriptor: int, buffers: list[memoryview], offset: int) -> int:
    """As `os.pwritev`, in order within each MiB; the disk begins with a MiB once it is full."""
    written = os.pwritev(descriptor, buffers, offset)
    start, end = offset // _EARLY * _EARLY, (offset + written) // _EARLY * _EARLY
    if end > start:
        begin_writing(descriptor, start, end - start)
    return written


def begin_writing(descriptor: int, offset: int = 0, size: int = 0) -> None:
    """Let the disk begin with bytes of a file, so that little is left for `sync_all` to wait for; 0: up to its end."""
    if _sync_file_range is not None:
        # Only a hint: what it cannot do, and whether it failed, `sync_all` finds.
        flags = ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        _sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size), flags)


def sync_all(paths: Iterable[Path]) -> None:
    """Wait until the bytes of files, and the names in directories, are on the disk.

    To be called once everything is written and begun: the first wait makes the file system commit it all, which keeps
    writers waiting, and the others find it done. Several at once would make it commit several times.
    """
    for path in paths:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Wait for one file or directory."""
    # A file that is opened anew tells of an earlier failure to write it, if nobody was told yet (Linux since 4.17).
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
