import pytest

from unison.algorithms.ppo.config import PPOConfig
from unison.errors import ConfigError


def two_modules() -> PPOConfig:
    return PPOConfig().multi_agent(
        policies=["p0", "p1"],
        algorithm_config_overrides_per_module={"p1": {"lr": [[0, 1e-2], [10, 0.0]], "clip_param": 0.3}},
    )


def test_a_modules_config_differs_by_its_overrides_only() -> None:
    config = two_modules()
    module_config = config.get_config_for_module("p1")
    assert (module_config.lr, module_config.clip_param) == (((0, 1e-2), (10, 0.0)), 0.3)
    assert not module_config.scheduled_settings()["lr"].is_constant
    assert module_config.gamma == config.gamma
    assert config.get_config_for_module("p0").lr == 3e-4


def test_module_configs_are_frozen_and_made_once() -> None:
    config = two_modules().freeze()
    for module_id in ("p0", "p1", "unknown"):
        module_config = config.get_config_for_module(module_id)
        assert module_config.is_frozen
        assert module_config is config.get_config_for_module(module_id)


def test_a_later_change_reaches_the_modules() -> None:
    config = two_modules()
    assert config.get_config_for_module("p1").gamma == 0.99
    config.training(gamma=0.5)
    assert config.get_config_for_module("p1").gamma == 0.5
    assert config.copy().get_config_for_module("p1").clip_param == 0.3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lrr": 1.0}, r"overrides_per_module\['p1'\]: .* no setting 'lrr'. Did you mean 'lr'"),
        ({"lr": -1.0}, r"overrides_per_module\['p1'\]: .* lr=-1.0"),
        ({"train_batch_size": 10}, r"'train_batch_size' is the same for all modules; set it by training\(\)"),
        ({"num_learners": 2}, r"'num_learners' is the same for all modules; set it by resources\(\)"),
        ({"grad_clip": None, "grad_clip_by": "norm"}, r"overrides_per_module\['p1'\]: .* has no effect"),
    ],
)
def test_a_wrong_override_raises_when_it_is_set(overrides: dict[str, object], message: str) -> None:
    config = PPOConfig()
    with pytest.raises(ConfigError, match=message):
        config.multi_agent(policies=["p1"], algorithm_config_overrides_per_module={"p1": overrides})
    assert config.algorithm_config_overrides_per_module == {}


def test_an_override_is_checked_again_when_what_it_overrides_changes() -> None:
    config = PPOConfig().multi_agent(
        policies=["p1"], algorithm_config_overrides_per_module={"p1": {"grad_clip_by": "value"}}
    )
    with pytest.raises(ConfigError, match="no effect without grad_clip"):
        config.training(grad_clip=None)
    assert config.grad_clip == 0.5
