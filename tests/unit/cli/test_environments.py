from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from unison.cli.environments import resolve_environment
from unison.errors import ConfigError


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_known_ids_stay_as_they_are(env: str) -> None:
    assert resolve_environment(env) == env


@pytest.mark.parametrize(
    ("env", "meant"),
    [
        ("CartPol-v1", "CartPole-v1"),
        ("cartpole", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("CartPole-v7", "CartPole-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("pendulum-v1", "Pendulum-v1"),
        ("halfcheeta", "HalfCheetah-v5"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_unknown_id_names_the_nearest_in_its_newest_version(env: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"no environment '{env}'. Did you mean '{meant}'"):
        resolve_environment(env)


def test_what_is_like_nothing_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match="module:Class"):
        resolve_environment("Zxqw-v0")


def test_atari_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="pip install ale-py"):
        resolve_environment("ALE/Nonesuch-v5")


def test_a_class_of_ones_own() -> None:
    assert resolve_environment("gymnasium.envs.classic_control:CartPoleEnv") is CartPoleEnv


def test_an_id_that_a_module_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "gymnasium.envs.classic_control:CartPoleEnv"
    (tmp_path / "my_envs.py").write_text(f"import gymnasium\ngymnasium.register('MyOwn-v0', entry_point={entry!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert resolve_environment("my_envs:MyOwn-v0") == "my_envs:MyOwn-v0"
        with pytest.raises(ConfigError, match="'my_envs' has no 'Other-v0'"):
            resolve_environment("my_envs:Other-v0")
    finally:
        gym.registry.pop("MyOwn-v0", None)


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot import 'no_such_module'"):
        resolve_environment("no_such_module:Env")
