"""Saving in the background saves what was handed in, whatever happens to the arrays afterwards."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unison.checkpoint import BackgroundWriter, background, read_checkpoint
from unison.checkpoint.writer import write_contents
from unison.errors import CheckpointError


def test_later_changes_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = threading.Event()

    def write_after_the_change(*args: Any, **kwargs: Any) -> None:
        assert changed.wait(10)
        write_contents(*args, **kwargs)

    monkeypatch.setattr(background, "write_contents", write_after_the_change)
    array, tensor, listed = np.zeros(100), torch.zeros(100), [1]
    parts = {"m": {"array": array, "tensor": tensor, "view": tensor[5:9], "list": listed}}
    with BackgroundWriter() as writer:
        writer.write(tmp_path / "c", parts, {"n": listed})
        array += 1
        tensor += 1
        listed.append(2)
        changed.set()
    read = read_checkpoint(tmp_path / "c")
    assert all(read.parts["m"][name].sum() == 0 for name in ("array", "tensor", "view"))
    assert read.parts["m"]["list"] == read.metadata["n"] == [1]


def test_a_relative_path_is_that_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = threading.Event()

    def write_elsewhere(*args: Any, **kwargs: Any) -> None:
        assert arrived.wait(10)
        write_contents(*args, **kwargs)

    monkeypatch.setattr(background, "write_contents", write_elsewhere)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with BackgroundWriter(fsync=False) as writer:
        writer.write("c", {"m": {"a": 1}}, {})
        monkeypatch.chdir(tmp_path / "there")
        arrived.set()
    assert read_checkpoint(tmp_path / "here" / "c").parts == {"m": {"a": 1}}
    assert list((tmp_path / "there").iterdir()) == []


def test_one_after_another(tmp_path: Path) -> None:
    with BackgroundWriter(fsync=False) as writer:
        for number in range(5):
            writer.write(tmp_path / "c", {"m": {"a": np.full(10, number)}}, {"number": number})
        writer.wait()
        assert read_checkpoint(tmp_path / "c").metadata == {"number": 4}
        writer.wait()
    assert not any(thread.name.startswith("unison-checkpoint") for thread in threading.enumerate())


def test_errors_reach_the_caller_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    writer = BackgroundWriter()
    writer.write(tmp_path / "file", {}, {})
    with pytest.raises(CheckpointError, match="not overwritten"):
        writer.wait()
    writer.wait()
    writer.write(tmp_path / "file", {}, {})
    with pytest.raises(CheckpointError, match="not overwritten"):
        writer.write(tmp_path / "c", {}, {})
    with pytest.raises(CheckpointError, match="cannot be saved"):
        writer.write(tmp_path / "c", {"m": object()}, {})
    assert not (tmp_path / "c").exists()
    with pytest.raises(CheckpointError, match="not overwritten"), BackgroundWriter() as writer:
        writer.write(tmp_path / "file", {}, {})
