"""A config from a stranger runs nothing."""

from typing import Any

import pytest

from unison import PPOConfig
from unison.config.values import from_plain
from unison.errors import ConfigError

HOSTILE: list[Any] = [
    {"$dataclass": {"class": "subprocess:check_output", "fields": {"args": ["echo", "ran"]}}},
    {"$dataclass": {"class": "subprocess:Popen", "fields": {"args": ["echo", "ran"]}}},
    {"$dataclass": {"class": "torch.hub:load", "fields": {"repo_or_dir": "x", "model": "y"}}},
    {"$import": "os:system"},
    {"$import": "subprocess:Popen"},
    {"$import": "builtins:eval"},
    {"$import": "unison.config.values:importlib.import_module"},
    {"$import": "unison.config.values:sys"},
    {"$import": "torch.serialization:pickle.loads"},
]


@pytest.mark.parametrize("plain", HOSTILE, ids=str)
def test_what_could_run_a_command_is_never_handed_out(plain: Any) -> None:
    with pytest.raises(ConfigError):
        from_plain(plain)
    with pytest.raises(ConfigError):
        PPOConfig.from_dict({"algorithm_name": "ppo", "environment": {"env": plain, "env_config": {"args": ["ls"]}}})
