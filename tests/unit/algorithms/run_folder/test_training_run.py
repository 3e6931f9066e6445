import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from support.runs import ScriptedReturns, read_rows, tiny_config, without_times
from unison import PPO, PPOConfig
from unison.algorithms.run_folder import RunFolder, StopReason, TrainingRun
from unison.algorithms.run_folder.best_by import is_measured
from unison.algorithms.run_folder.rows import read_csv
from unison.checkpoint import read_manifest
from unison.errors import CheckpointError, ConfigError, NotBuiltError


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.rpartition("_")[2]) for path in (folder / "checkpoints").iterdir())


def scripted_config(*returns: float) -> PPOConfig:
    """A run whose evaluations have these returns, one after another."""
    ScriptedReturns.script = list(returns)
    config = tiny_config().environment(ScriptedReturns)
    return config.evaluation(evaluation_interval=1, evaluation_duration=1, evaluation_env_config={"evaluates": True})


def test_a_run_trains_to_its_steps_and_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = TrainingRun(tiny_config(), out, stop_steps=200)
    with pytest.raises(NotBuiltError, match="not ended"):
        _ = run.outcome
    steps = [progress.env_steps for progress in run]
    assert steps == [64, 128, 192, 256]
    assert run.outcome.reason is StopReason.STEPS_DONE
    assert {path.name for path in out.iterdir()} == {
        *("config.yaml", "run.json", "metrics.jsonl", "metrics.csv", "learning_curve.png", "checkpoints")
    }
    assert [row["num_env_steps_sampled_lifetime"] for row in read_rows(out)] == steps
    assert len(read_csv(out / "metrics.csv")) == 4
    assert checkpoints(out) == [4]
    assert json.loads((out / "run.json").read_text())["outcome"]["env_steps"] == 256


def test_progress_says_where_the_run_stands(tmp_path: Path) -> None:
    config = tiny_config().evaluation(evaluation_interval=2)
    seen = list(TrainingRun(config, tmp_path / "run", stop_return=1e6, stop_steps=256))
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4]
    assert [progress.evaluation_steps for progress in seen] == [None, 128, 128, 256]
    assert seen[0].evaluation_return is None
    assert seen[1].evaluation_return == seen[1].results["evaluation"]["episode_return_mean"]
    assert all(progress.steps_per_second > 0 for progress in seen)
    assert seen[1].seconds_left == pytest.approx(128 / seen[1].steps_per_second)
    assert seen[3].seconds_left == 0
    assert [progress.checkpoint is not None for progress in seen] == [False, False, False, True]


def test_it_ends_when_evaluation_reaches_the_goal_twice(tmp_path: Path) -> None:
    config = scripted_config(9.0, 10.0, *[11.0] * 20)
    run = TrainingRun(config, tmp_path / "run", stop_return=10)
    assert len(list(run)) == 2
    assert run.outcome.reason is StopReason.RETURN_REACHED
    assert (run.outcome.evaluation_return, run.outcome.evaluation_episodes) == (11.0, 20)
    rows = read_rows(tmp_path / "run")
    assert rows[0]["evaluation/episode_return_mean"] == 9.0
    assert "confirmation/episode_return_mean" not in rows[0]
    assert rows[1]["confirmation/episode_return_mean"] == 11.0


def test_a_lucky_evaluation_does_not_end_it(tmp_path: Path) -> None:
    config = scripted_config(50.0, *[0.0] * 20, 50.0, *[10.0] * 20)
    run = TrainingRun(config, tmp_path / "run", stop_return=10)
    assert len(list(run)) == 2
    assert run.outcome.reason is StopReason.RETURN_REACHED


def test_a_goal_turns_evaluation_on_and_the_last_iteration_is_always_evaluated(tmp_path: Path) -> None:
    run = TrainingRun(tiny_config(), tmp_path / "run", stop_return=1e6, stop_steps=128)
    assert run.config.evaluation_interval == 156
    progress = list(run)
    assert "evaluation" not in progress[0].results
    assert run.outcome.evaluation_return == progress[-1].results["evaluation"]["episode_return_mean"]
    assert run.outcome.reason is StopReason.STEPS_DONE


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    config = scripted_config(1.0, 7.0, 3.0, 2.0, 4.0)
    config.checkpointing(checkpoint_interval=1, keep_last=2, keep_best_by="evaluation/episode_return_mean")
    list(TrainingRun(config, tmp_path / "run", stop_steps=320))
    assert checkpoints(tmp_path / "run") == [2, 4, 5]
    manifest = read_manifest(tmp_path / "run" / "checkpoints" / "checkpoint_000002")
    assert manifest.metadata["results"]["evaluation"]["episode_return_mean"] == 7.0  # type: ignore[index,call-overload]


def test_each_better_evaluation_is_saved_when_it_comes(tmp_path: Path) -> None:
    config = scripted_config(1.0, 7.0, 3.0, 7.0, 9.0, 2.0)
    config.checkpointing(keep_last=1, keep_best_by="evaluation/episode_return_mean", checkpoint_at_end=False)
    saved = [p.iteration for p in TrainingRun(config, tmp_path / "run", stop_steps=5 * 64) if p.checkpoint is not None]
    assert saved == [1, 2, 5]
    assert checkpoints(tmp_path / "run") == [5]
    list(TrainingRun.resume(tmp_path / "run", stop_steps=6 * 64))
    assert checkpoints(tmp_path / "run") == [5], "the best of the run before counts after a resumption"


def test_a_resumed_run_has_the_same_curve(tmp_path: Path) -> None:
    config = tiny_config(lr=[[0, 1e-3], [512, 0.0]]).checkpointing(checkpoint_interval=3)
    list(TrainingRun(config, tmp_path / "whole", stop_steps=6 * 64))
    list(TrainingRun(config, tmp_path / "halves", stop_steps=3 * 64))
    run = TrainingRun.resume(tmp_path / "halves", stop_steps=6 * 64)
    assert [progress.iteration for progress in run] == [4, 5, 6]
    whole, halves = read_rows(tmp_path / "whole"), read_rows(tmp_path / "halves")
    assert [without_times(row) for row in halves] == [without_times(row) for row in whole]
    assert len(read_csv(tmp_path / "halves" / "metrics.csv")) == 6


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    config = tiny_config().checkpointing(checkpoint_interval=2)
    out = tmp_path / "run"
    for progress in TrainingRun(config, out, stop_steps=6 * 64):
        if progress.iteration == 3:
            break  # no end is written, as after a kill
    assert RunFolder(out).read_outcome() is None
    run = TrainingRun.resume(out)
    assert run.resumed_from == out / "checkpoints" / "checkpoint_000002"
    assert [progress.iteration for progress in run] == [3, 4, 5, 6]
    assert [row["training_iteration"] for row in read_rows(out)] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_is_told_how_to_go_round(tmp_path: Path) -> None:
    out = tmp_path / "run"
    list(TrainingRun(tiny_config().checkpointing(checkpoint_interval=2), out, stop_steps=4 * 64))
    last = out / "checkpoints" / "checkpoint_000004"
    file = max(last.rglob("*.*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="To go on from the one before it, if there is one, move this one"):
        list(TrainingRun.resume(out, stop_steps=6 * 64))
    last.rename(tmp_path / "elsewhere")
    assert [progress.iteration for progress in TrainingRun.resume(out, stop_steps=6 * 64)] == [3, 4, 5, 6]
    assert [row["training_iteration"] for row in read_rows(out)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for _ in TrainingRun(tiny_config(), out, stop_steps=128):
        break
    run = TrainingRun.resume(out)
    assert run.resumed_from is None
    assert [progress.iteration for progress in run] == [1, 2]
    assert len(read_rows(out)) == 2


def test_a_run_that_was_killed_between_its_last_checkpoint_and_its_end_is_at_its_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config().evaluation(evaluation_interval=1).checkpointing(checkpoint_interval=1, keep_last=1)
    list(TrainingRun(config, out, stop_steps=128))
    ended = RunFolder(out).read_outcome()
    RunFolder(out).write_run(RunFolder(out).read_stop(), None)  # as it stood before
    folder = RunFolder(out).checkpoint_folder
    shutil.copytree(folder / "checkpoint_000002", folder / "checkpoint_000001")  # not deleted yet
    run = TrainingRun.resume(out)
    assert list(run) == []
    assert checkpoints(out) == [2]
    assert run.outcome.reason is StopReason.STEPS_DONE
    assert RunFolder(out).read_outcome() == ended
    assert len(read_rows(out)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_checkpoint_to_go_on_from(tmp_path: Path, number: signal.Signals) -> None:
    out, asked = tmp_path / "run", list[bool]()
    run = TrainingRun(tiny_config(), out, stop_steps=6 * 64, on_interrupt=lambda: asked.append(True))
    before = signal.getsignal(number)
    seen: list[int] = []
    for progress in run:
        seen.append(progress.iteration)
        if progress.iteration == 2:
            os.kill(os.getpid(), number)
    assert seen == [1, 2, 3]
    assert asked == [True]
    assert run.outcome.reason is StopReason.INTERRUPTED
    assert checkpoints(out) == [3]
    assert signal.getsignal(number) is before
    assert [progress.iteration for progress in TrainingRun.resume(out)] == [4, 5, 6]


def test_an_interrupted_run_is_saved_even_if_the_end_is_not(tmp_path: Path) -> None:
    config = tiny_config().checkpointing(checkpoint_at_end=False)
    list(TrainingRun(config, tmp_path / "whole", stop_steps=64))
    assert not (tmp_path / "whole" / "checkpoints").exists()
    for progress in TrainingRun(config, tmp_path / "cut", stop_steps=256):
        if progress.iteration == 1:
            os.kill(os.getpid(), signal.SIGINT)
    assert checkpoints(tmp_path / "cut") == [2]


def test_a_run_that_has_ended_needs_a_new_goal(tmp_path: Path) -> None:
    out = tmp_path / "run"
    list(TrainingRun(tiny_config(), out, stop_steps=128))
    with pytest.raises(ConfigError, match=r"has ended: steps done, 128 steps.*--stop-steps"):
        TrainingRun.resume(out)
    with pytest.raises(ConfigError, match=r"has done 128 steps.*larger --stop-steps"):
        list(TrainingRun.resume(out, stop_steps=100))
    assert RunFolder(out).read_outcome() is not None
    assert [progress.iteration for progress in TrainingRun.resume(out, stop_steps=192)] == [3]


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    config = tiny_config().environment("CartPole-v1", env_config={"no_such": 1})
    with pytest.raises(Exception, match="no_such"):
        list(TrainingRun(config, tmp_path / "run", stop_steps=64))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    list(TrainingRun(tiny_config(), tmp_path / "run", stop_steps=64))
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        TrainingRun(tiny_config(), tmp_path / "run", stop_steps=64)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = iter(TrainingRun(tiny_config().checkpointing(checkpoint_interval=1), out, stop_steps=256))
    next(first), next(first)
    while RunFolder(out).latest_checkpoint() is None:  # It is written in the background.
        time.sleep(0.01)
    before = (out / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=rf"Another process trains in {out}\. .* --resume {out}"):
        list(TrainingRun.resume(out, stop_steps=512))
    assert (out / "run.json").read_bytes() == before
    assert len(list(first)) == 2
    assert [row["training_iteration"] for row in read_rows(out)] == [1, 2, 3, 4]
    assert [progress.iteration for progress in TrainingRun.resume(out, stop_steps=320)] == [5]


def test_of_two_runs_that_begin_in_one_folder_the_second_changes_nothing(tmp_path: Path) -> None:
    first, second = (TrainingRun(tiny_config().debugging(seed=s), tmp_path / "run", stop_steps=128) for s in (0, 1))
    with RunFolder(tmp_path / "run").held(), pytest.raises(ConfigError, match="Another process"):
        list(second)
    assert not any((tmp_path / "run").iterdir())
    assert len(list(first)) == 2


def test_a_run_goes_on_from_where_the_other_process_left_it_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = iter(TrainingRun(tiny_config().checkpointing(keep_last=1), out, stop_steps=256))
    next(first)
    resumed, longer = TrainingRun.resume(out), TrainingRun.resume(out, stop_steps=384)
    assert resumed.resumed_from is None
    assert len(list(first)) == 3
    with pytest.raises(ConfigError, match="has ended: steps done, 256 steps"):
        list(resumed)
    assert [progress.iteration for progress in longer] == [5, 6]
    with pytest.raises(ConfigError, match="has ended: steps done, 384 steps"):
        list(longer)
    assert [row["training_iteration"] for row in read_rows(out)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_has_ended_and_lost_its_checkpoints_keeps_its_metrics(tmp_path: Path) -> None:
    out = tmp_path / "run"
    list(TrainingRun(tiny_config(), out, stop_steps=128))
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(CheckpointError, match=r"has ended, and there is no checkpoint"):
        list(TrainingRun.resume(out, stop_steps=256))
    assert len(read_rows(out)) == 2


def test_a_run_folder_is_no_checkpoint(tmp_path: Path) -> None:
    list(TrainingRun(tiny_config().checkpointing(checkpoint_interval=1), tmp_path / "run", stop_steps=128))
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint_000002"
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        with pytest.raises(
            CheckpointError, match=rf"{folder}: it is no checkpoint, .* run's.*the last is {checkpoint}\."
        ):
            PPO.from_checkpoint(folder)
    PPO.from_checkpoint(checkpoint).stop()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("evaluation/return_mean", "evaluation/episode_return_mean"),
        ("episode_return_mean", "e[a-z_]*/episode_return_mean"),
        ("evaluation", "evaluation/"),
        ("training_iteration/x", "training_iteration"),
    ],
)
def test_a_misspelt_keep_best_by_is_refused_before_training(tmp_path: Path, name: str, near: str) -> None:
    config = tiny_config().evaluation(evaluation_interval=1).checkpointing(keep_best_by=name)
    with pytest.raises(ConfigError, match=rf"keep_best_by='{name}' is no result of training\. .*'?{near}"):
        TrainingRun(config, tmp_path / "run", stop_steps=64)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("learners/default_policy/entrpy", "learners/default_policy/entropy"),
        ("learners/default_polcy/entropy", "learners/default_policy/entropy"),
        ("env_runners/episode_return", "env_runners/episode_return_m"),
    ],
)
def test_what_only_results_can_tell_is_refused_after_the_first(tmp_path: Path, name: str, near: str) -> None:
    config = tiny_config().checkpointing(keep_best_by=name)
    with pytest.raises(ConfigError, match=rf"'{name}' is no result of training\. Did you mean '{near}"):
        list(TrainingRun(config, tmp_path / "run", stop_steps=256))
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()


def test_results_that_come_later_are_waited_for() -> None:
    assert is_measured("training_iteration", {})
    assert is_measured("evaluation/episode_return_max", {})
    assert not is_measured("env_runners/agent_return_mean/anna", {"env_runners": {"agent_return_mean": {}}})
    assert is_measured("env_runners/agent_return_mean/anna", {"env_runners": {"agent_return_mean": {"anna": 1.0}}})
    learners = {"early": {"policy_loss": 1.0}}
    assert not is_measured("learners/late/policy_loss", {"learners": learners}, ["early", "late"])
    assert is_measured("learners/early/policy_loss", {"learners": learners}, ["early", "late"])
    assert not is_measured("learners/__all_modules__/num_updates", {"learners": {}}, ["early"])
