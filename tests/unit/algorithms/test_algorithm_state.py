"""An Algorithm's checkpoint: taken over wholly or not at all, and saved while training goes on."""

import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from support.learners import make_learner
from support.runs import tiny_config, without_times
from unison import PPO
from unison.algorithms.run_folder.rows import flatten
from unison.checkpoint import background, capture_rng, read_checkpoint, write_checkpoint
from unison.checkpoint.writer import write_contents
from unison.errors import CheckpointError, StateError


def build(**evaluation: Any) -> PPO:
    config = tiny_config().env_runners(normalize_rewards=True, normalize_observations=True)
    return config.evaluation(evaluation_interval=1, **evaluation).build()


def everything(algorithm: PPO) -> str:
    """All that an Algorithm is, as text."""
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return repr(
            (
                algorithm.learner_group.get_state(),
                algorithm.get_sampling_state(),
                algorithm.get_progress(),
                algorithm.env_runner.modules.get_state(inference_only=True),  # type: ignore[attr-defined]
                capture_rng(),
            )
        )


def curve(algorithm: PPO, iterations: int) -> list[dict[str, Any]]:
    return [without_times(flatten(algorithm.train())) for _ in range(iterations)]


def _no_seeds(parts: Any) -> None:
    del parts["env_runner"]["seeds"]


def _other_seeds(parts: Any) -> None:
    parts["env_runner"]["seeds"]["torch"] = np.zeros(7, np.uint8)


def _metrics(parts: Any) -> None:
    parts["env_runner"]["metrics"]["num_episodes"] = "ten"


def _evaluator(parts: Any) -> None:
    parts["evaluator"]["reward_normaliser"] = None


def _progress(parts: Any) -> None:
    del parts["algorithm"]["iteration"]


def _rng(parts: Any) -> None:
    parts["rng"]["torch"] = np.zeros(3, np.uint8)


def _weights(parts: Any) -> None:
    parts["modules/default_policy"]["policy_head.bias"] = np.zeros((4, 4), np.float32)


def _counts(parts: Any) -> None:
    parts["learner_group"]["trained"] = "all"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_seeds, r"env runner's state: the state lacks \['seeds'\]"),
        (_other_seeds, r"'seeds', 'torch': expected an array of uint8, shape \(\d+,\)"),
        (_metrics, "'metrics', 'num_episodes': expected a number, but the state holds str"),
        (_evaluator, r"unknown \['reward_normaliser'\]"),
        (_progress, r"state of the Algorithm: the state lacks \['iteration'\]"),
        (_rng, "random number generators"),
        (_weights, r"policy_head\.bias.*\(4, 4\)"),
        (_counts, "no counts of updates"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(spoil: Any, message: str, tmp_path: Path) -> None:
    algorithm, twin = build(), build()
    algorithm.train()
    algorithm.save_state(tmp_path / "c")
    checkpoint = read_checkpoint(tmp_path / "c")
    spoil(checkpoint.parts)
    write_checkpoint(tmp_path / "c", checkpoint.parts, checkpoint.metadata)
    curve(twin, 2)  # It is in the midst of episodes, which must go on as well.
    before, random = everything(twin), torch.get_rng_state()
    with pytest.raises(StateError, match=message):
        twin.load_state(tmp_path / "c")
    assert everything(twin) == before
    untouched = build()
    curve(untouched, 2)
    torch.set_rng_state(random)
    assert curve(twin, 2) == curve(untouched, 2)
    for each in (algorithm, twin, untouched):
        each.stop()


class Counted(CartPoleEnv):
    """Knows how many of its kind are open."""

    all_open: ClassVar[set["Counted"]] = set()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.all_open.add(self)

    def close(self) -> None:
        super().close()
        self.all_open.discard(self)


@pytest.mark.parametrize("spoil", [None, _evaluator, _weights])
def test_an_evaluator_that_was_made_for_a_checkpoint_is_stopped_if_it_does_not_fit(spoil: Any, tmp_path: Path) -> None:
    config = tiny_config().environment(lambda _: Counted()).evaluation(evaluation_interval=1)
    algorithm, fresh = config.build(), config.copy().build()
    algorithm.train()
    algorithm.save_state(tmp_path / "c")
    algorithm.stop()
    checkpoint = read_checkpoint(tmp_path / "c")
    (spoil or (lambda _: None))(checkpoint.parts)
    write_checkpoint(tmp_path / "c", checkpoint.parts, checkpoint.metadata)
    before = set(Counted.all_open)
    if spoil is None:
        fresh.load_state(tmp_path / "c")
        assert Counted.all_open > before, "its evaluator has environments of its own"
    else:
        with pytest.raises(StateError):
            fresh.load_state(tmp_path / "c")
        assert Counted.all_open == before
    fresh.stop()
    assert not Counted.all_open


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    algorithm = build()
    algorithm.learner_group.save_state(tmp_path / "group")
    before = everything(algorithm)
    with pytest.raises(CheckpointError, match=r"no checkpoint of an Algorithm: it lacks the parts \['algorithm'"):
        algorithm.load_state(tmp_path / "group")
    assert everything(algorithm) == before
    algorithm.stop()


def test_a_checkpoint_without_an_evaluator_resets_it(tmp_path: Path) -> None:
    first, second = build(), build()
    first.save_state(tmp_path / "c")
    curve(second, 3)
    second.load_state(tmp_path / "c")
    assert curve(first, 2) == curve(second, 2)
    first.stop()
    second.stop()


def test_modules_that_were_added_come_back_with_their_algorithm(tmp_path: Path) -> None:
    algorithm = build()
    algorithm.add_module(module_id="snapshot")
    algorithm.train()
    algorithm.save_state(tmp_path / "c")
    restored = PPO.from_checkpoint(tmp_path / "c")
    assert restored.learner_group.get_module_ids() == ["default_policy", "snapshot"]
    assert everything(restored) == everything(algorithm)
    assert curve(restored, 1) == curve(algorithm, 1)
    algorithm.stop()
    restored.stop()


def test_saving_in_the_background_saves_the_moment_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on before a single byte is written, and yet the checkpoint is that of the call."""
    algorithm, trained = build(), threading.Event()

    def write_later(*args: Any, **kwargs: Any) -> None:
        assert trained.wait(60)
        write_contents(*args, **kwargs)

    algorithm.train()
    algorithm.save_state(tmp_path / "foreground", results={"score": 1.0})
    monkeypatch.setattr(background, "write_contents", write_later)
    whole: list[bool] = []
    algorithm.save_state(
        tmp_path / "background",
        results={"score": 1.0},
        background=True,
        then=lambda: whole.append((tmp_path / "background" / "manifest.json").exists()),
    )
    curve(algorithm, 2)
    assert not (tmp_path / "background").exists()
    trained.set()
    algorithm.wait_for_saves()
    assert whole == [True]
    first, second = (read_checkpoint(tmp_path / name) for name in ("foreground", "background"))
    assert {f.part: f.sha256 for f in first.manifest.files.values()} == {
        f.part: f.sha256 for f in second.manifest.files.values()
    }
    assert first.metadata == second.metadata
    algorithm.stop()


@pytest.mark.parametrize("asks", ["save", "wait", "load", "stop"])
def test_a_save_that_failed_in_the_background_is_heard_of(
    asks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    algorithm = build()
    (tmp_path / "file").write_text("in the way")
    algorithm.save_state(tmp_path / "sound")
    algorithm.save_state(tmp_path / "file", background=True)
    algorithm.train()
    calls: dict[str, Any] = {
        "save": lambda: algorithm.save_state(tmp_path / "next", background=True),
        "wait": algorithm.wait_for_saves,
        "load": lambda: algorithm.load_state(tmp_path / "sound"),
        "stop": algorithm.stop,
    }
    with pytest.raises(CheckpointError, match=r"file: there is a file, which is not overwritten"):
        calls[asks]()
    assert "is not overwritten" in caplog.text
    assert (tmp_path / "file").read_text() == "in the way"
    algorithm.stop()


def test_a_learners_checkpoint_is_no_algorithms(tmp_path: Path) -> None:
    learner = make_learner()
    learner.save_state(tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"c is no checkpoint of an Algorithm: it lacks the parts .*env_runner"):
        PPO.from_checkpoint(tmp_path / "c")
