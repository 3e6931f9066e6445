import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unison.algorithms.run_folder import Progress
from unison.cli.live_display import LiveDisplay
from unison.cli.plain_display import PlainDisplay


def progress(steps: int = 1024, **changes: Any) -> Progress:
    learners = {"default_policy": {"policy_loss": -0.01, "vf_loss": 20.5, "entropy": 0.69}, "__all_modules__": {}}
    values: dict[str, Any] = {
        "iteration": 4,
        "env_steps": steps,
        "stop_steps": 4096,
        "seconds": 75.0,
        "steps_per_second": 512.0,
        "evaluation_return": 321.0,
        "evaluation_steps": 512,
        "stop_return": 475.0,
        "results": {"env_runners": {"episode_return_mean": 123.4}, "learners": learners},
        "checkpoint": Path("checkpoint_000004"),
    }
    return Progress(**{**values, **changes})


def shown(width: int = 100, *updates: Progress, stopping: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with LiveDisplay(console) as display:
        for update in updates:
            display.show(update)
        if stopping:
            display.announce_stop()
    return file.getvalue()


def test_the_live_display_shows_it_all() -> None:
    text = shown(100, progress())
    for words in (
        "1,024 of 4,096 (25%)",
        "123.4 mean of the last training episodes",
        "321.0 at 512 steps, goal 475",
        "512 steps/s",
        "1:15, about 0:06 left",
        "policy -0.01  value 20.5  entropy 0.69",
    ):
        assert words in text


def test_the_last_state_stays_on_the_screen_though_frames_are_rare() -> None:
    text = shown(100, *(progress(steps) for steps in range(1000, 1500)))
    assert text.count(" of 4,096") <= 5
    assert "1,499 of 4,096" in text.split("\x1b[2K")[-1] or "1,499 of 4,096" in text


def test_the_live_display_without_an_end_and_without_an_evaluation() -> None:
    text = shown(100, progress(stop_steps=None, evaluation_return=None, stop_return=None))
    assert "1,024" in text
    assert "left" not in text
    assert "evaluation" not in text


def test_the_live_display_answers_ctrl_c() -> None:
    assert "Stopping after this iteration" in shown(100, progress(), stopping=True)


def test_many_modules_do_not_fill_the_screen() -> None:
    learners = {f"p[{number}]": {"total_loss": 1.0} for number in range(9)}
    text = shown(100, progress(results={"env_runners": {}, "learners": learners}))
    assert "p[3]" in text
    assert "and 5 more modules" in text


def test_a_run_that_never_began_leaves_nothing_behind() -> None:
    assert "Starting" not in shown(100).split("\x1b[2K")[-1]


def test_without_a_terminal_lines_are_rare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    display = PlainDisplay()
    for _ in range(30_000):
        clock += 0.01
        display.show(progress())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + 4
    assert lines[0] == "1,024 steps of 4,096  return 123.4  evaluation 321.0  512 steps/s  0:06 left"
