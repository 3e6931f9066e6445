"""The global generators draw the same numbers after their states went through a checkpoint."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unison.checkpoint import capture_rng, check_rng, read_checkpoint, restore_rng, write_checkpoint
from unison.errors import StateError


def draw() -> list[float]:
    """Some numbers of every generator; an odd count of Gaussians, of which the generators keep a spare one."""
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]
    return [*numbers, torch.randn(3).sum().item(), random.gauss(0, 1), np.random.randn()]


@pytest.fixture(autouse=True)
def keep_generators() -> Any:
    before = capture_rng()
    yield
    restore_rng(before)


def test_restored_generators_draw_the_same(tmp_path: Path) -> None:
    for _ in range(3):
        draw()
    write_checkpoint(tmp_path / "c", {"rng": capture_rng()}, {})
    expected = [draw() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    restore_rng(read_checkpoint(tmp_path / "c").parts["rng"])
    assert [draw() for _ in range(3)] == expected
    restore_rng(read_checkpoint(tmp_path / "c", tensors=True).parts["rng"])
    assert [draw() for _ in range(3)] == expected


def test_a_spare_gaussian_is_kept() -> None:
    random.gauss(0, 1)
    np.random.randn()
    state = capture_rng()
    expected = (random.gauss(0, 1), np.random.randn())
    restore_rng(state)
    assert (random.gauss(0, 1), np.random.randn()) == expected


def test_capturing_draws_nothing() -> None:
    state = capture_rng()
    expected = draw()
    restore_rng(state)
    capture_rng()
    assert draw() == expected


@pytest.mark.parametrize("part", ["python", "numpy", "torch", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("wrong", [None, 3, {}, [1, 2], "text"])
def test_a_wrong_state_changes_nothing(part: str, wrong: Any) -> None:
    before = capture_rng()
    state = {**capture_rng(), part: wrong}
    draw()
    now = capture_rng()
    expected = draw()
    restore_rng(now)
    with pytest.raises(StateError, match="Nothing was changed"):
        restore_rng(state)
    assert draw() == expected
    restore_rng(before)


@pytest.mark.parametrize("part", ["python", "numpy", "torch"])
def test_checking_a_state_changes_nothing(part: str) -> None:
    state = capture_rng()
    draw()
    now = capture_rng()
    expected = draw()
    restore_rng(now)
    check_rng(state)
    with pytest.raises(StateError, match="Nothing was changed"):
        check_rng({**state, part: None})
    assert draw() == expected


def test_a_missing_generator_is_named() -> None:
    state = capture_rng()
    del state["torch"]
    with pytest.raises(StateError, match="torch"):
        restore_rng(state)


def test_states_of_absent_devices_are_left_out() -> None:
    state = capture_rng()
    if not torch.cuda.is_available():
        state["cuda"] = [np.zeros(16, np.uint8)]
    expected = draw()
    restore_rng(state)
    assert draw() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_generators() -> None:
    torch.rand(3, device="cuda")
    state = capture_rng()
    assert len(state["cuda"]) == torch.cuda.device_count()
    expected = torch.rand(3, device="cuda")
    restore_rng(state)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
