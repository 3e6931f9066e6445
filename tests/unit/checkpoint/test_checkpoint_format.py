"""The manifest, partial reads, what may be overwritten, and the order that makes a write atomic."""

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unison.checkpoint import (
    FORMAT_VERSION,
    atomic,
    checkpoint_size,
    is_whole,
    read_checkpoint,
    read_manifest,
    write_checkpoint,
)
from unison.checkpoint.blocks import block_size
from unison.errors import CheckpointError

GOLDEN = Path(__file__).parents[2] / "data" / "golden_v1"
PARTS = {"modules/a": {"w": np.arange(10.0)}, "modules/b": {"w": np.ones(3, np.int8)}, "learner": {"steps": 3}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "c", PARTS, {"modules": ["a", "b"], "betas": (0.9, 0.999)})
    return tmp_path / "c"


def sign(text: str) -> str:
    """Give a manifest that was edited the digest that it should have."""
    old = json.loads(text)["sha256"]
    blank = text.replace(old, "0" * 64)
    return text.replace(old, hashlib.sha256(blank.encode()).hexdigest())


def test_golden_checkpoint_of_format_1() -> None:
    checkpoint = read_checkpoint(GOLDEN)
    assert checkpoint.manifest.format_version == 1
    assert checkpoint.metadata == {
        "classes": {"learner": "ppo"},
        "counters": {"num_env_steps_sampled_lifetime": 4096},
        "modules": ["default_policy"],
        "range": (0.0, float("inf")),
    }
    assert set(checkpoint.parts) == {
        "modules/default_policy",
        "optimizers/default_policy/default_optimizer",
        "learner",
        "rng",
    }
    weights = checkpoint.parts["modules/default_policy"]
    assert list(weights) == ["encoder.0.weight", "encoder.0.bias", "log_std", "mask"]
    np.testing.assert_array_equal(weights["encoder.0.weight"], np.arange(12, dtype=np.float32).reshape(4, 3) / 7)
    np.testing.assert_array_equal(weights["encoder.0.bias"], np.full(4, -0.5, np.float64))
    assert torch.equal(weights["log_std"], torch.tensor([0.5, -1.25], dtype=torch.bfloat16))
    np.testing.assert_array_equal(weights["mask"], [True, False, True])
    optimizer = checkpoint.parts["optimizers/default_policy/default_optimizer"]
    assert list(optimizer["state"]) == [0, 1]
    assert optimizer["state"][1]["step"] == np.float32(17)
    assert type(optimizer["state"][1]["step"]) is np.float32
    assert optimizer["param_groups"] == [{"lr": 0.0003, "betas": (0.9, 0.999), "amsgrad": False, "params": [0, 1]}]
    learner = checkpoint.parts["learner"]
    assert learner == {"kl_coeff": 0.2, "window": [1.0, 2.5], ("a", 1): {"none": None, "#odd": "ü/ö"}, "empty": {}}
    assert str(checkpoint.parts["rng"]["nan"]) == "nan"
    np.testing.assert_array_equal(checkpoint.parts["rng"]["words"], np.arange(5, dtype=np.uint64) + 2**60)
    assert checkpoint.parts["rng"]["state"] == 2**100 + 1


def test_manifest(path: Path) -> None:
    text = json.loads((path / "manifest.json").read_text())
    assert text["format_version"] == FORMAT_VERSION == 1
    assert text["library_version"]
    assert text["created"].endswith("+00:00")
    assert text["metadata"] == {"modules": ["a", "b"], "betas": {"#tuple": [0.9, 0.999]}}
    assert read_manifest(path).metadata == {"modules": ["a", "b"], "betas": (0.9, 0.999)}
    assert sorted(text["files"]) == ["learner.safetensors", "modules/a.safetensors", "modules/b.safetensors"]
    for name, entry in text["files"].items():
        content = (path / name).read_bytes()
        assert entry["size"] == len(content)
        assert entry["sha256"] == [hashlib.sha256(content).hexdigest()]
    assert read_manifest(path).parts["modules/a"] == "modules/a.safetensors"
    sizes = {part: (path / f"{part}.safetensors").stat().st_size for part in PARTS}
    assert checkpoint_size(path) == sizes


def test_digests_of_blocks(tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "c", {"m": {"a": np.arange(700_000), "b": torch.ones(3), "c": np.ones(1 << 20, np.int8)}}, {}
    )
    entry = read_manifest(tmp_path / "c").files["m.safetensors"]
    content = (tmp_path / "c" / "m.safetensors").read_bytes()
    assert entry.block_size == 1 << 20
    blocks = [content[start : start + entry.block_size] for start in range(0, len(content), entry.block_size)]
    assert len(blocks) > 5
    assert entry.sha256 == [hashlib.sha256(block).hexdigest() for block in blocks]


@pytest.mark.parametrize("size", [8, 1 << 20, (64 << 20) - 1, 64 << 20, (64 << 20) + 1, 400_000_000, 10**12])
def test_block_sizes_keep_the_manifest_short(size: int) -> None:
    block = block_size(size)
    assert block & (block - 1) == 0
    assert 1 << 20 <= block <= 64 << 20
    assert size <= 64 * block or block == 64 << 20


def test_partial_reads(path: Path) -> None:
    read = read_checkpoint(path, parts=["modules/b"])
    assert list(read.parts) == ["modules/b"]
    assert read.metadata == {"modules": ["a", "b"], "betas": (0.9, 0.999)}
    assert list(read_checkpoint(path, parts="learner").parts) == ["learner"]
    assert read_checkpoint(path, parts=()).parts == {}
    with pytest.raises(
        CheckpointError, match=r"no part \['modules/c'\]. It has: \['learner', 'modules/a', 'modules/b'\]"
    ):
        read_checkpoint(path, parts=["modules/a", "modules/c"])


def test_partial_reads_verify_only_what_they_read(path: Path) -> None:
    (path / "modules/a.safetensors").unlink()
    (path / "extra.txt").write_text("")
    assert list(read_checkpoint(path, parts=["modules/b", "learner"]).parts) == ["modules/b", "learner"]
    with pytest.raises(CheckpointError, match=r"'modules/a.safetensors' is missing"):
        read_checkpoint(path, parts=["modules/a"])


def test_a_newer_format_is_refused_and_says_what_it_needs(path: Path) -> None:
    file = path / "manifest.json"
    text = file.read_text().replace('"format_version": 1', '"format_version": 2')
    own = json.loads(text)["library_version"]
    text = text.replace(f'"library_version": "{own}"', '"library_version": "9.9.9"').replace(
        '"files"', '"new_field": 0, "files"'
    )
    file.write_text(sign(text))
    with pytest.raises(CheckpointError, match=r"format 2.* needs Unison 9.9.9 or newer") as caught:
        read_checkpoint(path)
    assert "damaged" not in str(caught.value)
    file.write_text(text)
    with pytest.raises(CheckpointError, match=r"format 2.*damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"unison checkpoint"', '"another thing"', "foreign: at 'format'"),
        ('"modules/a.safetensors"', '"../a.safetensors"', "leads out of the checkpoint"),
        ('"modules/a.safetensors"', '"/a.safetensors"', "leads out of the checkpoint"),
        ('"part": "modules/a"', '"part": "modules/b"', "same part"),
        ('"block_size": 1048576', '"block_size": 7', "number of digests"),
        ('"created"', '"made"', "foreign"),
        ('"format_version": 1', '"format_version": "1"', "foreign: at 'format_version'"),
        ('"format_version": 1', '"format_version": 0', "foreign: at 'format_version'"),
        ('"modules": [', '"#what": [', "foreign"),
        ('"#tuple": [', '"#array": [', "foreign: its metadata"),
    ],
)
def test_a_foreign_manifest_with_a_sound_digest(path: Path, old: str, new: str, reason: str) -> None:
    file = path / "manifest.json"
    assert old in file.read_text()
    file.write_text(sign(file.read_text().replace(old, new, 1)))
    with pytest.raises(CheckpointError, match=r"'manifest.json'") as caught:
        read_checkpoint(path)
    assert reason in str(caught.value)
    assert not is_whole(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", "{}", "not json", "[" * 100_000, '{"sha256": 3}', '{"sha256": ""}']
)
def test_what_is_no_manifest(path: Path, text: str) -> None:
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"'manifest.json'"):
        read_checkpoint(path)


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("1")
    (tmp_path / "file").write_text("2")
    for name in ("thesis", "file"):
        with pytest.raises(CheckpointError, match="not overwritten"):
            write_checkpoint(tmp_path / name, PARTS, {})
    assert (tmp_path / "thesis" / "chapter").read_text() == "1"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "thesis"]
    with pytest.raises(CheckpointError, match="it is a file"):
        read_checkpoint(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"'manifest.json' is missing"):
        read_checkpoint(tmp_path / "thesis")
    with pytest.raises(CheckpointError, match="nothing at this path"):
        read_checkpoint(tmp_path / "absent")


def test_nothing_that_lies_in_a_checkpoint_is_lost_with_it(tmp_path: Path, path: Path) -> None:
    (path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other things \('notes.txt'\), which is not overwritten"):
        write_checkpoint(path, PARTS, {})
    assert (path / "notes.txt").read_text() == "mine"
    (path / "notes.txt").unlink()
    for inner in (path / "best", path / "a" / "b"):
        with pytest.raises(CheckpointError, match=r"a checkpoint around it, .*Choose another path"):
            write_checkpoint(inner, PARTS, {})
    assert is_whole(path)
    write_checkpoint(path, PARTS, {"n": 2})
    assert read_checkpoint(path).metadata == {"n": 2}


def test_an_empty_directory_or_a_damaged_checkpoint_is_replaced(tmp_path: Path, path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_checkpoint(tmp_path / "empty", PARTS, {})
    assert is_whole(tmp_path / "empty")
    (path / "manifest.json").write_text("")
    write_checkpoint(path, PARTS, {})
    assert is_whole(path)


def test_parents_are_made_and_links_followed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a" / "b" / "c", PARTS, {"n": 1})
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "c")
    write_checkpoint(tmp_path / "link", PARTS, {"n": 2})
    assert (tmp_path / "link").is_symlink()
    assert read_checkpoint(tmp_path / "a" / "b" / "c").metadata == {"n": 2}


@pytest.mark.parametrize("exchange", [True, False])
def test_everything_is_on_the_disk_before_it_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    path = tmp_path / "run" / "c"
    write_checkpoint(path, PARTS, {})
    events: list[tuple[str, int]] = []
    files: dict[str, int] = {}

    def record(name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "fsync":
                events.append(("fsync", os.fstat(args[0]).st_ino))
            elif not isinstance(args[1], int) and b".unison-old-" not in os.fsencode(args[1]):
                for folder, _, names in os.walk(os.fsdecode(args[0])):
                    files.update({f: os.stat(os.path.join(folder, f)).st_ino for f in (*names, ".")})
                events.append(("visible", 0))
            return call(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "fsync", record("fsync", os.fsync))
    monkeypatch.setattr(os, "rename", record("rename", os.rename))
    monkeypatch.setattr(atomic, "_exchange", record("exchange", atomic._exchange) if exchange else None)
    write_checkpoint(path, PARTS, {})
    first = events.index(("visible", 0))
    last = len(events) - 1 - events[::-1].index(("visible", 0))
    synced = {inode for _, inode in events[:first]}
    assert len(files) == 5, "three parts, the manifest, and directories"
    assert set(files.values()) <= synced
    assert ("fsync", path.parent.stat().st_ino) in events[last:], "the new name itself must be made durable"
    before = len(events)
    write_checkpoint(path, PARTS, {}, fsync=False)
    assert all(name != "fsync" for name, _ in events[before:])


def test_a_full_disk_leaves_the_old_checkpoint(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written: .*untouched"):
            write_checkpoint(path, {"modules/a": {"w": np.ones(1 << 20)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(read_checkpoint(path).parts["modules/a"]["w"], np.arange(10.0))
    assert [entry.name for entry in path.parent.iterdir()] == ["c"]


def test_leftovers_of_a_living_writer_are_not_swept(tmp_path: Path) -> None:
    staging = atomic.Staging(tmp_path / "c")
    write_checkpoint(tmp_path / "c", PARTS, {})
    assert staging.path.is_dir()
    staging.discard()
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_names_that_only_look_like_leftovers_are_not_swept(tmp_path: Path) -> None:
    for name in (".c.unison-new-12", ".unison-new-12345678", "c.unison-new-12345678", ".c.unison-xxx-12345678"):
        (tmp_path / name).mkdir()
    write_checkpoint(tmp_path / "c", PARTS, {})
    assert len(list(tmp_path.iterdir())) == 5
