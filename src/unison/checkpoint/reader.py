"""Reading a checkpoint: every byte is verified before anything is made of it."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unison.checkpoint.blocks import transfer_blocks, transfer_pool
from unison.checkpoint.diagnosis import why_damaged
from unison.checkpoint.directory import CheckpointDirectory
from unison.checkpoint.manifest import FileEntry, Manifest
from unison.checkpoint.tensorfile import MAX_HEADER_BYTES, from_bytes, parse_header
from unison.checkpoint.trees import Array, decode_tree
from unison.checkpoint.writer import TREE
from unison.errors import CheckpointError
from unison.types import Tree

_MAX_REPLACEMENTS = 100


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was read: the caller's metadata, the parts by name, and the manifest."""

    metadata: dict[str, Any]
    parts: dict[str, Tree]
    manifest: Manifest


Choice = Iterable[str] | Callable[[Manifest], Iterable[str]] | None
"""The parts to read: their names, or what says them once the manifest is known, or all."""


def read_checkpoint(path: str | os.PathLike[str], parts: Choice = None, *, tensors: bool = False) -> Checkpoint:
    """Read a checkpoint, whole or only some of its parts, and verify every file that is read.

    No code in a checkpoint is ever run. Arrays come back as writable numpy arrays in memory of their
    own; dtypes that numpy lacks (bfloat16) as torch tensors.

    Args:
        path: The directory.
        parts: Names of the parts to read, or a function of the manifest that returns them; None for all, and then
            unknown files are an error too.
        tensors: Whether leaves that were torch tensors come back as such (on the CPU).

    Raises:
        CheckpointError: there is no checkpoint, it lacks a part, is of a newer format, or a file is
            missing, truncated, damaged, swapped or foreign; names the file and the reason.
    """
    wanted = parts if parts is None or callable(parts) else [parts] if isinstance(parts, str) else list(parts)
    for _ in range(_MAX_REPLACEMENTS):
        with CheckpointDirectory(path) as directory:
            try:
                return _read(directory, wanted, tensors=tensors)
            except CheckpointError:
                # A writer that replaced the checkpoint meanwhile deletes the one being read.
                if not directory.was_replaced():
                    raise
    raise CheckpointError(f"Checkpoint {path}: it was replaced {_MAX_REPLACEMENTS} times while it was read.")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read and verify the manifest alone: the parts, their sizes, the version, the metadata.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    return read_checkpoint(path, parts=()).manifest


def checkpoint_size(path: str | os.PathLike[str]) -> dict[str, int]:
    """Bytes on the disk by part.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    return {entry.part: entry.size for entry in read_manifest(path).files.values()}


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a sound manifest is there and every file has its size; no digests of files are computed."""
    try:
        with CheckpointDirectory(path) as directory:
            for name, entry in directory.manifest().files.items():
                stream, size = directory.open(name)
                stream.close()
                if size != entry.size:
                    return False
    except CheckpointError:
        return False
    return True


def _read(
    directory: CheckpointDirectory,
    choice: Sequence[str] | Callable[[Manifest], Iterable[str]] | None,
    *,
    tensors: bool,
) -> Checkpoint:
    manifest = directory.manifest()
    files = manifest.parts
    if choice is None:
        directory.refuse_unlisted(manifest.files)
    wanted = list(files) if choice is None else list(choice(manifest)) if callable(choice) else choice
    unknown = sorted(set(wanted) - set(files))
    if unknown:
        raise CheckpointError(f"{directory.where}: it has no part {unknown}. It has: {sorted(files)}.")
    with transfer_pool() as pool:
        parts = {part: _read_part(directory, manifest, files[part], pool, tensors=tensors) for part in wanted}
    return Checkpoint(manifest.metadata, parts, manifest)


def _read_part(
    directory: CheckpointDirectory, manifest: Manifest, name: str, pool: ThreadPoolExecutor, *, tensors: bool
) -> Tree:
    stream, size = directory.open(name)
    with stream:
        entry = manifest.files[name]
        try:
            if size != entry.size:
                raise ValueError("its size differs")
            tree, arrays = _read_arrays(stream.fileno(), entry, pool)
            return decode_tree(json.loads(tree), arrays, tensors=tensors)
        except (ValueError, OSError, EOFError) as error:
            reason = why_damaged(name, stream, size, manifest.files) or f"is of no use: {error}"
            raise directory.damaged(name, reason) from error


def _read_arrays(descriptor: int, entry: FileEntry, pool: ThreadPoolExecutor) -> tuple[str, dict[str, Array]]:
    """The tree and the arrays of a part; raises unless every block has its digest."""
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if length > min(entry.size - 8, MAX_HEADER_BYTES):
        raise ValueError(f"a header of {length} bytes")
    header = os.pread(descriptor, 8 + length, 0)
    slots, metadata = parse_header(header[8:], entry.size - 8 - length)
    # The header is read again with the rest, for its digest.
    data = [_memory(len(header)), *(_memory(slot.nbytes) for slot in slots)]
    digests = transfer_blocks(os.preadv, descriptor, (array.data for array in data), entry.block_size, pool)
    if digests != entry.sha256 or data[0].tobytes() != header:
        raise ValueError("its digest differs")
    if TREE not in metadata:
        raise ValueError("its header holds no tree")
    return metadata[TREE], {slot.name: from_bytes(array, slot) for slot, array in zip(slots, data[1:], strict=True)}


def _memory(nbytes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    # Torch's allocator: numpy asks for huge pages, and waits for the kernel to assemble them.
    return torch.empty(nbytes, dtype=torch.uint8).numpy()
