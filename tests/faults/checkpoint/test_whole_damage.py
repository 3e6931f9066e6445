"""Damage to a Learner's, a group's or an Algorithm's checkpoint: the file is named, and nothing at all has changed."""

import hashlib
import io
import itertools
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.learners import DISCRETE, OBS, make_columns, make_config, make_learner
from support.runs import tiny_config
from support.tally import TALLY
from unison.checkpoint import capture_rng
from unison.errors import CheckpointError
from unison.types import tree_items

FLIPS, CUTS = 24, 8
"""Of each file."""


def make_algorithm(updates: int = 1) -> Any:
    algorithm = tiny_config().env_runners(normalize_rewards=True).evaluation(evaluation_interval=1).build()
    for _ in range(updates):
        algorithm.train()
    return algorithm


def make_group(updates: int = 1) -> Any:
    group = make_config().build_learner_group(spaces={"default_policy": (OBS, DISCRETE)})
    for _ in range(updates):
        group.update_from_batch(make_columns(16))
    return group


def make_two_modules(updates: int = 1) -> Any:
    learner = make_learner(module_ids=("a", "b"))
    for _ in range(updates):
        learner.update_from_batch({"a": make_columns(16), "b": make_columns(16, 1)})
    return learner


MAKERS: dict[str, Callable[..., Any]] = {
    "learner": make_two_modules,
    "group": make_group,
    "algorithm": make_algorithm,
}


def fingerprint(holder: Any) -> str:
    """The digest of all that it is, bit for bit."""
    digest = hashlib.sha256()
    if hasattr(holder, "env_runner"):
        state: Any = {
            "group": holder.learner_group.get_state(),
            "progress": holder.get_progress(),
            **holder.get_sampling_state(),
        }
    else:
        state = holder.get_state()
    for path, leaf in tree_items({"state": state, "rng": capture_rng()}):
        content = leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf).encode()
        digest.update(path.encode() + b"\0" + content)
    return digest.hexdigest()


class Target:
    """Loads a damaged checkpoint; it must be refused, the file named, and nothing changed."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.holder = MAKERS[kind]()
        self.path = folder / "checkpoint"
        self.holder.save_state(self.path)
        other = MAKERS[kind](2)
        other.save_state(folder / "other")
        self.other = folder / "other"
        self.files = sorted(str(f.relative_to(self.path)) for f in self.path.rglob("*") if f.is_file())
        self._before = fingerprint(self.holder)
        self._kind = kind

    def refuses(self, *names: str) -> str:
        with pytest.raises(CheckpointError) as caught:
            self.holder.load_state(self.path)
        assert any(f"'{name}'" in str(caught.value) for name in names), str(caught.value)
        assert fingerprint(self.holder) == self._before
        TALLY[f"corruptions of the checkpoint of a whole {self._kind}"] += 1
        return str(caught.value)

    def close(self) -> None:
        self.holder.load_state(self.path)  # Whole again, it loads.
        for name in ("stop", "shutdown"):
            getattr(self.holder, name, lambda: None)()


@pytest.fixture(params=list(MAKERS))
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    made = Target(request.param, tmp_path)
    yield made
    made.close()


def test_flipped_bits(target: Target) -> None:
    generator = random.Random(0)
    for name in target.files:
        file = target.path / name
        sound = file.read_bytes()
        for position in generator.sample(range(len(sound)), min(FLIPS, len(sound))):
            damaged = bytearray(sound)
            damaged[position] ^= 1 << generator.randrange(8)
            file.write_bytes(damaged)
            target.refuses(name)
        file.write_bytes(sound)


def test_truncated_and_appended_to(target: Target) -> None:
    generator = random.Random(1)
    for name in target.files:
        file = target.path / name
        sound = file.read_bytes()
        for length in {0, 8, len(sound) - 1, *generator.sample(range(len(sound)), CUTS)}:
            file.write_bytes(sound[:length])
            reason = target.refuses(name)
            assert name == "manifest.json" or f"is truncated: {length} of {len(sound)} bytes" in reason
        file.write_bytes(sound + b"\0")
        target.refuses(name)
        file.write_bytes(sound)


def test_missing(target: Target) -> None:
    for name in target.files:
        file = target.path / name
        sound = file.read_bytes()
        file.unlink()
        assert "is missing" in target.refuses(name)
        file.write_bytes(sound)


def test_swapped(target: Target) -> None:
    for one, two in itertools.combinations(target.files, 2):
        first, second = (target.path / name for name in (one, two))
        contents = first.read_bytes(), second.read_bytes()
        first.write_bytes(contents[1])
        second.write_bytes(contents[0])
        target.refuses(one, two)
        first.write_bytes(contents[0])
        second.write_bytes(contents[1])


def test_foreign(target: Target) -> None:
    archive, array = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(3)}, archive)
    np.save(array, np.zeros(3))
    for name in target.files:
        file = target.path / name
        sound = file.read_bytes()
        strangers = [
            pickle.dumps({"w": 1}),
            archive.getvalue(),
            array.getvalue(),
            random.Random(2).randbytes(len(sound)),
        ]
        for content in strangers:
            file.write_bytes(content)
            target.refuses(name)
        file.write_bytes(sound)
    for name in ("notes.txt", "modules/c.safetensors"):
        shutil.copy(target.path / target.files[0], target.path / name)
        assert "the manifest does not list it" in target.refuses(name)
        (target.path / name).unlink()


def test_files_of_another_checkpoint_of_the_same_shape(target: Target) -> None:
    for name in target.files:
        own, others = (target.path / name).read_bytes(), (target.other / name).read_bytes()
        if own != others:  # The states of generators that nobody asked are the same in both.
            (target.path / name).write_bytes(others)
            reason = target.refuses(*(target.files if name == "manifest.json" else [name]))
            assert "damaged" in reason or "foreign" in reason or "truncated" in reason
            (target.path / name).write_bytes(own)
