from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from unison.errors import ConfigError, SpaceError
from unison.modules import ActorCritic
from unison.types import Tree, tree_leaves, tree_map

OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "box rank 0": spaces.Box(-1, 1, ()),
    "box rank 1": spaces.Box(-1, 1, (4,)),
    "box float64": spaces.Box(-1, 1, (4,), np.float64),
    "box rank 2": spaces.Box(-1, 1, (3, 2)),
    "box rank 4": spaces.Box(-1, 1, (2, 2, 2, 2)),
    "box int": spaces.Box(-5, 5, (3,), np.int32),
    "image HWC": spaces.Box(0, 255, (12, 12, 3), np.uint8),
    "image CHW": spaces.Box(0, 255, (3, 12, 12), np.uint8),
    "image float": spaces.Box(0, 1, (12, 12, 3)),
    "discrete": spaces.Discrete(5, start=2),
    "discrete large": spaces.Discrete(100),
    "multi-discrete": spaces.MultiDiscrete([3, 70]),
    "multi-binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"v": spaces.Box(-1, 1, (3,)), "i": spaces.Box(0, 255, (8, 8, 1), np.uint8)}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"x": spaces.MultiBinary(2), "y": spaces.Box(0, 1, ())}))),
}
ACTIONS: dict[str, tuple[gym.Space[Any], int]] = {
    "discrete": (spaces.Discrete(3, start=1), 3),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), 5),
    "multi-binary": (spaces.MultiBinary(3), 3),
    "box": (spaces.Box(-1, 1, (2,)), 4),
    "box rank 2": (spaces.Box(-1, 1, (2, 2)), 8),
    "dict": (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1, (2,))}), 6),
    "tuple": (spaces.Tuple((spaces.Box(-1, 1, (1,)), spaces.MultiDiscrete([2, 2]), spaces.Box(0, 1, ()))), 8),
}


def initial_state(module: ActorCritic, rows: int) -> Tree:
    return tree_map(lambda leaf: leaf.expand(rows, *leaf.shape), module.get_initial_state())


@pytest.mark.parametrize("action_name", ACTIONS)
@pytest.mark.parametrize("observation_name", OBSERVATIONS)
def test_every_observation_space_goes_with_every_action_space(
    observation_name: str, action_name: str, observe: Callable[..., Tree]
) -> None:
    observation_space, (action_space, input_size) = OBSERVATIONS[observation_name], ACTIONS[action_name]
    settings = {"hidden_sizes": (8,)}
    module = ActorCritic(observation_space=observation_space, action_space=action_space, model_config=settings)
    batch = {"obs": observe(observation_space, 5)}

    outputs = module.forward_train(batch)

    assert set(outputs) == {"action_dist_inputs", "vf_preds"}
    assert outputs["action_dist_inputs"].shape == (5, input_size)
    assert outputs["vf_preds"].shape == (5,)
    assert all(value.dtype is torch.float32 and value.isfinite().all() for value in outputs.values())
    (outputs["vf_preds"].sum() + outputs["action_dist_inputs"].square().sum()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    inference = module.forward_inference(batch)
    assert set(inference) == {"action_dist_inputs"}
    torch.testing.assert_close(inference["action_dist_inputs"], outputs["action_dist_inputs"])
    torch.testing.assert_close(module.compute_values(batch), outputs["vf_preds"])
    actions = module.action_distribution(outputs["action_dist_inputs"]).sample()
    first = [leaf[0].detach().numpy() for leaf in tree_leaves(actions)]
    expected = [np.asarray(leaf).shape for leaf in tree_leaves(_plain(action_space.sample()))]
    assert [leaf.shape for leaf in first] == expected


def _plain(sample: Any) -> Tree:
    return dict(sample) if isinstance(sample, dict) else sample


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("observation_name", OBSERVATIONS)
def test_every_observation_space_goes_with_a_memory(
    observation_name: str, share: bool, cell: str, observe: Callable[..., Tree]
) -> None:
    module = ActorCritic(
        observation_space=OBSERVATIONS[observation_name],
        action_space=spaces.Discrete(3),
        model_config={"lstm_size": 6, "cell": cell, "share_value_layers": share, "hidden_sizes": (8,)},
    )
    assert module.is_stateful()
    batch = {"obs": observe(OBSERVATIONS[observation_name], 4, 3), "state_in": initial_state(module, 4)}
    outputs = module.forward_train(batch)
    assert outputs["action_dist_inputs"].shape == (4, 3, 3)
    assert outputs["vf_preds"].shape == (4, 3)
    shapes = tree_map(lambda leaf: leaf.shape, outputs["state_out"])
    assert shapes == tree_map(lambda leaf: (4, *leaf.shape), module.get_initial_state())
    torch.testing.assert_close(module.compute_values(batch), outputs["vf_preds"])


def test_policy_and_values_have_layers_of_their_own_unless_shared(observe: Callable[..., Tree]) -> None:
    space = spaces.Box(-1, 1, (4,))
    batch = {"obs": observe(space, 5)}
    for share in (False, True):
        module = ActorCritic(
            observation_space=space, action_space=spaces.Discrete(2), model_config={"share_value_layers": share}
        )
        module.forward_train(batch)["vf_preds"].sum().backward()
        assert (module.encoder.layers[0].weight.grad is not None) is share
        assert (module.value_encoder is None) is share


def test_a_free_log_std_is_a_parameter_and_stands_behind_its_means(observe: Callable[..., Tree]) -> None:
    space = spaces.Box(-1, 1, (4,))
    module = ActorCritic(observation_space=space, action_space=ACTIONS["tuple"][0])
    assert module.log_std is not None
    assert module.log_std.tolist() == [0.0, 0.0]
    with torch.no_grad():
        module.log_std.copy_(torch.tensor([1.5, -2.5]))
    batch = {"obs": observe(space, 3)}
    outputs = module.forward_inference(batch)["action_dist_inputs"]
    head = module.policy_head(module.encoder(batch["obs"]))
    torch.testing.assert_close(outputs[:, 0], head[:, 0])
    torch.testing.assert_close(outputs[:, 1], torch.full((3,), 1.5))
    torch.testing.assert_close(outputs[:, 2:7], head[:, 1:6])
    torch.testing.assert_close(outputs[:, 7], torch.full((3,), -2.5))


def test_without_free_log_std_the_network_puts_it_out(observe: Callable[..., Tree]) -> None:
    space = spaces.Box(-1, 1, (4,))
    module = ActorCritic(
        observation_space=space, action_space=spaces.Box(-1, 1, (2,)), model_config={"free_log_std": False}
    )
    assert module.log_std is None
    torch.nn.init.normal_(module.policy_head.weight)
    log_stds = module.forward_inference({"obs": observe(space, 3)})["action_dist_inputs"][:, 2:]
    assert (log_stds[0] != log_stds[1]).all()


def test_discrete_actions_have_no_log_std() -> None:
    module = ActorCritic(observation_space=spaces.Box(-1, 1, (4,)), action_space=spaces.Discrete(2))
    assert module.log_std is None


@pytest.mark.parametrize("name", ["hidden_sizes", "lstm_size", "cell", "activation", "normalize_observations"])
def test_each_setting_changes_the_module(name: str, observe: Callable[..., Tree]) -> None:
    values = {"hidden_sizes": (5,), "lstm_size": 7, "cell": "gru", "activation": "relu", "normalize_observations": True}
    settings = {name: values[name], **({"lstm_size": 7} if name == "cell" else {})}
    space = spaces.Box(-1, 1, (4,))
    module = ActorCritic(observation_space=space, action_space=spaces.Discrete(2), model_config=settings)
    checks = {
        "hidden_sizes": lambda: module.encoder.output_size == 5,
        "lstm_size": lambda: module.get_initial_state()["policy"]["c"].shape == (7,),
        "cell": lambda: set(module.get_initial_state()["policy"]) == {"h"},
        "activation": lambda: bool((module.encoder(torch.rand(9, 4)) >= 0).all()),
        "normalize_observations": lambda: module.normalizer is not None,
    }
    assert checks[name]()


class TestActionMask:
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "observation": spaces.Box(-1, 1, (4,))})

    def test_forbidden_actions_are_never_drawn_and_the_mask_is_no_observation(self) -> None:
        module = ActorCritic(observation_space=self.space, action_space=spaces.Discrete(3))
        assert module.encoder.layers[0].weight.shape[1] == 4
        mask = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.int8)
        outputs = module.forward_train({"obs": {"action_mask": mask, "observation": torch.randn(2, 4)}})
        probabilities = outputs["action_dist_inputs"].softmax(-1)
        torch.testing.assert_close(probabilities[:, [0, 1, 2]] > 0, mask.bool())
        distribution = module.action_distribution(outputs["action_dist_inputs"])
        for _ in range(50):
            assert mask.gather(1, distribution.sample().unsqueeze(1)).all()
        distribution.entropy().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())

    def test_a_multi_discrete_mask_lies_side_by_side(self) -> None:
        space = spaces.Dict({"action_mask": spaces.Box(0, 1, (5,), np.int8), "x": spaces.Box(-1, 1, (2,))})
        module = ActorCritic(observation_space=space, action_space=spaces.MultiDiscrete([2, 3]))
        mask = torch.tensor([[0, 1, 1, 0, 0]], dtype=torch.int8)
        outputs = module.forward_inference({"obs": {"action_mask": mask, "x": torch.randn(1, 2)}})
        assert module.action_distribution(outputs["action_dist_inputs"]).sample().tolist() == [[1, 0]]

    def test_it_works_over_time(self) -> None:
        module = ActorCritic(
            observation_space=self.space, action_space=spaces.Discrete(3), model_config={"lstm_size": 4}
        )
        mask = torch.tensor([[[1, 0, 0], [0, 0, 1]]])
        batch = {
            "obs": {"action_mask": mask, "observation": torch.randn(1, 2, 4)},
            "state_in": initial_state(module, 1),
        }
        assert module.forward_train(batch)["action_dist_inputs"].argmax(-1).tolist() == [[0, 2]]

    def test_a_mask_that_cannot_apply_is_refused(self) -> None:
        with pytest.raises(SpaceError, match=r"must have shape \(4,\).*MultiBinary\(3\)"):
            ActorCritic(observation_space=self.space, action_space=spaces.Discrete(4))
        with pytest.raises(SpaceError, match="Masks exist for Discrete and MultiDiscrete"):
            ActorCritic(observation_space=self.space, action_space=spaces.Box(-1, 1, (3,)))
        only_a_mask = spaces.Dict({"action_mask": spaces.MultiBinary(3)})
        with pytest.raises(SpaceError, match="nothing but an action mask"):
            ActorCritic(observation_space=only_a_mask, action_space=spaces.Discrete(3))


def test_missing_and_unsupported_spaces_are_named() -> None:
    with pytest.raises(SpaceError, match="ActorCritic needs an observation_space"):
        ActorCritic(action_space=spaces.Discrete(2))
    with pytest.raises(SpaceError, match="ActorCritic needs an action_space"):
        ActorCritic(observation_space=spaces.Discrete(2))
    with pytest.raises(SpaceError, match="Text"):
        ActorCritic(observation_space=spaces.Text(3), action_space=spaces.Discrete(2))
    with pytest.raises(SpaceError, match="Text"):
        ActorCritic(observation_space=spaces.Discrete(2), action_space=spaces.Text(3))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_sizes"):
        ActorCritic(
            observation_space=spaces.Discrete(2),
            action_space=spaces.Discrete(2),
            model_config={"hiden_sizes": (4,)},
        )


def test_an_empty_batch_passes(observe: Callable[..., Tree]) -> None:
    module = ActorCritic(observation_space=spaces.Box(-1, 1, (4,)), action_space=spaces.Box(-1, 1, (2,)))
    outputs = module.forward_train({"obs": torch.zeros(0, 4)})
    assert outputs["action_dist_inputs"].shape == (0, 4)
    assert outputs["vf_preds"].shape == (0,)


def test_half_precision_under_autocast_stays_finite(observe: Callable[..., Tree]) -> None:
    space = OBSERVATIONS["dict"]
    module = ActorCritic(observation_space=space, action_space=spaces.Box(-1, 1, (2,)))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = module.forward_train({"obs": observe(space, 3)})
    assert outputs["vf_preds"].isfinite().all()
    assert outputs["action_dist_inputs"].shape == (3, 4)
