from typing import Any

import pytest

from unison.algorithms.ppo.config import PPOConfig
from unison.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("training.lr", "3e-4", 3e-4),
        ("lr", "1", 1.0),
        ("lr", "[[0, 1e-3], [1e6, 0.0]]", ((0, 1e-3), (1_000_000, 0.0))),
        ("training.grad_clip", "none", None),
        ("training.grad_clip", "null", None),
        ("training.shuffle_batch_per_epoch", "false", False),
        ("training.optimizer", "rmsprop", "rmsprop"),
        ("training.optimizer", "{name: sgd, momentum: 0.9}", "sgd"),
        ("environment.env", "Acrobot-v1", "Acrobot-v1"),
        ("env", "ALE/Pong-v5", "ALE/Pong-v5"),
        ("framework.framework", "torch", None),
        ("reporting.loggers", "[csv]", ("csv",)),
        ("evaluation.evaluation_interval", "5", 5),
    ],
)
def test_a_string_is_read_as_the_value_it_stands_for(path: str, text: str, expected: Any) -> None:
    config = PPOConfig().set_path(path, text)
    name = path.split(".")[-1]
    if name == "optimizer":
        assert config.optimizer["name"] == expected
    elif name != "framework":
        assert getattr(config, name) == expected


def test_a_path_leads_into_dicts_and_keeps_their_other_items() -> None:
    config = PPOConfig().rl_module(model_config={"activation": "relu"}).multi_agent(policies=["p1"])
    config.set_path("rl_module.model_config.hidden_sizes", "[32, 16]").set_path("optimizer.eps", "1e-7")
    config.set_path("env_config.layout.size", "3").set_path("env_config.layout.name", "maze")
    config.set_path("multi_agent.algorithm_config_overrides_per_module.p1.lr", "1e-2")
    assert config.model_config["hidden_sizes"] == (32, 16)
    assert config.model_config["activation"] == "relu"
    assert config.optimizer == {"name": "adam", "betas": (0.9, 0.999), "eps": 1e-7, "weight_decay": 0.0}
    assert config.env_config == {"layout": {"size": 3, "name": "maze"}}
    assert config.get_config_for_module("p1").lr == 1e-2


def test_values_that_are_no_strings_are_taken_as_they_are() -> None:
    assert PPOConfig().set_path("training.lr", 0.5).lr == 0.5


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("trainin.lr", "1", r"'trainin.lr': .*Did you mean 'training'\?"),
        ("training.learning_rate", "1", r"Did you mean 'lr'"),
        ("learning_rate", "1", r"Did you mean 'lr'"),
        ("training.seed", "1", r"it belongs to debugging\(\)"),
        ("training", "1", r"'training'"),
        ("model_config.hidden_size", "[3]", r"Did you mean 'hidden_sizes'"),
        ("lr.value", "1", r"'lr.value' leads nowhere"),
        ("lr", "fast", r"lr='fast'"),
        ("lr", "[[0", r"Cannot read the value '\[\[0'"),
    ],
)
def test_a_wrong_path_or_value_says_what_is_nearest(path: str, text: str, message: str) -> None:
    config = PPOConfig()
    before = config.to_dict()
    with pytest.raises(ConfigError, match=message):
        config.set_path(path, text)
    assert config.to_dict() == before
