import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from unison.cli.environments import resolve_environment
from unison.config import spaces_of
from unison.errors import ConfigError, MissingExtraError


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


@pytest.mark.parametrize("env", ["classic/connect_four-v3", "mpe2.simple_spread_v3"])
def test_names_of_pettingzoo_stay_as_they_are_and_can_be_made(env: str) -> None:
    assert resolve_environment(env) == env
    assert len(spaces_of(env)) > 1


def test_a_module_by_name_gets_the_settings() -> None:
    assert len(spaces_of("mpe2.simple_spread_v3", {"N": 4})) == 4


@pytest.mark.parametrize("env", ["classic/chess-v99", "no_such_package.simple_v3", "mpe2.no_such_v3"])
def test_unknown_names_of_pettingzoo(env: str) -> None:
    with pytest.raises(ConfigError, match=f"no environment '{env}'"):
        resolve_environment(env)


def test_modules_that_make_no_environments() -> None:
    with pytest.raises(ConfigError, match=r"gymnasium\.spaces makes no environments"):
        resolve_environment("gymnasium.spaces")
    with pytest.raises(ConfigError, match="part of Python itself"):
        resolve_environment("os.path")


class WithoutPettingZoo:
    """Answers imports as Python does where the package is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pettingzoo":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


@pytest.mark.parametrize("env", ["classic/connect_four-v3", "pettingzoo.classic.tictactoe_v3"])
def test_names_of_pettingzoo_without_it_name_the_extra(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == "pettingzoo"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [WithoutPettingZoo(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"unison\[multiagent\]"):
        resolve_environment(env)
