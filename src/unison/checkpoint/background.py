"""Saving while training goes on: the caller waits for a copy to host memory, a thread does the rest."""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from unison.checkpoint.trees import Array
from unison.checkpoint.writer import Contents, take_apart, write_contents
from unison.types import Tree

logger = logging.getLogger("unison")


class BackgroundWriter:
    """Writes checkpoints one after another on a thread; use it as a context manager, or call `close()`.

    An error of a save is logged at once, and raised by the next `write`, by `wait`, or at the end of the `with` block.
    A process that ends waits for the thread; one that is killed leaves the last whole checkpoint.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync
        # One thread for all saves: to start one for each would cost the caller more than to hand over the work.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unison-checkpoint")
        self._running: Future[None] | None = None

    def write(
        self,
        path: str | os.PathLike[str],
        parts: Mapping[str, Tree],
        metadata: Mapping[str, object],
        *,
        copy: bool = True,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Copy everything to host memory, then write it as `write_checkpoint` does, in the background.

        Waits for the save before this one, so that at most one copy is held.

        Args:
            path: as `write_checkpoint`.
            parts: as `write_checkpoint`.
            metadata: as `write_checkpoint`.
            copy: False if everything is in host memory already and nobody will change it. Then even what cannot be
                saved is found in the background.
            then: called on the writing thread once the checkpoint is whole.

        Raises:
            CheckpointError: a leaf cannot be saved, or the save before this one failed.
        """
        self.wait()
        contents = _copied(take_apart(parts, metadata)) if copy else lambda: take_apart(parts, metadata)
        # A relative path is that of now, wherever the process may have gone when the thread comes to it.
        self._running = self._thread.submit(self._write, os.path.abspath(path), contents, then)

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            CheckpointError: the save failed; what was at its path is untouched.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Wait, and end the thread.

        Raises:
            CheckpointError: as `wait`.
        """
        self._thread.shutdown()
        self.wait()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, path: str, contents: Contents | Callable[[], Contents], then: Callable[[], object] | None) -> None:
        try:
            write_contents(path, contents() if callable(contents) else contents, fsync=self._fsync)
            if then is not None:
                then()
        except BaseException as error:  # Said now, as nobody may ask for a while; and `wait` raises it.
            logger.error("%s", error)
            raise


def _copied(contents: Contents) -> Contents:
    copies = {
        part: (tree, {name: _host_copy(array) for name, array in arrays.items()})
        for part, (tree, arrays) in contents.parts.items()
    }
    return Contents(copies, contents.metadata)


def _host_copy(array: Array) -> Array:
    if isinstance(array, torch.Tensor):
        return array.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return array.copy()
