"""Every kind of damage gives an error that names the file and the reason; nothing of it is ever believed."""

import io
import itertools
import os
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from support.tally import TALLY
from unison.checkpoint import is_whole, read_checkpoint, write_checkpoint
from unison.errors import CheckpointError

PARTS = {
    "modules/a": {"w": np.arange(40, dtype=np.float32), "b": torch.ones(3, dtype=torch.bfloat16)},
    "modules/b": {"w": np.arange(40, dtype=np.float32) + 1, "b": torch.zeros(3, dtype=torch.bfloat16)},
    "learner": {"kl": 0.2, "betas": (1, 2)},
}
FILES = ["manifest.json", "learner.safetensors", "modules/a.safetensors", "modules/b.safetensors"]
PART_FILES = FILES[1:]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "c", PARTS, {"modules": ["a", "b"]}, fsync=False)
    return tmp_path / "c"


def refusal(path: Path, name: str, parts: list[str] | None = None) -> str:
    """The error of reading; it must name the file."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, parts)
    assert f"'{name}'" in str(caught.value)
    TALLY["corruptions of a bare checkpoint"] += 1
    assert "'" + str(path) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_every_byte(path: Path, name: str) -> None:
    generator = random.Random(name)
    sound = (path / name).read_bytes()
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << generator.randrange(8)
        (path / name).write_bytes(damaged)
        reason = refusal(path, name)
        assert "damaged" in reason or "foreign" in reason or "newer" in reason
    (path / name).write_bytes(sound)
    assert set(read_checkpoint(path).parts) == set(PARTS)


def test_flipped_bits_at_random_places_of_a_file_of_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {"big": {"w": np.random.default_rng(0).random(500_000)}}, {}, fsync=False)
    file = path / "big.safetensors"
    generator = random.Random(0)
    with file.open("r+b") as stream:
        for _ in range(40):
            position = generator.randrange(file.stat().st_size)
            stream.seek(position)
            byte = stream.read(1)[0]
            for value in (byte ^ 1 << generator.randrange(8), byte):
                stream.seek(position)
                stream.write(bytes([value]))
                stream.flush()
                if value != byte:
                    block = position >> 20
                    end = min((block + 1) << 20, file.stat().st_size)
                    assert f"1 of 4 blocks, between the bytes {block << 20} and {end}" in refusal(
                        path, "big.safetensors"
                    )
    assert list(read_checkpoint(path).parts) == ["big"]


@pytest.mark.parametrize("name", FILES)
def test_truncated_anywhere(path: Path, name: str) -> None:
    sound = (path / name).read_bytes()
    for length in {0, 1, 7, 8, 9, len(sound) - 1, *range(2, len(sound), 13)}:
        (path / name).write_bytes(sound[:length])
        reason = refusal(path, name)
        assert name == "manifest.json" or f"is truncated: {length} of {len(sound)} bytes" in reason


@pytest.mark.parametrize("name", FILES)
def test_appended_to(path: Path, name: str) -> None:
    for tail in (b"\0", b" ", b"more" * 1000):
        sound = (path / name).read_bytes()
        (path / name).write_bytes(sound + tail)
        assert name == "manifest.json" or "appended" in refusal(path, name)
        refusal(path, name)
        (path / name).write_bytes(sound)


@pytest.mark.parametrize("name", FILES)
def test_missing(path: Path, name: str) -> None:
    (path / name).unlink()
    assert "is missing" in refusal(path, name)
    assert not is_whole(path)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(PART_FILES, 2)))
def test_swapped(path: Path, one: str, other: str) -> None:
    os.rename(path / one, path / "x")
    os.rename(path / other, path / one)
    os.rename(path / "x", path / other)
    for name, origin in ((one, other), (other, one)):
        reason = refusal(path, name, parts=[name.removesuffix(".safetensors")])
        assert f"the file '{name}' holds the content of '{origin}': the files were swapped" in reason
    assert "the files were swapped" in refusal(path, one)


def test_swapped_with_the_manifest(path: Path) -> None:
    os.rename(path / "manifest.json", path / "x")
    os.rename(path / PART_FILES[0], path / "manifest.json")
    os.rename(path / "x", path / PART_FILES[0])
    refusal(path, "manifest.json")


def test_a_file_or_the_manifest_of_another_checkpoint(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "other"
    write_checkpoint(other, {**PARTS, "modules/a": {**PARTS["modules/a"], "w": np.zeros(40, np.float32)}}, {})
    shutil.copytree(path, tmp_path / "copy")
    shutil.copy(other / "modules/a.safetensors", path / "modules/a.safetensors")
    assert "damaged or foreign" in refusal(path, "modules/a.safetensors")
    shutil.copy(other / "manifest.json", tmp_path / "copy" / "manifest.json")
    refusal(tmp_path / "copy", "modules/a.safetensors")


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_loaded(tmp_path: Path, path: Path, name: str, protocol: int) -> None:
    (path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded"), protocol=protocol))
    reason = refusal(path, name)
    assert name == "manifest.json" or protocol < 2 or "is foreign: a pickle" in reason
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", PART_FILES)
def test_foreign_content(path: Path, name: str) -> None:
    size = (path / name).stat().st_size
    archive = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, archive)
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    (path / name).write_bytes(archive.getvalue())
    assert "is foreign: a zip archive (torch.save" in refusal(path, name)
    (path / name).write_bytes(array.getvalue())
    assert "is foreign: a file of numpy.save" in refusal(path, name)
    for floats in (3, 10_000):
        (path / name).write_bytes(safetensors.numpy.save({"w": np.zeros(floats)}))
        assert "is foreign: another safetensors file, of " in refusal(path, name)
    for seed in range(30):
        (path / name).write_bytes(random.Random(seed).randbytes(size))
        assert "damaged or foreign" in refusal(path, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_file(tmp_path: Path, path: Path, name: str, kind: str) -> None:
    os.rename(path / name, tmp_path / "kept")
    if kind == "directory":
        (path / name).mkdir()
    elif kind == "link":
        (path / name).symlink_to(tmp_path / "kept")
    else:
        os.mkfifo(path / name)
    reason = refusal(path, name)
    assert "no regular file" in reason or "cannot be opened" in reason


@pytest.mark.parametrize("name", ["notes.txt", "modules/c.safetensors", ".hidden", "modules/deep/er.pt"])
def test_an_unknown_file(path: Path, name: str) -> None:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(pickle.dumps(3))
    assert "is foreign: the manifest does not list it" in refusal(path, name)


def test_a_file_that_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A disk that fails while it is read; the superuser reads files of any mode, so the error is made.
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("unison.checkpoint.reader.transfer_blocks", fail)
    assert "Input/output error" in refusal(path, "modules/a.safetensors", parts=["modules/a"])
