"""Why a file of a checkpoint is not what its manifest says."""

import hashlib
import io
from collections.abc import Mapping

from unison.checkpoint.manifest import FileEntry
from unison.checkpoint.tensorfile import parse_header

_PICKLE = "a pickle, which Unison never loads"
_FOREIGN_STARTS = {
    b"\x80\x02": _PICKLE,
    b"\x80\x03": _PICKLE,
    b"\x80\x04": _PICKLE,
    b"\x80\x05": _PICKLE,
    b"PK\x03\x04": "a zip archive (torch.save writes such, with a pickle in it), which Unison never loads",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a file of numpy.save",
}


def why_damaged(name: str, stream: io.FileIO, size: int, files: Mapping[str, FileEntry]) -> str | None:
    """The reason in words why the open file `name` does not match its entry, or None if it does."""
    expected = files[name]
    damaged = _damaged_blocks(stream, size, expected)
    if not damaged:
        return None
    for other, entry in files.items():
        if entry.size == size and not _damaged_blocks(stream, size, entry):
            return f"holds the content of '{other}': the files were swapped or copied over"
    stream.seek(0)
    start = stream.read(8)
    # A file of ours begins with the length of its header, whose bytes may look like the beginning of a pickle.
    if int.from_bytes(start, "little") > expected.size:
        for magic, what in _FOREIGN_STARTS.items():
            if start.startswith(magic):
                return f"is foreign: {what}"
    if size != expected.size and _is_whole_by_itself(stream, size):
        return f"is foreign: another safetensors file, of {size} bytes instead of {expected.size}"
    if size < expected.size:
        return f"is truncated: {size} of {expected.size} bytes"
    if size > expected.size:
        return f"is foreign or was appended to: {size} bytes instead of {expected.size}"
    end = min(size, (damaged[-1] + 1) * expected.block_size)
    where = f"between the bytes {damaged[0] * expected.block_size} and {end}"
    return f"is damaged or foreign: SHA-256 differs in {len(damaged)} of {len(expected.sha256)} blocks, {where}"


def _is_whole_by_itself(stream: io.FileIO, size: int) -> bool:
    """Whether its header describes just as many bytes as follow it."""
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if length > size - 8:
        return False
    try:
        parse_header(_read_block(stream, length), size - 8 - length)
    except ValueError:
        return False
    return True


def _damaged_blocks(stream: io.FileIO, size: int, entry: FileEntry) -> list[int]:
    """The blocks whose digest differs from the entry's; all of them if the size differs."""
    if size != entry.size:
        return list(range(len(entry.sha256)))
    stream.seek(0)
    return [
        block
        for block, digest in enumerate(entry.sha256)
        if hashlib.sha256(_read_block(stream, entry.block_size)).hexdigest() != digest
    ]


def _read_block(stream: io.FileIO, nbytes: int) -> bytes:
    data = bytearray()
    while len(data) < nbytes and (more := stream.read(nbytes - len(data))):
        data += more
    return bytes(data)
