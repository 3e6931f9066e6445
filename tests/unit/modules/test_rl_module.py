from collections.abc import Mapping

import pytest
import torch
from gymnasium import spaces
from torch import nn

from unison.config import ModelConfig
from unison.errors import ConfigError, SpaceError
from unison.modules import RLModule
from unison.types import Tree


class Custom(RLModule):
    def setup(self) -> None:
        self.net = nn.Linear(self.observation_space.shape[0], self.model_config.custom_model_config.get("width", 2))

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        return {"action_dist_inputs": self.net(batch["obs"])}


SPACES = {"observation_space": spaces.Box(-1, 1, (3,)), "action_space": spaces.Discrete(2)}


def test_setup_sees_spaces_and_settings() -> None:
    module = Custom(**SPACES, model_config={"custom_model_config": {"width": 5}, "hidden_sizes": [3]})
    assert module.net.out_features == 5
    assert module.model_config.hidden_sizes == (3,)
    assert Custom(**SPACES, model_config=module.model_config).net.out_features == 5
    assert Custom(**SPACES).model_config == ModelConfig()


def test_one_forward_is_enough() -> None:
    module = Custom(**SPACES)
    batch = {"obs": torch.randn(4, 3)}
    expected = module.net(batch["obs"])
    for forward in (module.forward_inference, module.forward_exploration, module.forward_train, module):
        torch.testing.assert_close(forward(batch)["action_dist_inputs"], expected)
    assert not module.is_stateful()
    assert module.get_initial_state() == {}


def test_values_come_from_forward_train() -> None:
    class WithValues(Custom):
        def forward_train(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
            return {**super().forward_train(batch), "vf_preds": batch["obs"].sum(-1)}

    batch = {"obs": torch.randn(4, 3)}
    torch.testing.assert_close(WithValues(**SPACES).compute_values(batch), batch["obs"].sum(-1))


def test_a_module_is_stateful_if_it_has_a_state() -> None:
    class Stateful(Custom):
        def get_initial_state(self) -> dict[str, Tree]:
            return {"h": torch.zeros(2)}

    assert Stateful(**SPACES).is_stateful()


def test_the_distribution_is_that_of_the_action_space() -> None:
    module = Custom(**SPACES)
    assert module.action_distribution.input_size == 2
    assert module.action_distribution is module.action_distribution
    with pytest.raises(SpaceError, match="Custom has no action_space"):
        _ = Custom(observation_space=SPACES["observation_space"]).action_distribution


def test_settings_of_its_own_belong_into_custom_model_config() -> None:
    with pytest.raises(ConfigError, match="width"):
        Custom(**SPACES, model_config={"width": 5})


def test_a_module_must_say_how_it_acts() -> None:
    class Idle(RLModule):
        pass

    with pytest.raises(TypeError, match="forward_inference"):
        Idle()
