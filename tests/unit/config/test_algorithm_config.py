import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from unison.algorithms.ppo.config import PPOConfig
from unison.config import AlgorithmConfig, Schedule, TrainingSection, UnknownSettingError
from unison.config.setter import catalog
from unison.errors import ConfigError

SETTERS = [
    *("environment", "framework", "resources", "rl_module", "training", "multi_agent"),
    *("env_runners", "evaluation", "checkpointing", "fault_tolerance", "reporting", "debugging"),
]


def test_setters_chain_and_settings_are_attributes() -> None:
    config = PPOConfig().environment("CartPole-v1", env_config={"a": 1}).training(lr=1e-3, clip_param=0.1)
    config.framework("torch", engine="eager").resources(num_learners=2).debugging(seed=7)
    assert isinstance(config, PPOConfig)
    assert (config.env, config.lr, config.clip_param, config.num_learners) == ("CartPole-v1", 1e-3, 0.1, 2)
    config.gamma = 0.9
    assert config.gamma == 0.9
    assert repr(config) == (
        "PPOConfig(env='CartPole-v1', env_config={'a': 1}, framework='torch', engine='eager', num_learners=2, "
        "lr=0.001, gamma=0.9, clip_param=0.1, seed=7)"
    )


def test_defaults_are_never_shared_between_configs() -> None:
    first = PPOConfig().training(lr=1.0)
    assert PPOConfig().lr == 3e-4
    assert first.lr == 1.0


@pytest.mark.parametrize("setter", SETTERS)
def test_help_lists_every_setting_with_its_default(setter: str) -> None:
    function = getattr(PPOConfig, setter)
    names = catalog(PPOConfig).sections[setter].field_names()
    assert inspect.isfunction(function)
    assert list(inspect.signature(function).parameters)[1:] == list(names)
    for name in names:
        assert f"    {name}: " in (function.__doc__ or "")


def test_every_setting_is_described_and_belongs_to_one_setter() -> None:
    sections = catalog(PPOConfig).sections
    assert list(sections) == SETTERS
    names = [name for section in sections.values() for name in section.field_names()]
    assert len(names) == len(set(names))
    for section in sections.values():
        for field in section.model_fields.values():
            assert field.description


def test_every_default_is_a_value_that_its_setter_takes() -> None:
    for setter, section in catalog(PPOConfig).sections.items():
        for name, value in section().as_dict().items():
            getattr(PPOConfig(), setter)(**{name: value})


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("training", {"lr": -1.0}, r"lr=-1.0 .* a number >= 0 or a schedule"),
    ("training", {"lr": "fast"}, r"lr='fast'"),
    ("training", {"lr": [[0, 1.0], [0, 2.0]]}, r"steps of a schedule must grow"),
    ("training", {"lr": [[0, -1.0]]}, r"lr=\[\[0, -1.0\]\]"),
    ("training", {"lr": float("nan")}, r"lr=nan"),
    ("training", {"gamma": 1.5}, r"gamma=1.5 .* a number >= 0 and <= 1"),
    ("training", {"train_batch_size": 0}, r"train_batch_size=0"),
    ("training", {"train_batch_size": 2.5}, r"train_batch_size=2.5"),
    ("training", {"num_epochs": True}, r"num_epochs=True .* an integer > 0"),
    ("training", {"grad_clip_by": "global_nrm"}, r"Did you mean 'global_norm'\?"),
    ("training", {"nan_policy": "ignore"}, r"'skip', 'zero' or 'raise'"),
    ("training", {"optimizer": "adan"}, r"no optimizer is named 'adan'. Did you mean 'adam'"),
    ("training", {"optimizer": {"name": "adam", "momentum": 0.9}}, r"optimizer 'adam' has no setting 'momentum'"),
    ("training", {"optimizer": {"name": "sgd", "momentum": 1.5}}, r"momentum=1.5"),
    ("training", {"optimizer": 3}, r"optimizer=3"),
    ("training", {"learner_class": "PPOLearner"}, r"learner_class='PPOLearner' .* a subclass of Learner"),
    ("training", {"learner_class": object}, r"learner_class=<class 'object'> .* a subclass of Learner"),
    (
        "environment",
        {"env": gymnasium.make("CartPole-v1")},
        r"env is wrong: .*made already.* Give its id, its class, or a",
    ),
    ("training", {"learner_class": "numpy:NoLearner"}, r"Cannot import 'numpy:NoLearner'"),
    ("training", {"learner_connectors": [3]}, r"learner_connectors=\[3\]"),
    ("resources", {"num_learners": -1}, r"num_learners=-1 .* an integer >= 0"),
    ("framework", {"engine": "xls"}, r"Did you mean 'xla'"),
    ("framework", {"precision": "fp8"}, r"precision='fp8'"),
    ("framework", {"framework": "tensorflow"}, r"framework='tensorflow'"),
    ("environment", {"env": 3}, r"env=3"),
    ("environment", {"env_config": {1: 2}}, r"env_config"),
    ("environment", {"observation_space": "Box"}, r"a gymnasium.Space or None"),
    ("rl_module", {"model_config": {"hidden_size": [3]}}, r"no setting 'hidden_size'. Did you mean 'hidden_sizes'"),
    ("rl_module", {"model_config": {"hidden_sizes": [3, 0]}}, r"hidden_sizes=\[3, 0\]"),
    ("rl_module", {"model_config": {"activation": "tahn"}}, r"Did you mean 'tanh'"),
    ("rl_module", {"model_config": {"cell": "gru"}}, r"cell='gru' has no effect without lstm_size"),
    ("rl_module", {"model_config": [3]}, r"model_config=\[3\] .* a dict"),
    ("rl_module", {"rl_module_spec": int}, r"a spec of a module"),
    ("multi_agent", {"policies": "p1"}, r"policies='p1'"),
    ("multi_agent", {"policies": []}, r"policies=\[\]"),
    ("multi_agent", {"policies": ["a", "__all_modules__"]}, r"policies is wrong: '__all_modules__' stands for all"),
    ("multi_agent", {"policies": {"": None}}, r"policies is wrong: '' is no module id"),
    ("multi_agent", {"policies_to_train": 3}, r"policies_to_train=3"),
    ("env_runners", {"rollout_fragment_length": "atuo"}, r"Did you mean 'auto'"),
    ("reporting", {"loggers": ["wandb"]}, r"loggers=\['wandb'\]"),
    ("debugging", {"seed": -1}, r"seed=-1"),
    ("debugging", {"seed": 2**32}, r"seed=4294967296 .* an integer >= 0 and <= 4294967295 or None"),
]


@pytest.mark.parametrize(("setter", "settings", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_raises_at_once_names_the_setting_and_changes_nothing(
    setter: str, settings: dict[str, Any], message: str
) -> None:
    config = PPOConfig().environment("CartPole-v1")
    before = config.to_dict()
    with pytest.raises(ConfigError, match=message):
        getattr(config, setter)(**settings)
    name, value = next(iter(settings.items()))
    if name != "framework":
        with pytest.raises(ConfigError, match=message):
            setattr(config, name, value)
    assert config.to_dict() == before


def test_one_wrong_value_among_right_ones_changes_nothing() -> None:
    config = PPOConfig()
    with pytest.raises(ConfigError):
        config.training(gamma=0.5, lr=-1.0)
    assert config.gamma == 0.99


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "Did you mean 'lr' (set by training())?"),
        ("num_sgd_iter", "Did you mean 'num_epochs' (set by training())?"),
        ("clip_parm", "Did you mean 'clip_param' (set by training())?"),
        ("train_batch", "Did you mean 'train_batch_size' (set by training())?"),
        ("num_learner", "Did you mean 'num_learners' (set by resources())?"),
    ],
)
def test_an_unknown_name_raises_and_names_the_nearest_with_its_setter(name: str, hint: str) -> None:
    config = PPOConfig()
    actions: list[Callable[[], Any]] = [
        lambda: config.training(**{name: 1}),
        lambda: setattr(config, name, 1),
        lambda: getattr(config, name),
    ]
    for action in actions:
        with pytest.raises(UnknownSettingError) as caught:
            action()
        assert f"'{name}'" in str(caught.value)
        assert hint in str(caught.value)


def test_a_setting_of_another_setter_is_pointed_to() -> None:
    with pytest.raises(ConfigError, match=r"training\(\) has no setting 'num_learners'; it belongs to resources\(\)"):
        PPOConfig().training(num_learners=2)


def test_a_name_near_to_nothing_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"Known are: log_level, seed\."):
        AlgorithmConfig().debugging(qqqqqq=1)


def test_a_setting_of_ppo_is_unknown_to_the_base() -> None:
    with pytest.raises(ConfigError, match="clip_param"):
        AlgorithmConfig().training(clip_param=0.1)


def test_hasattr_works_as_for_any_object() -> None:
    assert hasattr(PPOConfig(), "clip_param")
    assert not hasattr(AlgorithmConfig(), "clip_param")


@pytest.mark.parametrize(("setter", "arguments"), [("training", (1,)), ("environment", ("CartPole-v1", {}))])
def test_only_the_first_setting_of_some_setters_may_go_without_its_name(setter: str, arguments: tuple[Any]) -> None:
    with pytest.raises(ConfigError, match="by name"):
        getattr(PPOConfig(), setter)(*arguments)


def test_a_frozen_config_refuses_changes_and_its_copy_takes_them() -> None:
    config = PPOConfig().training(lr=1e-3).environment(env_config={"size": {"x": 1}}).freeze()
    assert config.is_frozen
    with pytest.raises(ConfigError, match="frozen"):
        config.training(lr=1.0)
    with pytest.raises(ConfigError, match="frozen"):
        config.lr = 1.0
    with pytest.raises(ConfigError, match="in place"):
        config.env_config["size"]["x"] = 2
    changed = config.copy().training(lr=1.0)
    assert (config.lr, changed.lr) == (1e-3, 1.0)
    assert not changed.is_frozen


def test_dicts_are_detached_from_those_given() -> None:
    given: dict[str, Any] = {"size": {"x": 1}}
    config = PPOConfig().environment(env_config=given)
    given["size"]["x"] = 2
    assert config.env_config == {"size": {"x": 1}}
    with pytest.raises(ConfigError, match="in place"):
        config.env_config.update(a=1)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_configs_survive_copying_and_the_way_to_another_process(duplicate: Callable[[Any], Any]) -> None:
    space = gymnasium.spaces.Box(-1, 1, (3,))
    config = PPOConfig().environment("CartPole-v1", env_config={"a": {"b": [1]}}).training(lr=[[0, 1.0], [9, 0.0]])
    config.environment(observation_space=space, action_space=space).freeze()
    other = duplicate(config)
    assert other.to_dict() == config.to_dict()
    assert other.is_frozen
    assert other.get_config_for_module("any").lr == config.lr


def test_numpy_numbers_are_numbers() -> None:
    config = PPOConfig().training(lr=np.float32(0.5), train_batch_size=np.int64(128), minibatch_size=np.int32(64))
    assert (config.lr, config.train_batch_size) == (0.5, 128)
    assert type(config.train_batch_size) is int


def test_model_config_is_complete() -> None:
    config = PPOConfig().rl_module(model_config={"hidden_sizes": [32], "conv_layers": [[16, 8, 4]]})
    assert config.model_config == {
        "hidden_sizes": (32,),
        "activation": "tanh",
        "share_value_layers": False,
        "free_log_std": True,
        "conv_layers": ((16, 8, 4),),
        "lstm_size": None,
        "cell": "lstm",
        "max_seq_len": 20,
        "normalize_observations": False,
        "frozen": False,
        "custom_model_config": {},
    }


def test_optimizer_is_complete_and_a_name_alone_takes_the_usual_options() -> None:
    assert PPOConfig().optimizer == {"name": "adam", "betas": (0.9, 0.999), "eps": 1e-5, "weight_decay": 0.0}
    assert AlgorithmConfig().optimizer["eps"] == 1e-8
    assert PPOConfig().training(optimizer="sgd").optimizer == {
        "name": "sgd",
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
    }


def test_scheduled_settings_are_those_that_may_be_schedules() -> None:
    config = PPOConfig().training(lr=[[0, 1e-3], [1000, 0.0]])
    assert config.lr == ((0, 1e-3), (1000, 0.0))
    assert config.scheduled_settings() == {
        "lr": Schedule([[0, 1e-3], [1000, 0.0]]),
        "entropy_coeff": Schedule(0.0),
    }
    assert list(AlgorithmConfig().scheduled_settings()) == ["lr"]


def test_policies_may_be_a_set_a_list_or_a_dict() -> None:
    for policies in ({"b", "a"}, ["a", "b"], ("a", "b"), {"a": None, "b": None}):
        assert AlgorithmConfig().multi_agent(policies=policies).policies == {"a": None, "b": None}


def test_an_algorithm_of_ones_own_declares_its_settings_once() -> None:
    from pydantic import Field, PositiveFloat

    from unison.config import Setter

    class MyTraining(TrainingSection):
        """My update."""

        temperature: PositiveFloat = Field(1.0, description="How soft.")

    class MyConfig(PPOConfig):
        training = Setter(MyTraining)

    config = MyConfig().training(temperature=2.0, lr=1e-2)
    assert (config.temperature, config.lr) == (2.0, 1e-2)
    assert "temperature: How soft." in (MyConfig.training.__doc__ or "")
    assert MyConfig.from_dict(config.to_dict()).temperature == 2.0


def test_a_misspelt_method_is_told_the_nearest() -> None:
    for name, near in (("trainning", "training"), ("env_runer", "env_runners"), ("biuld", "build")):
        with pytest.raises(
            AttributeError, match=rf"PPOConfig has no setting '{name}'\. Did you mean the method {near}\(\)"
        ):
            getattr(PPOConfig(), name)
