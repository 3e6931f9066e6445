"""Writing a checkpoint: every part to its file, the manifest last, then everything visible at once."""

import contextlib
import json
import math
import os
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from unison.checkpoint.atomic import Staging, sweep
from unison.checkpoint.blocks import Transfer, block_size, transfer_blocks, transfer_pool
from unison.checkpoint.directory import CheckpointDirectory
from unison.checkpoint.durable import begin_writing, sync_all, sync_path, write_early
from unison.checkpoint.manifest import FileEntry, make_manifest, manifest_to_bytes
from unison.checkpoint.names import MANIFEST, file_names
from unison.checkpoint.tensorfile import MAX_HEADER_BYTES, build_header, host_bytes
from unison.checkpoint.trees import JSON, Array, encode_plain, encode_tree
from unison.errors import CheckpointError
from unison.types import Tree

TREE = "tree"
"""The metadata key of a part's file under which its tree stands, as JSON."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint is to hold, taken apart: by part its tree and arrays, and the metadata."""

    parts: dict[str, tuple[JSON, dict[str, Array]]]
    metadata: JSON


def write_checkpoint(
    path: str | os.PathLike[str], parts: Mapping[str, Tree], metadata: Mapping[str, object], *, fsync: bool = True
) -> None:
    """Write a checkpoint directory in one step; a checkpoint that is there already is replaced.

    At every moment, also after a kill, `path` reads as the whole old or the whole new checkpoint. Host
    arrays are written from where they lie; others are copied to the host once, one at a time.

    Args:
        path: The directory. It must be absent, empty, or a checkpoint.
        parts: By name, such as `"modules/default_policy"`, a tree whose leaves are numpy arrays, torch
            tensors, numbers, strings, bools or None. Each becomes one file.
        metadata: What the manifest says beyond its own: a tree without arrays.
        fsync: Whether to wait until the bytes are on the disk, so that a crash of the machine cannot
            take them. A kill of the process alone never does.

    Raises:
        CheckpointError: a leaf cannot be saved, something else is at `path`, or the disk refused (it is
            full, say). What was at `path` is untouched.
    """
    write_contents(path, take_apart(parts, metadata), fsync=fsync)


def take_apart(parts: Mapping[str, Tree], metadata: Mapping[str, object]) -> Contents:
    """Split parts and metadata into what is written, without copying arrays."""
    return Contents(
        {name: encode_tree(tree, f"Checkpoint part '{name}'") for name, tree in parts.items()},
        encode_plain(metadata, "Checkpoint metadata"),
    )


def write_contents(path: str | os.PathLike[str], contents: Contents, *, fsync: bool = True) -> None:
    """Write what `take_apart` returned; see `write_checkpoint`."""
    target = Path(os.path.realpath(path))
    try:
        _make_parents(target, fsync=fsync)
        sweep(target.parent)
        _check_replaceable(target)
        staging = Staging(target)
        try:
            _fill(staging.path, contents, fsync=fsync)
            staging.publish(fsync=fsync)
        except BaseException:
            staging.discard()
            raise
    except OSError as error:
        raise CheckpointError(
            f"Checkpoint {path}: could not be written: {error}. What was there before is untouched."
        ) from error


def _make_parents(target: Path, *, fsync: bool) -> None:
    missing = [parent for parent in target.parents if not parent.exists()]
    for parent in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent)
        if fsync:
            sync_path(parent.parent)


def _check_replaceable(target: Path) -> None:
    outer = next((parent for parent in target.parents if _is_checkpoint(parent)), None)
    if outer is not None:
        what = f"a checkpoint around it, {outer}, which could not be read any more; nothing is written into it"
    elif target.is_dir():
        foreign = _find_foreign(target)
        if foreign is None:
            return
        what = f"a directory that holds other things ('{foreign}'), which is not overwritten"
    elif target.exists():
        what = "a file, which is not overwritten"
    else:
        return
    raise CheckpointError(f"Checkpoint {target}: there is {what}. Choose another path.")


def _is_checkpoint(directory: Path) -> bool:
    if not (directory / MANIFEST).is_file():
        return False
    try:
        with CheckpointDirectory(directory) as opened:
            opened.manifest()
    except CheckpointError:
        return False
    return True


def _find_foreign(target: Path) -> str | None:
    """Something in a directory that is no part of a checkpoint, whole or damaged; None if there is nothing such."""
    if not (target / MANIFEST).is_file():
        return next((path.name for path in target.iterdir()), None)
    try:
        with CheckpointDirectory(target) as opened:
            return opened.find_unlisted(opened.manifest().files)
    except CheckpointError:
        return None  # Damaged, or just replaced by another writer.


def _fill(directory: Path, contents: Contents, *, fsync: bool) -> None:
    names = file_names(contents.parts)
    folders = {directory}.union(*((directory / name).parents[: name.count("/") + 1] for name in names.values()))
    for folder in sorted(folders - {directory}):
        os.mkdir(folder)
    files: dict[str, FileEntry] = {}
    write = write_early if fsync else os.pwritev
    with transfer_pool() as pool:
        for part, (tree, arrays) in contents.parts.items():
            with _created(directory / names[part], fsync=fsync) as descriptor:
                files[names[part]] = _write_part(write, descriptor, part, tree, arrays, pool)
        text = manifest_to_bytes(make_manifest(files, cast("JsonValue", contents.metadata)))
        with _created(directory / MANIFEST, fsync=fsync) as descriptor:
            transfer_blocks(write, descriptor, [memoryview(text)], len(text), pool)
    if fsync:
        sync_all([*(directory / name for name in (*files, MANIFEST)), *folders])


def _write_part(
    write: Transfer, descriptor: int, part: str, tree: JSON, arrays: Mapping[str, Array], pool: ThreadPoolExecutor
) -> FileEntry:
    header, order = build_header(arrays, {TREE: json.dumps(tree, allow_nan=False, separators=(",", ":"))})
    if len(header) > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"Checkpoint part '{part}': {len(header)} bytes of structure besides its arrays; at most "
            f"{MAX_HEADER_BYTES} can be saved. Turn long lists of numbers into arrays."
        )
    size = len(header) + sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays.values())
    block = block_size(size)
    buffers = chain([memoryview(header)], (host_bytes(arrays[name]) for name in order))
    digests = transfer_blocks(write, descriptor, buffers, block, pool)
    return FileEntry(part=part, size=size, block_size=block, sha256=digests)


@contextlib.contextmanager
def _created(path: Path, *, fsync: bool) -> Generator[int]:
    """The descriptor of a new file; with `fsync`, the disk begins with what it holds in the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
        if fsync:
            begin_writing(descriptor)
    finally:
        os.close(descriptor)
