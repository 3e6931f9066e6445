import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from unison.cli.main import run
from unison.errors import CheckpointError


def assert_one_line(result: Any, *words: str, code: int = 2) -> None:
    assert result.code == code
    lines = result.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unison: ")
    assert "Traceback" not in result.out + result.err
    assert all(word in lines[0] for word in words), lines[0]


CARTPOLE = ("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "64")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ["train"]),
        (("train",), ["unison train ppo"]),
        (("train", "pop", "--env", "CartPole-v1"), ["Did you mean 'ppo'"]),
        (("train", "ppo"), ["--env"]),
        (("train", "ppo", "--env", "CartPol-v1"), ["Did you mean 'CartPole-v1'"]),
        (("train", "ppo", "--env", "nothing:Env"), ["cannot import 'nothing'"]),
        ((*CARTPOLE, "--stop-step", "5"), ["--stop-steps"]),
        ((*CARTPOLE, "--seed", "x"), ["--seed"]),
        ((*CARTPOLE, "--seed", "9" * 23), ["seed=999", "<= 4294967295"]),
        (("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "0"), ["--stop-steps"]),
        ((*CARTPOLE, "--stop-return", "nan"), ["stop_return=nan"]),
        ((*CARTPOLE, "--set", "training.learning_rate=1"), ["learning_rate", "Did you mean 'lr'"]),
        ((*CARTPOLE, "--set", "training.lr=fast"), ["lr", "'fast'", "takes a number"]),
        ((*CARTPOLE, "--set", "env_config.colour=1", "--out", "x"), ["CartPole-v1", "colour"]),
        ((*CARTPOLE, "--config", "nothing.yaml"), ["nothing.yaml"]),
        (("train", "--resume", "nothing"), ["no folder nothing"]),
        (("evaluate", "nothing"), ["nothing at nothing"]),
        (("evaluate", "."), ["neither a run folder nor a checkpoint"]),
        (("inspect", "."), ["neither a run folder nor a checkpoint"]),
        (("inspect",), ["DIR"]),
        (("plot", "nothing"), ["no folder nothing"]),
        (("plot", "."), ["holds no run"]),
        (("export", "nothing"), ["nothing at nothing"]),
        (("settings", "pop"), ["Did you mean 'ppo'"]),
        (("settings", "PPO"), ["Did you mean 'ppo'"]),
        (("settings", "ppo", "clpi"), ["No setting of ppo mentions 'clpi'", "unison settings ppo lists"]),
        (("settings", "ppo", "clip_parm"), ["Did you mean 'clip_param'"]),
        (("train", "SAC", "--env", "Pendulum-v1"), ["Did you mean 'sac'"]),
        ((*CARTPOLE, "--set", "engine=xlaa"), ["engine", "Did you mean 'xla'"]),
        ((*CARTPOLE, "--set", "keep_best_by=evaluation/return_mean"), ["'evaluation/episode_return_mean'"]),
    ],
)
def test_every_mistake_is_one_line_that_says_what_to_do(
    unison: Any, arguments: tuple[str, ...], words: list[str]
) -> None:
    assert_one_line(unison(*arguments), *words)
    assert not Path("x").exists()
    assert not Path("runs").exists()


def test_a_folder_that_holds_a_run(unison: Any, trained: Path) -> None:
    assert_one_line(unison(*CARTPOLE, "--out", trained), "already holds a run", "--resume", "--out")


def test_a_run_that_has_ended(unison: Any, trained: Path) -> None:
    assert_one_line(unison("train", "--resume", trained), "has ended", "--stop-steps", "--stop-return")


@pytest.mark.parametrize("option", [("--env", "Acrobot-v1"), ("--set", "lr=1"), ("--seed", "1"), ("--tensorboard",)])
def test_a_resumed_run_keeps_its_settings(unison: Any, trained: Path, option: tuple[str, ...]) -> None:
    assert_one_line(unison("train", "--resume", trained, *option), "keeps its settings", option[0])
    assert_one_line(unison("train", "ppo", "--resume", trained), "leave out the algorithm")


@pytest.mark.parametrize(
    "command", [("evaluate",), ("inspect",), ("export",), ("train", "--stop-steps", "999", "--resume")]
)
def test_a_damaged_checkpoint_is_named(unison: Any, trained: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    run_folder = tmp_path / "copy"
    shutil.copytree(trained, run_folder)
    file = run_folder / "checkpoints" / "checkpoint_000004" / "modules" / "default_policy.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 1
    file.write_bytes(damaged)
    metrics = (run_folder / "metrics.jsonl").read_bytes()
    assert_one_line(unison(*command, run_folder), "modules/default_policy.safetensors", "SHA-256")
    assert (run_folder / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("tensorboard", (*CARTPOLE, "--tensorboard", "--out", "x"), "unison[tensorboard]"),
        ("matplotlib.figure", ("plot", "{run}"), "unison[plots]"),
        ("moviepy", ("evaluate", "{run}", "--episodes", "1", "--video"), "unison[video]"),
    ],
)
def test_a_missing_extra_is_named(
    unison: Any, trained: Path, monkeypatch: pytest.MonkeyPatch, module: str, arguments: tuple[str, ...], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert_one_line(unison(*(argument.format(run=trained) for argument in arguments)), f"pip install '{extra}'")
    assert not Path("x").exists()
    assert not Path("runs").exists()


def test_a_folder_that_cannot_be_written(unison: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_line(unison(*CARTPOLE, "--out", "file/run"), "Cannot write to file/run", "--out")


BROKEN = """
from gymnasium.envs.classic_control import CartPoleEnv

class BreaksDown(CartPoleEnv):
    steps = 0

    def step(self, action):
        BreaksDown.steps += 1
        if BreaksDown.steps > 100:
            raise RuntimeError("out of\\n    order")
        return super().step(action)
"""


def test_a_run_that_breaks_down_says_how_to_go_on(unison: Any) -> None:
    Path("broken_env.py").write_text(BROKEN)
    settings = ("train_batch_size=32", "minibatch_size=32", "num_epochs=1")
    sets = [word for setting in settings for word in ("--set", setting)]
    result = unison(
        *("train", "ppo", "--env", "broken_env:BreaksDown", "--stop-steps", "999", "--out", "run"),
        *("--checkpoint-interval", "1", "--eval-interval", "0", *sets),
    )
    assert_one_line(result, "out of order", "unison train --resume run")


def test_what_nobody_foresaw_is_one_line_too(unison: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unison.cli.inspect.show_checkpoint", lambda path: 1 / 0)
    assert_one_line(unison("inspect", trained), "ZeroDivisionError", "--debug", code=1)


def test_debug_raises_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        run(["inspect", str(tmp_path / "nothing"), "--debug"])
