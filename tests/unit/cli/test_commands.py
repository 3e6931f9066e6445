import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import load_file

from support.runs import tiny_config, written_run
from unison.algorithms.run_folder import RunFolder, TrainingRun
from unison.cli.loading import choose_checkpoint, load_trained
from unison.modules import ActorCritic


def player_of(agent_id: str, episode: Any) -> str:
    return "one" if agent_id == "player_0" else "two"


class Undrawn(gym.Env[Any, Any]):
    """Ends at once, and draws nothing."""

    observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, np.float32), 1.0, True, False, {}


def test_evaluate_shows_the_returns(unison: Any, trained: Path) -> None:
    result = unison("evaluate", trained, "--episodes", "3", "--seed", "1")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == f"CartPole-v1, {trained / 'checkpoints' / 'checkpoint_000004'}"
    assert lines[1].startswith("return")
    assert lines[3] == "episodes  3, with likeliest actions, seed 1"
    assert unison("evaluate", trained, "--episodes", "3", "--seed", "1").out == result.out
    assert unison("evaluate", trained, "--episodes", "3", "--seed", "2").out.splitlines()[1:3] != lines[1:3]


def test_evaluate_shows_the_returns_of_many_agents_and_of_their_modules(unison: Any, tmp_path: Path) -> None:
    config = tiny_config().environment("classic/rps-v2", env_config={"max_cycles": 3})
    config.multi_agent(policies=["one", "two"], policy_mapping_fn=player_of)
    list(TrainingRun(config, tmp_path / "run", stop_steps=64))
    lines = unison("evaluate", tmp_path / "run", "--episodes", "2").out.splitlines()
    agents, modules = lines[2:4]
    assert re.fullmatch(r"agents    player_0 -?\d\.\d, player_1 -?\d\.\d", agents)
    assert re.fullmatch(r"modules   one -?\d\.\d, two -?\d\.\d", modules)


def test_what_cannot_be_filmed_is_not_evaluated_either(unison: Any, tmp_path: Path) -> None:
    many = tiny_config().environment("classic/rps-v2").multi_agent(policies=["one"])
    for name, config, reason in (
        ("classic/rps-v2", many, "it is PettingZoo's, of many agents"),
        ("Undrawn", tiny_config().environment(Undrawn), "it has no render_mode 'rgb_array'"),
    ):
        out = tmp_path / reason[-6:]
        list(TrainingRun(config, out, stop_steps=64))
        result = unison("evaluate", out, "--episodes", "1", "--video")
        assert (result.code, result.out) == (2, "")
        assert f"'{name}' cannot be filmed: {reason}. Leave out --video." in result.err


def test_evaluate_takes_a_checkpoint_and_the_best_one(unison: Any, trained: Path) -> None:
    first = trained / "checkpoints" / "checkpoint_000001"
    assert str(first) in unison("evaluate", first, "--episodes", "1").out
    best = choose_checkpoint(trained, best=True)
    assert str(best) in unison("evaluate", trained, "--best", "--episodes", "1").out
    assert "no run folder" in unison("evaluate", first, "--best").err


def test_the_best_checkpoint_is_the_one_with_the_best_evaluation(trained: Path) -> None:
    returns = [row["evaluation/episode_return_mean"] for row in RunFolder(trained).read_rows()]
    best = choose_checkpoint(trained, best=True)
    assert returns[int(best.name.rpartition("_")[2]) - 1] == max(returns)


def test_episodes_can_be_filmed(unison: Any, trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "checkpoints" / "checkpoint_000004"
    result = unison("evaluate", checkpoint, "--episodes", "2", "--video")
    assert (result.code, result.err) == (0, "")
    films = sorted((tmp_path / "videos").iterdir())
    assert [film.name for film in films] == ["iteration4-episode-0.mp4", "iteration4-episode-1.mp4"]
    assert all(film.stat().st_size > 1000 for film in films)


def test_inspect_shows_what_is_there(unison: Any, trained: Path) -> None:
    result = unison("inspect", trained)
    assert result.code == 0
    for words in (
        "on disk, every digest verified",
        "one of 4 checkpoints of this run",
        "Module default_policy",
        "policy_head.weight",
        "2 x 8",
        "default_policy/default_optimizer",
        "training_iteration",
        "unison.algorithms.ppo.learner:PPOLearner",
        "training.train_batch_size",
        "evaluation/episode_return_mean",
    ):
        assert words in result.out
    assert "training.gamma" not in result.out  # the default
    module = load_trained(trained).modules["default_policy"]
    assert f"{sum(p.numel() for p in module.parameters()):,} numbers" in result.out


def test_inspect_reads_checkpoints_of_single_modules(unison: Any, trained: Path, tmp_path: Path) -> None:
    load_trained(trained).modules["default_policy"].save_to_checkpoint(tmp_path / "module")
    assert "policy_head.weight" in unison("inspect", tmp_path / "module").out


def test_plot_draws_one_run_into_its_folder_and_many_where_asked(unison: Any, tmp_path: Path) -> None:
    for seed in range(2):
        written_run(tmp_path / "runs" / str(seed), seed=seed)
    assert unison("plot", "runs/0").out == "runs/0/learning_curve.png: 1 run\n"
    assert unison("plot", "runs", "--out", "both.png", "--title", "Both").out == "both.png: 2 runs\n"
    assert unison("plot", "runs/0", "runs/1").out == "learning_curve.png: 2 runs\n"
    assert all(
        Path(name).stat().st_size > 10_000 for name in ("runs/0/learning_curve.png", "both.png", "learning_curve.png")
    )
    assert "Cannot write the picture" in unison("plot", "runs", "--out", "nowhere/both.png").err
    assert "Cannot write the picture" in unison("plot", "runs", "--out", "both.xyz").err


def act_by_hand(weights: dict[str, Any], observation: Any) -> int:
    """The default network with two weights a layer, written out."""
    hidden = np.tanh(weights["encoder.layers.0.weight"] @ observation + weights["encoder.layers.0.bias"])
    return int(np.argmax(weights["policy_head.weight"] @ hidden + weights["policy_head.bias"]))


def test_exported_weights_act_without_unison(unison: Any, trained: Path) -> None:
    result = unison("export", trained, "--out", "exported")
    assert result.out.splitlines() == ["exported/default_policy.safetensors", "exported/export.json"]
    description = json.loads(Path("exported/export.json").read_text())
    module = description["modules"]["default_policy"]
    weights = load_file(Path("exported") / module["file"])
    assert {name: list(array.shape) for name, array in weights.items()} == {
        name: parameter["shape"] for name, parameter in module["parameters"].items()
    }
    assert not any(name.startswith("value") for name in weights)
    assert module["action_space"] == {"type": "Discrete", "n": 2, "start": 0}
    assert module["class_path"] == f"{ActorCritic.__module__}.ActorCritic"
    assert description["config"]["environment"]["env"] == "CartPole-v1"
    import torch

    trained_module = load_trained(trained).modules["default_policy"]
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with torch.no_grad():
        inputs = trained_module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    assert [act_by_hand(weights, observation) for observation in observations] == inputs.argmax(-1).tolist()


def test_export_overwrites_nothing(unison: Any, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    result = unison("export", trained, "--out", "full")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "full is there already" in result.err


@pytest.mark.parametrize(("word", "there", "absent"), [("clip", "training.clip_param", "gamma"), (None, "gamma", None)])
def test_settings_are_listed(unison: Any, word: str | None, there: str, absent: str | None) -> None:
    result = unison("settings", "ppo", *([word] if word else []))
    assert result.code == 0
    assert there in result.out
    assert absent is None or absent not in result.out
