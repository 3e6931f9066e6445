"""Learners and batches that the tests of this folder share."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from unison import PPOConfig
from unison.algorithms import PPOLearner
from unison.learner import TorchLearner
from unison.types import tree_map

OBS = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
DISCRETE = gym.spaces.Discrete(3)
BOX = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
Array = np.ndarray[Any, Any]


class TwoOptimizers(PPOLearner):
    """Moves the value network by an optimizer of its own, of another kind."""

    def configure_optimizers_for_module(self, module_id: str, config: Any) -> None:
        value = [p for name, p in self.module[module_id].named_parameters() if name.startswith("value")]
        policy = [p for name, p in self.module[module_id].named_parameters() if not name.startswith("value")]
        optimizers = {
            "policy": (torch.optim.AdamW(policy, betas=(0.8, 0.99)), policy, config.lr),
            "value": (torch.optim.SGD(value, momentum=0.9, nesterov=True), value, [[0, 0.05], [1000, 0.01]]),
        }
        for name, (optimizer, params, lr) in optimizers.items():
            self.register_optimizer(
                module_id=module_id, optimizer_name=name, optimizer=optimizer, params=params, lr_or_lr_schedule=lr
            )


def make_config(**training: Any) -> PPOConfig:
    """A small PPO config with a fixed seed."""
    return (
        PPOConfig()
        .rl_module(model_config={"hidden_sizes": (8,)})
        .framework(engine="eager")
        .debugging(seed=0)
        .training(**training)
    )


def make_learner(
    config: PPOConfig | None = None,
    *,
    cls: type[TorchLearner] = PPOLearner,
    module_ids: tuple[str, ...] = ("default_policy",),
    action_space: gym.Space[Any] = DISCRETE,
) -> Any:
    """A built Learner of `cls` with one small module per id."""
    config = (config or make_config()).copy().training(learner_class=cls)
    if module_ids != ("default_policy",):
        config.multi_agent(policies=set(module_ids))
    return config.build_learner(spaces=dict.fromkeys(module_ids, (OBS, action_space)))


def make_columns(rows: int, seed: int = 0, action_space: gym.Space[Any] = DISCRETE) -> dict[str, Array]:
    """Random columns for PPO's loss: [rows, ...]."""
    rng = np.random.default_rng(seed)
    if isinstance(action_space, gym.spaces.Discrete):
        size = int(action_space.n)
        inputs = rng.normal(size=(rows, size)).astype(np.float32) * 0.1
        actions = rng.integers(0, size, rows)
        logits = torch.from_numpy(inputs).log_softmax(-1).numpy()
        logp = logits[np.arange(rows), actions]
    else:
        inputs = np.zeros((rows, 4), np.float32)
        actions = rng.normal(size=(rows, 2)).astype(np.float32)
        logp = (-0.5 * actions**2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    return {
        "obs": rng.normal(size=(rows, 4)).astype(np.float32),
        "actions": actions,
        "action_logp": logp.astype(np.float32),
        "action_dist_inputs": inputs,
        "advantages": rng.normal(size=rows).astype(np.float32),
        "value_targets": rng.normal(size=rows).astype(np.float32),
        "vf_preds": rng.normal(size=rows).astype(np.float32),
    }


def make_sequences(rows: int, steps: int, initial_state: Any, seed: int = 0) -> dict[str, Any]:
    """As `make_columns`, for a stateful module: [rows, steps, ...] without padding, each row from the initial state."""
    columns = make_columns(rows * steps, seed)
    sequences: dict[str, Any] = {n: column.reshape(rows, steps, *column.shape[1:]) for n, column in columns.items()}
    return sequences | {"state_in": tree_map(lambda leaf: leaf.expand(rows, *leaf.shape).clone(), initial_state)}


def weights(learner: TorchLearner) -> dict[str, Array]:
    """All parameters by "<module>/<name>", copied."""
    state = learner.get_module_state()
    return {f"{m}/{name}": value.copy() for m, named in state.items() for name, value in named.items()}


def assert_same(first: dict[str, Array], second: dict[str, Array]) -> None:
    """The same names and the same bits."""
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def differ(first: dict[str, Array], second: dict[str, Array]) -> set[str]:
    """The names whose values differ."""
    return {name for name in first if not np.array_equal(first[name], second[name])}
