"""The open directory of a checkpoint: it stays the same one while a writer puts another in its place."""

import io
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from unison.checkpoint.atomic import locate
from unison.checkpoint.manifest import RESTORE, FileEntry, Manifest, manifest_from_bytes
from unison.checkpoint.names import MANIFEST
from unison.errors import CheckpointError

_MANIFESTS: Final = f"checkpoint_*/{MANIFEST}"
"""Where the checkpoints of a folder say what they hold."""


class CheckpointDirectory:
    """Opens the files of one checkpoint; every error names the checkpoint, the file and the reason.

    Raises:
        CheckpointError: nothing is at `path`, or no directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.where = f"Checkpoint {os.fspath(path)}"
        self._path = Path(path)
        try:
            self._descriptor = _open_directory(Path(os.path.realpath(path)))
        except FileNotFoundError as error:
            raise CheckpointError(f"{self.where}: there is nothing at this path.") from error
        except NotADirectoryError as error:
            raise CheckpointError(f"{self.where}: it is a file; a checkpoint is a directory.") from error
        except OSError as error:
            raise CheckpointError(f"{self.where}: it cannot be opened: {error}.") from error

    def __enter__(self) -> "CheckpointDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def was_replaced(self) -> bool:
        """Whether the path now means another directory, or none, than the one that is open."""
        try:
            return os.stat(self._path).st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return True

    def open(self, name: str) -> tuple[io.FileIO, int]:
        """A file, to be closed by the caller, and its size in bytes."""
        # Neither a link out of the checkpoint is followed, nor a pipe waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self._descriptor)
        except FileNotFoundError as error:
            raise self.damaged(name, "is missing") from error
        except OSError as error:
            raise self.damaged(name, f"cannot be opened: {error.strerror}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise self.damaged(name, "is no regular file")
        return io.FileIO(descriptor, "rb"), status.st_size

    def manifest(self) -> Manifest:
        """The verified manifest."""
        try:
            stream, _ = self.open(MANIFEST)
        except CheckpointError:
            self._refuse_run_folder()
            raise
        with stream:
            return manifest_from_bytes(stream.readall(), self.where)

    def _refuse_run_folder(self) -> None:
        """Raise if this is no checkpoint, but a folder of some."""
        inner: list[Path] = []
        with suppress(OSError):  # it may be replaced meanwhile
            inner = [path.parent for place in (".", "checkpoints") for path in self._path.glob(f"{place}/{_MANIFESTS}")]
        if inner and not (self._path / MANIFEST).exists():
            last = max(inner, key=lambda path: (len(path.name), path.name))
            raise CheckpointError(
                f"{self.where}: it is no checkpoint, but a folder of {len(inner)}, such as a run's. Give one of them; "
                f"the last is {last}."
            )

    def find_unlisted(self, files: Mapping[str, FileEntry]) -> str | None:
        """A file that the manifest does not list; None if there is none."""
        for folder, _, names, _ in os.fwalk(".", dir_fd=self._descriptor):
            for name in names:
                relative = os.path.normpath(os.path.join(folder, name))
                if relative != MANIFEST and relative not in files:
                    return relative
        return None

    def refuse_unlisted(self, files: Mapping[str, FileEntry]) -> None:
        """Raise if there is a file that the manifest does not list."""
        foreign = self.find_unlisted(files)
        if foreign is not None:
            raise self.damaged(foreign, "is foreign: the manifest does not list it", "Move it elsewhere.")

    def damaged(self, name: str, reason: str, remedy: str = RESTORE) -> CheckpointError:
        """The error that says what is wrong with a file."""
        return CheckpointError(f"{self.where}: the file '{name}' {reason}. {remedy}")


def _open_directory(path: Path) -> int:
    while True:
        try:
            return os.open(locate(path), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # Where directories cannot be exchanged, a living writer may have renamed it just now.
            if not locate(path).exists():
                raise
