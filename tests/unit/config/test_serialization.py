import dataclasses
import json
import math
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from hypothesis import given
from hypothesis import strategies as st

from unison.algorithms import PPOLearner
from unison.algorithms.ppo.config import PPOConfig
from unison.config import AlgorithmConfig
from unison.config.values import from_plain, to_plain
from unison.errors import ConfigError


@dataclasses.dataclass
class Spec:
    """A spec of a module, as the modules define theirs."""

    module_class: type | None = None
    observation_space: Any = None

    def build(self) -> Any:
        return self.module_class


class Corridor(gymnasium.Env[Any, Any]):
    observation_space = Box(0.0, 1.0, (1,))
    action_space = Discrete(2)


def make_corridor(env_config: dict[str, Any]) -> Corridor:
    return Corridor()


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


def full_config() -> PPOConfig:
    config = PPOConfig().environment(make_corridor, env_config={"size": (3, 4), "reward": math.inf, "deep": {"x": [1]}})
    config.environment(observation_space=Corridor.observation_space, action_space=Corridor.action_space)
    config.training(lr=[[0, 1e-3], [100, 0.0]], optimizer={"name": "sgd", "momentum": 0.9}, learner_class=PPOLearner)
    config.training(learner_connectors=[make_corridor])
    config.rl_module(
        rl_module_spec=Spec(Corridor, Discrete(3)),
        model_config={"conv_layers": [[8, 3, 1]], "custom_model_config": {"shape": (2, 3)}},
    )
    config.multi_agent(
        policies={"a": Spec(), "b": None},
        policies_to_train=make_corridor,
        algorithm_config_overrides_per_module={"a": {"lr": np.float32(0.5)}},
    )
    return config


def test_to_dict_is_json_and_comes_back_whole() -> None:
    config = full_config()
    data = config.to_dict()
    again = AlgorithmConfig.from_dict(through_json(data))
    assert isinstance(again, PPOConfig)
    assert again.to_dict() == data
    assert again.env is make_corridor
    assert again.env_config == {"size": (3, 4), "reward": math.inf, "deep": {"x": [1]}}
    assert again.lr == ((0, 1e-3), (100, 0.0))
    assert again.learner_class is PPOLearner
    assert again.learner_connectors == (make_corridor,)
    assert again.rl_module_spec == Spec(Corridor, Discrete(3))
    assert again.model_config == config.model_config
    assert again.policies == {"a": Spec(), "b": None}
    assert again.policies_to_train is make_corridor
    assert again.get_config_for_module("a").lr == 0.5
    assert again.observation_space == Corridor.observation_space


@pytest.mark.parametrize("config_class", [AlgorithmConfig, PPOConfig])
def test_defaults_come_back_and_validate(config_class: type[AlgorithmConfig]) -> None:
    again = AlgorithmConfig.from_dict(config_class().to_dict())
    again.validate()
    assert type(again) is config_class
    assert again.to_dict() == config_class().to_dict()


def test_what_cannot_be_stored_says_so_and_is_given_anew() -> None:
    config = PPOConfig().environment(lambda env_config: Corridor())
    data = through_json(config.to_dict())
    assert list(data["environment"]["env"]) == ["$not_serializable"]
    assert "<lambda>" in data["environment"]["env"]["$not_serializable"]
    with pytest.raises(ConfigError, match=r"The setting 'env' cannot be read: .*lambda.*overrides="):
        PPOConfig.from_dict(data)
    again = PPOConfig.from_dict(data, overrides={"env": "CartPole-v1", "seed": 3})
    assert (again.env, again.seed) == ("CartPole-v1", 3)


def test_local_functions_and_classes_are_not_stored() -> None:
    def local() -> None: ...

    class Local: ...

    for value in (local, Local, Local(), lambda: None):
        assert list(to_plain(value)) == ["$not_serializable"]


def test_an_unknown_section_setting_or_algorithm_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no section 'trainin'. Did you mean 'training'"):
        PPOConfig.from_dict({"trainin": {}})
    with pytest.raises(ConfigError, match=r"training\(\) has no setting 'learning_rate'. Did you mean 'lr'"):
        PPOConfig.from_dict({"training": {"learning_rate": 1.0}})
    with pytest.raises(ConfigError, match=r"training\(\) has no setting 'seed'; it belongs to debugging"):
        PPOConfig.from_dict({"training": {"seed": 1}})
    with pytest.raises(ConfigError, match="Did you mean 'ppo'"):
        AlgorithmConfig.from_dict({"algorithm_name": "pppo"})
    with pytest.raises(ConfigError, match="takes settings by name"):
        AlgorithmConfig.from_dict({"training": 3})


def test_a_config_of_another_algorithm_is_refused() -> None:
    class OtherConfig(AlgorithmConfig):
        algorithm_name = "other"

    with pytest.raises(ConfigError, match="a config of 'ppo', not one that OtherConfig can read"):
        OtherConfig.from_dict(PPOConfig().to_dict())


FILES = {
    "config.yaml": """
        algorithm_name: ppo
        environment: {env: CartPole-v1, env_config: {length: 1e5}}
        training: {lr: 3e-4, entropy_coeff: [[0, 1e-2], [1e5, 0]], grad_clip: null}
        rl_module: {model_config: {hidden_sizes: [32, 32]}}
    """,
    "config.toml": """
        algorithm_name = "ppo"
        environment = {env = "CartPole-v1", env_config = {length = 1e5}}
        rl_module.model_config.hidden_sizes = [32, 32]
        [training]
        lr = 3e-4
        entropy_coeff = [[0, 1e-2], [1e5, 0]]
    """,
    "config.json": """{
        "algorithm_name": "ppo", "environment": {"env": "CartPole-v1", "env_config": {"length": 1e5}},
        "training": {"lr": 3e-4, "entropy_coeff": [[0, 1e-2], [1e5, 0]]},
        "rl_module": {"model_config": {"hidden_sizes": [32, 32]}}
    }""",
}


@pytest.mark.parametrize("name", FILES)
def test_a_config_written_by_hand_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    config = AlgorithmConfig.from_file(path)
    assert isinstance(config, PPOConfig)
    assert (config.env, config.env_config, config.lr) == ("CartPole-v1", {"length": 1e5}, 3e-4)
    assert config.entropy_coeff == ((0, 0.01), (100_000, 0.0))
    assert config.model_config["hidden_sizes"] == (32, 32)
    assert config.minibatch_size == 64


def test_to_dict_survives_yaml(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(full_config().to_dict(), sort_keys=False))
    assert AlgorithmConfig.from_file(path).to_dict() == full_config().to_dict()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.ini", "", "name it .yaml, .toml or .json"),
        ("config.yaml", "training: [", "is not well-formed"),
        ("config.yaml", "training:\n  lr: 1.0\n  gamma: 0.9\n  lr: 2.0\n", "(?s)'lr' .* first in line 2; .*line 4"),
        ("config.yaml", "training: {}\ndebugging: {}\ntraining: {lr: 1.0}", "(?s)'training' .* line 1; .*line 3"),
        ("config.json", '{"training": {"lr": 1, "lr": 2}}', "(?s)'lr' stands there twice, first in line 1; .*line 1"),
        ("config.toml", "training = [", "is not well-formed"),
        ("config.yaml", "- 3", "must hold sections"),
        ("config.yaml", "environment: {env: !!python/name:os.system }", "is not well-formed"),
        ("absent.yaml", None, "No such file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        AlgorithmConfig.from_file(path)
    assert name in str(caught.value)


SPACES = [
    Box(-1.0, 1.0, (3,)),
    Box(0, 255, (84, 84, 4), np.uint8),
    Box(np.array([-np.inf, 0.1, -2.5]), np.array([np.inf, 0.7, np.inf]), dtype=np.float64),
    Box(np.array([[-3], [2**40]]), np.array([[5], [2**50]]), dtype=np.int64),
    Box(0.0, 1.0, ()),
    Discrete(5),
    Discrete(3, start=-1),
    MultiDiscrete([2, 3]),
    MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 2]]),
    MultiBinary(4),
    MultiBinary([2, 3]),
    Dict({"b": Discrete(2), "a": Tuple([Box(-np.inf, np.inf, (2,)), MultiBinary(1)])}),
    Dict(OrderedDict([("z", Discrete(2)), ("a", Dict({"inner": Discrete(3)}))])),
    Tuple([Discrete(2), Tuple([Discrete(4)])]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_come_back_equal(space: gymnasium.Space[Any]) -> None:
    plain = through_json(to_plain(space))
    again = from_plain(plain)
    assert type(again) is type(space)
    assert again == space
    assert again.dtype == space.dtype
    if isinstance(space, Box):
        assert again.low.dtype == space.low.dtype
        np.testing.assert_array_equal(again.low, space.low)
        np.testing.assert_array_equal(again.high, space.high)
    if isinstance(space, Dict):
        assert list(again.spaces) == list(space.spaces)
    assert len(json.dumps(plain)) < 700  # equal bounds are written once, not 28,224 times


def test_a_space_of_another_kind_is_not_stored() -> None:
    assert list(to_plain(Text(5))) == ["$not_serializable"]
    assert list(to_plain(Dict({"a": Text(5)}))) == ["$not_serializable"]


def test_a_space_that_cannot_be_read_names_the_setting() -> None:
    for space in ({"type": "Bax"}, {"type": "Box", "low": 0}):
        with pytest.raises(ConfigError, match="The setting 'observation_space' cannot be read"):
            AlgorithmConfig.from_dict({"environment": {"observation_space": {"$space": space}}})


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$tuple"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(plain_values)
def test_any_tree_of_plain_values_comes_back_equal_with_its_types(value: Any) -> None:
    again = from_plain(through_json(to_plain(value)))
    assert repr(again) == repr(value)


def test_sets_arrays_and_paths_come_back() -> None:
    assert from_plain(through_json(to_plain({1, 2}))) == {1, 2}
    array = np.array([[1.5, np.inf], [-2.0, 0.1]], np.float32)
    again = from_plain(through_json(to_plain({"array": array, "path": Path("a/b")})))
    np.testing.assert_array_equal(again["array"], array)
    assert again["array"].dtype == array.dtype
    assert again["path"] == Path("a/b")


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'\$pickle' is none of the forms"):
        from_plain({"$pickle": "gASV"})


def test_a_class_that_is_not_found_is_told_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    data = {"environment": {"env": {"$import": "mazes_of_mine:Maze"}}}
    message = (
        rf"The setting 'env' cannot be read: Cannot import 'mazes_of_mine:Maze': No module named 'mazes_of_mine'\. "
        rf"It was looked for in {re.escape(str(tmp_path))}, .*PYTHONPATH\. .*overrides=\{{'env': \.\.\.\}}"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        PPOConfig.from_dict(data)
    assert "site-packages" not in str(caught.value)
    (tmp_path / "mazes_of_mine.py").write_text("import no_such_package\n")
    with pytest.raises(ConfigError, match=r"No module named 'no_such_package'\. Or give it anew"):
        PPOConfig.from_dict(data)


def test_keys_that_yaml_merges_may_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "multi_agent:\n  algorithm_config_overrides_per_module:\n    default_policy: &fast {lr: 1.0, gamma: 0.9}\n"
        "training: {<<: *fast, lr: 0.5}\n"
    )
    config = PPOConfig.from_file(path)
    assert (config.lr, config.gamma) == (0.5, 0.9)
