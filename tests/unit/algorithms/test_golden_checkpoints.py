"""Checkpoints that an earlier day wrote are read as on that day."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.golden import ACT, FOLDER, OBS, columns, config, summary
from unison import PPO, MultiAgentRLModule, RLModule
from unison.checkpoint import read_checkpoint
from unison.errors import CheckpointError

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", ["module", "modules", "learner", "algorithm"])
def test_every_byte_is_as_it_was(name: str) -> None:
    assert read_checkpoint(FOLDER / name).manifest.format_version == 1


def test_a_whole_learner() -> None:
    learner = config().build_learner(spaces={"default_policy": (OBS, ACT)})
    learner.load_state(FOLDER / "learner")
    assert list(learner.module) == ["a", "added/b"]
    assert json.loads(json.dumps(summary(learner.get_state()))) == EXPECTED["learner"]
    assert learner.config_for_module("added/b").clip_param == 0.1
    settings = learner.get_optimizer("a").param_groups[0]
    assert (settings["betas"], type(settings["lr"])) == ((0.8, 0.99), float)
    results = learner.update_from_batch({"a": columns(16), "added/b": columns(16)})
    assert results["added/b"]["default_optimizer_learning_rate"] == 0.5
    assert np.isfinite(results["a"]["total_loss"])


def test_modules_alone() -> None:
    module = RLModule.from_checkpoint(FOLDER / "module")
    for path in (FOLDER / "modules", FOLDER / "learner"):
        modules = MultiAgentRLModule.from_checkpoint(path)
        assert list(modules) == ["a", "added/b"]
        states = {"a": modules["a"].get_state(), "added/b": modules["added/b"].get_state()}
        assert json.loads(json.dumps(summary(states))) == EXPECTED["learner"]["rl_module"]
    assert json.loads(json.dumps(summary(module.get_state()))) == EXPECTED["learner"]["rl_module"]["a"]


def test_a_whole_algorithm() -> None:
    algorithm = PPO.from_checkpoint(FOLDER / "algorithm")
    state = {"group": algorithm.learner_group.get_state(), **algorithm.get_sampling_state()}
    for runner in (state["env_runner"], state["evaluator"]):
        assert runner is None or runner["seeds"].pop("worker_index") == 0  # They were not saved in those days.
    assert json.loads(json.dumps(summary(state))) == EXPECTED["algorithm"]
    assert (algorithm.iteration, algorithm.num_env_steps_sampled_lifetime) == (2, 64)
    results = algorithm.train()
    assert results["training_iteration"] == 3
    assert results["learners"]["__all_modules__"]["ticket"] == 3
    algorithm.stop()


@pytest.mark.parametrize("name", ["learner", "algorithm"])
def test_one_of_a_newer_format_is_refused_with_the_version_it_needs(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / name, tmp_path / "c")
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    manifest |= {"format_version": 2, "library_version": "7.3.1", "something_new": {}, "sha256": "0" * 64}
    text = json.dumps(manifest, indent=2)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "c" / "manifest.json").write_text(text.replace("0" * 64, digest))
    made: Any
    if name == "learner":
        made = config().build_learner(spaces={"default_policy": (OBS, ACT)})
    else:
        made = config().environment("CartPole-v1").build()
    before = repr(made.get_state() if name == "learner" else made.learner_group.get_state())
    with pytest.raises(CheckpointError, match=r"of format 2.*reads formats up to 1.*needs Unison 7\.3\.1 or newer"):
        made.load_state(tmp_path / "c")
    assert repr(made.get_state() if name == "learner" else made.learner_group.get_state()) == before
    if name == "algorithm":
        made.stop()
