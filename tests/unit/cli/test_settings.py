from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from unison.cli.settings import TrainOptions, build_config
from unison.cli.threads import has_small_networks
from unison.errors import ConfigError


def build(*settings: str, **options: Any) -> Any:
    given = {"algorithm": "ppo", "env": "Acrobot-v1", "tuned": False, **options}
    return build_config(TrainOptions(settings=settings, **given))[0]


def test_options_become_settings() -> None:
    config = build(seed=3, num_envs=5, eval_interval=7, eval_episodes=9, checkpoint_interval=11, tensorboard=True)
    assert (config.env, config.seed, config.num_envs_per_env_runner) == ("Acrobot-v1", 3, 5)
    assert (config.evaluation_interval, config.evaluation_duration, config.checkpoint_interval) == (7, 9, 11)
    assert config.loggers == ("jsonl", "csv", "tensorboard")


def test_evaluation_and_checkpoints_come_by_themselves() -> None:
    config = build("training.train_batch_size=1000", "minibatch_size=100")
    assert config.evaluation_interval == 10
    assert config.checkpoint_interval == 50
    assert config.keep_best_by == "evaluation/episode_return_mean"


def test_evaluation_and_checkpoints_can_be_left_out() -> None:
    config = build(eval_interval=0, checkpoint_interval=0)
    assert config.evaluation_interval is None
    assert config.checkpoint_interval is None
    assert config.keep_best_by is None
    config = build("evaluation.evaluation_interval=none", "checkpoint_interval=none", "keep_last=none")
    assert config.evaluation_interval is None
    assert config.checkpoint_interval is None
    assert config.keep_last is None


@pytest.mark.parametrize("name", ["eval", "checkpoint"])
def test_an_interval_of_0_is_an_option_as_any_other(tmp_path: Path, name: str) -> None:
    """It counts more than the file, and less than --set."""
    section, setting = {
        "eval": ("evaluation", "evaluation_interval"),
        "checkpoint": ("checkpointing", "checkpoint_interval"),
    }[name]
    file = tmp_path / "mine.yaml"
    file.write_text(f"{section}: {{{setting}: 7}}\n")
    off: Any = {f"{name}_interval": 0}
    assert getattr(build(config=file), setting) == 7
    assert getattr(build(config=file, **off), setting) is None
    assert getattr(build(f"{setting}=2", config=file, **off), setting) == 2
    assert getattr(build(f"{setting}=none", **{f"{name}_interval": 5}), setting) is None


def test_a_goal_without_evaluations_is_refused() -> None:
    for settings, options in (((), {"eval_interval": 0}), (("evaluation_interval=none",), {})):
        with pytest.raises(ConfigError, match="--stop-return goes by evaluations, and there are none"):
            build(*settings, stop_return=20.0, **options)
    assert build("evaluation_interval=2", eval_interval=0, stop_return=20.0).evaluation_interval == 2


def test_a_seed_is_drawn_so_that_the_run_can_be_repeated() -> None:
    first, second = build().seed, build().seed
    assert isinstance(first, int)
    assert first != second


def test_set_reads_values_and_reaches_into_dicts() -> None:
    config = build("training.lr=[[0, 1e-3], [100, 0]]", "rl_module.model_config.hidden_sizes=[8, 8]", "grad_clip=none")
    assert config.lr == ((0, 1e-3), (100, 0.0))
    assert config.model_config["hidden_sizes"] == (8, 8)
    assert config.grad_clip is None


@pytest.mark.parametrize("turn", [1, -1])
def test_settings_that_must_change_together_may_come_in_any_order(turn: int) -> None:
    both = ["train_batch_size=8192", "minibatch_size=4096"][::turn]
    config = build(*both)
    assert (config.train_batch_size, config.minibatch_size) == (8192, 4096)
    assert build(*both, env="CartPole-v1", tuned=True).minibatch_size == 4096


def test_the_order_is_tuned_then_file_then_options_then_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[environment]\nenv = "CartPole-v1"\n[training]\nlr = 5e-4\ngamma = 0.9\n[debugging]\nseed = 4\n')
    config, tuned = build_config(
        TrainOptions(algorithm="ppo", config=file, tuned=True, seed=5, settings=("training.gamma=0.8",))
    )
    assert tuned is not None
    assert config.lambda_ == 0.8  # tuned
    assert config.lr == 5e-4  # the file
    assert config.seed == 5  # the option
    assert config.gamma == 0.8  # --set


def test_tuned_settings_are_the_default_only_without_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training: {gamma: 0.9}\n")
    assert build(env="CartPole-v1", tuned=None).train_batch_size == 256
    assert build(env="CartPole-v1", tuned=False).train_batch_size == 2048
    assert build(env="CartPole-v1", tuned=None, config=file).train_batch_size == 2048
    assert build(tuned=None, env="MountainCar-v0").train_batch_size == 2048


class Camera(gym.Env[Any, Any]):
    """Sees an image and a number."""

    observation_space = gym.spaces.Dict(
        {"image": gym.spaces.Box(0, 255, (16, 16, 3), np.uint8), "speed": gym.spaces.Box(-1, 1, (1,))}
    )
    action_space = gym.spaces.Discrete(2)


def test_small_networks_get_one_thread_and_large_ones_what_torch_takes() -> None:
    assert build().num_threads == 1
    assert build("model_config.hidden_sizes=[64, 512]").num_threads is None
    assert build("model_config.lstm_size=512").num_threads is None
    assert build("num_threads=3").num_threads == 3
    assert build("framework.num_threads=none").num_threads is None
    data = build().copy().environment(Camera)
    assert not has_small_networks(data)


def test_every_file_of_tuned_settings_is_sound() -> None:
    folder = Path(build_config(TrainOptions("ppo", "CartPole-v1"))[1] or "").parent
    for path in folder.glob("*.yaml"):
        config, used = build_config(TrainOptions("ppo", path.stem))
        assert used == path
        config.validate()


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        (("training.lrr=1",), {}, "Did you mean 'lr'"),
        (("lr",), {}, "NAME=VALUE"),
        (("=3",), {}, "NAME=VALUE"),
        (("lr=x",), {}, "takes a number"),
        (("minibatch_size=4096",), {}, "exceeds train_batch_size"),
        ((), {"env": None}, "--env"),
        ((), {"algorithm": None}, "Which algorithm"),
        ((), {"algorithm": "poo"}, "Did you mean 'ppo'"),
        ((), {"env": "MountainCar-v0", "tuned": True}, "no tuned settings for 'MountainCar-v0'"),
        ((), {"config": Path("nothing.yaml")}, "nothing.yaml"),
    ],
)
def test_mistakes_say_what_to_do(settings: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(*settings, **options)
