"""A directory that appears, or is replaced, in one step: whole old or whole new, never half.

A writer fills a hidden sibling `.NAME.unison-new-XXXXXXXX` and holds a lock on it. To publish, it renames
the sibling to NAME; where NAME exists, the two are exchanged by one system call and the old one, now under
the hidden name, is deleted. Where the file system cannot exchange, the old one is renamed to
`.NAME.unison-old-XXXXXXXX` first; a process that is killed before the second rename leaves NAME absent, and
`locate` and `sweep` put the old one back. The lock dies with its process, so that `sweep` can tell what a
killed writer left from what a living one is filling.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from unison.checkpoint.durable import sync_path

_HIDDEN = re.compile(r"\.(?P<name>.+)\.unison-(?P<kind>new|old)-[0-9a-f]{8}", re.DOTALL)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)


class Staging:
    """A hidden, locked directory beside `target`, to be filled and then published or discarded."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._lock: int | None = None
        while True:
            self.path = _hidden(target, "new")
            os.mkdir(self.path)
            try:
                self._lock = lock(self.path)
            except (BlockingIOError, FileNotFoundError):
                continue  # a sweep came between mkdir and lock and took it for a leftover
            except OSError:
                pass  # a file system without locks, where no sweep deletes anything
            return

    def publish(self, *, fsync: bool) -> None:
        """Make this directory appear as `target`; what `target` held before is deleted."""
        trash = _swap_in(self.path, self.target)
        if fsync:
            sync_path(self.target.parent)
        self._release()
        if trash is not None:
            shutil.rmtree(trash, ignore_errors=True)

    def discard(self) -> None:
        """Delete the directory; `target` stays as it was."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _hidden(target: Path, kind: str) -> Path:
    return target.parent / f".{target.name}.unison-{kind}-{secrets.token_hex(4)}"


def lock(path: Path) -> int:
    """A descriptor that holds the lock on a directory.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: another process deleted the directory.
        OSError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(path)  # it may have been deleted between open and lock
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _swap_in(new: Path, target: Path) -> Path | None:
    """Give `new` the name `target`; return where the directory that had the name is now."""
    backup = None
    while True:
        try:
            os.rename(new, target)
            return backup
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if exchange(new, target):
            return new
        backup = _hidden(target, "old")
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, backup)


def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            swap = library.renamex_np
            return lambda a, b: swap(a, b, ctypes.c_uint(_RENAME_SWAP))
        renameat2 = library.renameat2
        return lambda a, b: renameat2(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE))
    except AttributeError:
        return None


_exchange = _exchange_call()


def exchange(first: Path, second: Path) -> bool:
    """Let two directories change names in one step; False where the system cannot."""
    if _exchange is None:
        return False
    if _exchange(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.ENOENT):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


def remove(path: Path) -> None:
    """Delete a directory such that its name never shows half of it, unless another process is faster."""
    trash = _hidden(path, "new")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def locate(path: Path) -> Path:
    """The directory that `path` means, after a writer was killed as well.

    That is `path` itself, unless it is absent and a replaced directory waits to be put back.
    """
    if path.exists():
        return path
    for backup in _leftovers(path.parent, "old", path.name):
        try:
            os.rename(backup, path)
        except FileNotFoundError:
            continue
        except OSError:  # a read-only file system, or a writer that was faster
            return path if path.exists() else backup
        return path
    return path


def sweep(directory: Path) -> None:
    """Delete what killed writers left in `directory`; put back what they were replacing."""
    for backup in _leftovers(directory, "old"):
        match = _HIDDEN.fullmatch(backup.name)
        # Deleted only once its name is seen to be taken, by itself or by what replaced it.
        if match and locate(directory / match["name"]).name == match["name"]:
            _delete_unlocked(backup)
    for leftover in _leftovers(directory, "new"):
        _delete_unlocked(leftover)


def _delete_unlocked(directory: Path) -> None:
    try:
        descriptor = lock(directory)
    except OSError:
        return  # a living writer holds it, it is gone, or there are no locks to tell
    shutil.rmtree(directory, ignore_errors=True)
    os.close(descriptor)


def _leftovers(directory: Path, kind: str, name: str | None = None) -> Iterator[Path]:
    """Hidden directories of a kind, the newest first."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            match = _HIDDEN.fullmatch(entry.name)
            if match and match["kind"] == kind and name in (None, match["name"]):
                with contextlib.suppress(OSError):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)))
    return (path for _, path in sorted(found, reverse=True))
