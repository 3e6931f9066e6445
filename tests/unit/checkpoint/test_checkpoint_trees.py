"""Trees survive with every Python type; names of parts and keys may hold any characters."""

import collections
import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unison.checkpoint import read_checkpoint, read_manifest, write_checkpoint
from unison.checkpoint.names import file_names, is_safe
from unison.checkpoint.trees import decode_tree, encode_tree
from unison.errors import CheckpointError

ANY_TEXT = st.text(st.characters(codec=None), max_size=8)
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda keys: st.tuples(keys, keys),
    max_leaves=3,
)
LEAVES = KEYS | st.floats() | st.builds(np.float32, st.floats(width=32)) | st.builds(np.arange, st.integers(0, 5))
TREES = st.recursive(
    LEAVES,
    lambda trees: (
        st.lists(trees, max_size=4)
        | st.lists(trees, max_size=4).map(tuple)
        | st.dictionaries(ANY_TEXT | st.sampled_from(["#array", "#tuple", "a/b", "__metadata__"]), trees, max_size=4)
        | st.dictionaries(KEYS, trees, max_size=4)
    ),
    max_leaves=12,
)


def assert_same(left: Any, right: Any) -> None:
    """Equal values of equal types; NaN equals NaN, and 0.0 differs from -0.0."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        # Keys are compared by type too: True equals 1 as a key.
        assert [(type(key), repr(key)) for key in left] == [(type(key), repr(key)) for key in right]
        for one, other in zip(left.values(), right.values(), strict=True):
            assert_same(one, other)
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray | np.generic):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    else:
        assert repr(left) == repr(right)


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_a_tree_comes_back_as_it_was(tree: Any) -> None:
    structure, arrays = encode_tree(tree, "here")
    text = json.dumps(structure, allow_nan=False)
    assert_same(decode_tree(json.loads(text), arrays), tree)


@given(st.dictionaries(ANY_TEXT, TREES, max_size=3))
@settings(max_examples=40, deadline=None)
def test_parts_come_back_from_files_whatever_their_names(tmp_path_factory: Any, parts: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("trees") / "checkpoint"
    write_checkpoint(path, parts, {"tree": [(1, 2.0), math.inf]}, fsync=False)
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.parts, parts)
    assert_same(checkpoint.metadata, {"tree": [(1, 2.0), math.inf]})


def test_integers_stay_integers_and_whole_floats_floats(tmp_path: Path) -> None:
    tree = {"step": 3, "beta": 1.0, "minus": -0.0, "big": 2**128, "flag": True, "betas": (0.9, 0.999), "none": None}
    write_checkpoint(tmp_path / "c", {"optimizer": {0: tree}}, {})
    assert_same(read_checkpoint(tmp_path / "c").parts["optimizer"], {0: tree})


def test_other_mappings_come_back_as_dicts(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    assert isinstance(state, collections.OrderedDict)
    write_checkpoint(tmp_path / "c", {"m": state}, {})
    read = read_checkpoint(tmp_path / "c").parts["m"]
    assert type(read) is dict
    assert list(read) == ["weight", "bias"]


def test_hostile_names_stay_inside_the_checkpoint(tmp_path: Path) -> None:
    names = [
        "..", ".", "", "/", "/etc/passwd", "../up", "a//b", "a/", "a", "a/b", "a.safetensors/b", "A", "manifest.json",
        ".hidden", "ä/ö", "\udc80", "nul\0", "CON", "x" * 300, "x" * 301, "con:1", "a b", "%", "%2E", "a\\b", "\n",
    ]  # fmt: skip
    parts = {name: {"value": np.array([index])} for index, name in enumerate(names)}
    write_checkpoint(tmp_path / "checkpoint", parts, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    read = read_checkpoint(tmp_path / "checkpoint").parts
    assert {name: int(part["value"][0]) for name, part in read.items()} == {n: i for i, n in enumerate(names)}
    files = read_manifest(tmp_path / "checkpoint").files
    assert len({file.casefold() for file in files}) == len(names), "unique also where case does not count"


def test_plain_names_stay_readable() -> None:
    names = ["modules/default_policy", "optimizers/default_policy/default_optimizer", "learner", "rng"]
    assert list(file_names(names).values()) == [f"{name}.safetensors" for name in names]


@pytest.mark.parametrize(
    "name", ["../a.safetensors", "/a.safetensors", "a/../../b.safetensors", "a", "./a.safetensors"]
)
def test_a_manifest_cannot_name_files_outside(name: str) -> None:
    assert not is_safe(name)


class Colour(enum.IntEnum):
    RED = 1


SELF_REFERENCE: list[Any] = []
SELF_REFERENCE.append(SELF_REFERENCE)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (object(), "builtins.object"),
        (b"bytes", "builtins.bytes"),
        ({1, 2}, "builtins.set"),
        (lambda: None, "function"),
        (Colour.RED, "Colour"),
        (np.array(["text"]), "<U4"),
        (np.array([object()]), "object"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (np.ma.masked_array([1, 2], [True, False]), "int64"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
        pytest.param(1 << 20_000, "bits", id="long integer"),
        ({b"key": 1}, "key"),
        (SELF_REFERENCE, "nested too deeply"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path: Path, leaf: Any, reason: str) -> None:
    with pytest.raises(CheckpointError, match=r"part 'learner'") as caught:
        write_checkpoint(tmp_path / "c", {"learner": {"outer": [0, leaf]}}, {})
    assert reason in str(caught.value)
    assert "outer/1" in str(caught.value) or leaf is SELF_REFERENCE
    assert not (tmp_path / "c").exists()


def test_metadata_takes_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"metadata: 'results/loss' is an array"):
        write_checkpoint(tmp_path / "c", {}, {"results": {"loss": np.float32(1)}})


@pytest.mark.parametrize(
    "structure", [{"#array": "absent"}, {"#tensor": 3}, {"#what": 1}, {"#dict": [1]}, {"#float": "x"}]
)
def test_a_malformed_tree_is_refused(structure: Any) -> None:
    with pytest.raises(ValueError, match=r"malformed|could not convert"):
        decode_tree(structure, {})
