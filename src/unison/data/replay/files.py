"""Tensors that files hold, for rows that are more than memory."""

import mmap
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import torch
from torch import Tensor

from unison.errors import ConfigError
from unison.types import Tree, tree_leaves, tree_map

_ZEROS: Final = bytes(1 << 20)


def in_files(forms: Tree, directory: Path) -> Tree:
    """Zeros of these shapes and types, in files that have no name: they vanish with the tensors or the process.

    Args:
        forms: a tree of tensors on the device "meta".
        directory: where the files are; made if it is not there.

    Raises:
        ConfigError: the directory has no room for all of them, or takes no files.
    """

    def zeros(form: Tensor) -> Tensor:
        if not form.nbytes:
            return torch.zeros_like(form, device="cpu")
        with tempfile.TemporaryFile(dir=directory) as file:
            _claim(file, form.nbytes)
            return torch.frombuffer(mmap.mmap(file.fileno(), form.nbytes), dtype=form.dtype).view(form.shape)

    try:
        directory.mkdir(parents=True, exist_ok=True)
        return tree_map(zeros, forms)
    except OSError as error:
        needed = sum(form.nbytes for form in tree_leaves(forms))
        free = shutil.disk_usage(next(path for path in (directory, *directory.parents) if path.exists())).free
        raise ConfigError(
            f"The replay of a module needs {needed:,} bytes of files in '{directory}', where {free:,} are free: "
            f"{error.strerror}. Lower replay_capacity, or choose another replay_directory."
        ) from error


def _claim(file: IO[bytes], nbytes: int) -> None:
    """Take the room on the disk now: writing to a mapped file that finds none later kills the process (SIGBUS)."""
    if sys.platform != "darwin":
        os.posix_fallocate(file.fileno(), 0, nbytes)
        return
    for start in range(0, nbytes, len(_ZEROS)):  # macOS has no such call.
        file.write(_ZEROS[: nbytes - start])
    file.flush()
