import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.runs import read_rows

SMALL = ("--set", "train_batch_size=64", "--set", "minibatch_size=32", "--set", "num_epochs=1", "--seed", "0")
UNISON = (sys.executable, "-m", "unison")


def test_a_run_from_the_command_line(unison: Any) -> None:
    result = unison("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "192", "--out", "run", *SMALL)
    assert result.code == 0
    assert result.err == ""
    said = result.out.splitlines()
    assert said[0].startswith("Settings tuned for CartPole-v1 are in use")
    assert said[1] == "PPO on CartPole-v1, seed 0, in run"
    assert said[2].startswith("Done after 192 steps: evaluation return")
    assert said[-1] == "try it      unison evaluate run"
    assert len(said) == 6
    assert len(read_rows(Path("run"))) == 3
    assert Path("run/learning_curve.png").exists()
    assert unison("evaluate", "run", "--episodes", "2").code == 0


def test_the_same_seed_gives_the_same_run(unison: Any) -> None:
    for out in ("first", "second"):
        unison("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "128", "--out", out, *SMALL)
    weights = [
        Path(out, "checkpoints/checkpoint_000002/modules/default_policy.safetensors") for out in ("first", "second")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_goal_that_was_missed_is_said(unison: Any) -> None:
    arguments = ("--stop-return", "475", "--stop-steps", "64", "--out", "run", *SMALL)
    result = unison("train", "ppo", "--env", "CartPole-v1", *arguments)
    assert "Not solved within 64 steps" in result.out
    assert result.code == 0


def test_runs_without_a_folder_get_one_each(unison: Any) -> None:
    for _ in range(2):
        unison("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "64", *SMALL)
    assert {path.name for path in Path("runs").iterdir()} == {"ppo-CartPole-v1-seed0", "ppo-CartPole-v1-seed0-2"}


def test_tensorboard_events_hold_the_returns(unison: Any) -> None:
    unison("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "128", "--out", "run", "--tensorboard", *SMALL)
    events = EventAccumulator("run/tensorboard").Reload()
    logged = {event.step: event.value for event in events.Scalars("evaluation/episode_return_mean")}
    assert logged == pytest.approx({128: read_rows(Path("run"))[-1]["evaluation/episode_return_mean"]})


def test_an_environment_of_ones_own_in_the_working_folder(unison: Any) -> None:
    Path("my_env.py").write_text(
        "import gymnasium\ndef my_cartpole(config):\n    return gymnasium.make('CartPole-v1')\n"
    )
    result = unison("train", "ppo", "--env", "my_env:my_cartpole", "--stop-steps", "64", "--out", "run", *SMALL)
    assert "PPO on my_cartpole" in result.out
    assert unison("evaluate", "run", "--episodes", "1").code == 0
    assert unison("train", "--resume", "run", "--stop-steps", "128").code == 0


@contextmanager
def started(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """The command line as a process group of its own, none of which outlives the block."""
    process = subprocess.Popen(
        [*UNISON, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for_rows(path: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 100
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path, vectorization: str) -> None:
    begin = ("train", "ppo", "--env", "CartPole-v1", "--stop-steps", "1000000", "--out", "run", "--num-envs", "2")
    settings = ("--set", f"vectorization={vectorization}", "--eval-interval", "0")
    with started(tmp_path, *begin, *SMALL, *settings) as process:
        wait_for_rows(tmp_path / "run" / "metrics.jsonl", 3, process)
        os.killpg(process.pid, signal.SIGINT)  # to all its processes, as a terminal does
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err == "Stopping after this iteration.\n"
    assert out.splitlines()[-1] == "go on       unison train --resume run"
    done = len(read_rows(tmp_path / "run"))
    outcome = json.loads((tmp_path / "run" / "run.json").read_text())["outcome"]
    assert (outcome["reason"], outcome["iteration"]) == ("interrupted", done)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"checkpoint_{done:06d}"]
    if vectorization == "async":
        return
    with started(tmp_path, "train", "--resume", "run", "--stop-steps", str(64 * (done + 2))) as again:
        out, err = again.communicate(timeout=100)
    assert (again.returncode, err) == (0, "")
    assert f"from checkpoint_{done:06d}" in out
    assert [row["training_iteration"] for row in read_rows(tmp_path / "run")] == list(range(1, done + 3))


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from unison.cli.main import run; print(run(['train', '--help']), 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "--stop-return" in said
    assert said.splitlines()[-1] == "0 False"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_the_commands(unison: Any, arguments: tuple[str, ...]) -> None:
    result = unison(*arguments)
    assert result.code == 0
    assert all(command in result.out for command in ("train", "evaluate", "inspect", "plot", "export", "settings"))


def test_version(unison: Any) -> None:
    assert unison("--version").out.startswith("unison 0.")
