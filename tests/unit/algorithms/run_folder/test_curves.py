import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.runs import tiny_config, written_run
from unison.algorithms.run_folder import RunFolder, StopConditions
from unison.algorithms.run_folder.curves import Curve, group_runs, read_curves, spread
from unison.algorithms.run_folder.plotting import draw_runs, plot_runs
from unison.errors import ConfigError, MissingExtraError


def test_curves_are_the_logged_returns_over_steps(tmp_path: Path) -> None:
    curves = read_curves(written_run(tmp_path / "run", slope=3.0))
    np.testing.assert_array_equal(curves.training.steps, 100.0 * np.arange(1, 21))
    np.testing.assert_array_equal(curves.training.values, 3.0 * np.arange(1, 21))
    np.testing.assert_array_equal(curves.evaluation.steps, [500, 1000, 1500, 2000])
    np.testing.assert_array_equal(curves.evaluation.values, [30, 60, 90, 120])
    assert curves.stop_return == 475


def test_runs_that_differ_by_their_seed_are_one_group(tmp_path: Path) -> None:
    runs = [
        read_curves(written_run(tmp_path / f"{lr}{seed}", seed=seed, lr=lr)) for lr in (1e-3, 1e-4) for seed in (0, 1)
    ]
    groups = group_runs(runs)
    assert [len(group.runs) for group in groups] == [2, 2]
    assert [group.label for group in groups] == ["lr=0.001", "lr=0.0001"]
    assert groups[0].environment == "CartPole-v1"
    assert groups[0].goal == 475


def test_the_mean_is_taken_where_all_runs_are(tmp_path: Path) -> None:
    grid, values = spread(
        [Curve(np.array([0.0, 10.0]), np.array([0.0, 10.0])), Curve(np.array([2.0, 20.0]), np.ones(2))]
    )
    assert (grid[0], grid[-1]) == (2.0, 10.0)
    np.testing.assert_allclose(values[0], grid)
    np.testing.assert_allclose(values[1], 1.0)


def test_a_single_run_shows_training_evaluation_and_goal(tmp_path: Path) -> None:
    panel = draw_runs([written_run(tmp_path / "run")]).axes[0]
    assert panel.get_xlabel() == "environment steps"
    assert panel.get_ylabel() == "return of an episode (mean)"
    assert panel.get_title(loc="left") == "PPO on CartPole-v1"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "training episodes",
        "evaluation",
        "goal: 475",
    ]
    assert panel.get_lines()[-1].get_ydata()[0] == 475


def test_seeds_are_drawn_as_a_mean_with_their_range(tmp_path: Path) -> None:
    folders = [written_run(tmp_path / str(seed), seed=seed, slope=1.0 + seed) for seed in range(3)]
    panel = draw_runs(folders).axes[0]
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels[0] == "training episodes (mean and range of 3 seeds)"
    mean = next(line for line in panel.get_lines() if line.get_label() == labels[0])
    assert mean.get_ydata()[-1] == pytest.approx(2.0 * 20)
    band = panel.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.0, 60.0)


def test_settings_are_compared_in_one_panel_and_environments_side_by_side(tmp_path: Path) -> None:
    folders = [written_run(tmp_path / str(lr), lr=lr) for lr in (1e-3, 1e-4)]
    other = RunFolder(tmp_path / "other")
    other.create(tiny_config().environment("Acrobot-v1"), StopConditions())
    (other.path / "metrics.csv").write_text(
        "training_iteration,num_env_steps_sampled_lifetime,env_runners/episode_return_mean\n1,100,-500\n2,200,-400\n"
    )
    figure = draw_runs([*folders, other])
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["PPO on CartPole-v1", "PPO on Acrobot-v1"]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["lr=0.001", "lr=0.0001", "goal: 475"]
    assert figure.axes[0].get_ylabel() == "return in evaluation (mean)"


def test_the_picture_is_no_blank_page(tmp_path: Path) -> None:
    plot_runs([written_run(tmp_path / "run")], tmp_path / "curve.png", title="Mine")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (1080, 660)
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config(), StopConditions())
    with pytest.raises(ConfigError, match="has no metrics yet"):
        draw_runs([folder])
    (folder.path / "metrics.jsonl").write_text('{"training_iteration": 1, "num_env_steps_sampled_lifetime": 64}\n')
    with pytest.raises(ConfigError, match="no episode has ended"):
        draw_runs([folder])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unison\[plots\]'"):
        draw_runs([written_run(tmp_path / "run")])
