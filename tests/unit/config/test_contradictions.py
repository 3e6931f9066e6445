from typing import Any

import gymnasium
import pytest

from unison import MultiAgentRLModuleSpec, SingleAgentRLModuleSpec
from unison.algorithms.ppo.config import PPOConfig
from unison.config import AlgorithmConfig
from unison.errors import ConfigError

SPACE = gymnasium.spaces.Discrete(2)


def specs(*module_ids: str) -> MultiAgentRLModuleSpec:
    return MultiAgentRLModuleSpec(module_specs={m: SingleAgentRLModuleSpec(None, SPACE, SPACE) for m in module_ids})


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"train_batch_size": 32, "minibatch_size": 64}, r"minibatch_size=64 exceeds train_batch_size=32"),
    ({"grad_clip": None, "grad_clip_by": "norm"}, r"grad_clip_by='norm' has no effect without grad_clip"),
    ({"policies": ["a"], "policies_to_train": ["b"]}, r"policies_to_train names \['b'\]"),
    ({"policies": ["a"], "algorithm_config_overrides_per_module": {"b": {"lr": 1.0}}}, r"names \['b'\]"),
    (
        {"rl_module_spec": specs("c"), "policies": ["a", "b"]},
        r"specs for \['c'\], but none for the policies \['a', 'b'\]",
    ),
    ({"observation_space": SPACE, "action_space": None}, r"give both"),
    ({"env": dict, "vectorization": "vector_entry_point"}, r"registered with Gymnasium"),
    ({"keep_best_by": "evaluation/episode_return_mean", "evaluation_interval": None}, r"set evaluation_interval"),
]


@pytest.mark.parametrize(("settings", "message"), CONTRADICTIONS, ids=[message for _, message in CONTRADICTIONS])
def test_contradicting_settings_raise_at_once_in_any_order(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlgorithmConfig().change(settings)
    (first, first_value), (second, second_value) = settings.items()
    for order in [(first, first_value, second, second_value), (second, second_value, first, first_value)]:
        config = AlgorithmConfig().change({order[0]: order[1]})
        before = config.to_dict()
        with pytest.raises(ConfigError, match=message):
            setattr(config, order[2], order[3])
        assert config.to_dict() == before


def test_a_setting_that_only_contradicts_a_default_raises_when_all_are_known() -> None:
    config = PPOConfig().training(train_batch_size=32)  # below the default of minibatch_size, which may still follow
    with pytest.raises(ConfigError, match="minibatch_size=64 exceeds train_batch_size=32"):
        config.validate()
    config.training(minibatch_size=16).validate()


def test_what_fits_together_is_left_alone() -> None:
    config = PPOConfig().training(train_batch_size=64, minibatch_size=64, grad_clip_by="value")
    config.multi_agent(policies=["a", "b"], policies_to_train=["b"]).evaluation(evaluation_interval=1)
    config.checkpointing(keep_best_by="evaluation/episode_return_mean").validate()
    assert config.policies_to_train == ("b",)


def test_defaults_do_not_contradict_each_other() -> None:
    AlgorithmConfig().validate()
    PPOConfig().validate()
    assert not list(PPOConfig().contradictions())


def test_modules_that_only_a_spec_names_can_be_frozen_and_differ() -> None:
    config = PPOConfig().rl_module(rl_module_spec=specs("even", "odd"), model_config={"hidden_sizes": (4,)})
    config.multi_agent(policies_to_train=["odd"], algorithm_config_overrides_per_module={"even": {"lr": 0.5}})
    learner = config.framework(engine="eager").build_learner()
    assert [module_id for module_id in learner.module if learner.should_module_be_updated(module_id)] == ["odd"]
    assert learner.config_for_module("even").lr == 0.5


@pytest.mark.parametrize("setting", ["policies_to_train", "algorithm_config_overrides_per_module"])
def test_modules_that_neither_names_are_refused(setting: str) -> None:
    config = PPOConfig().rl_module(rl_module_spec=specs("even", "odd"))
    config.change({setting: {"old": {}} if setting.endswith("per_module") else ["old"]})
    with pytest.raises(ConfigError, match=rf"{setting} names \['old'\], but the modules are \['even', 'odd'\]"):
        config.validate()


def test_a_spec_may_name_modules_for_which_nobody_acts() -> None:
    config = PPOConfig().rl_module(rl_module_spec=specs("encoder", "a", "b"))
    config.multi_agent(policies=["a", "b"], policies_to_train=["a", "encoder"]).validate()
    assert list(config.build_learner().module) == ["encoder", "a", "b"]


def test_policies_may_name_more_modules_than_a_spec() -> None:
    PPOConfig().rl_module(rl_module_spec=specs("a")).multi_agent(policies=["a", "b"]).validate()
