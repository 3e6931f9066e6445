"""A PPO update on synthetic rows: the work that every contender does alike.

Separate tanh networks for policy and value, clipped surrogate (0.2), squared value error (weight 0.5), entropy
bonus (0.01), clipping of the global norm (0.5), Adam (3e-4, eps 1e-5); so many passes over the batch, each in a
new random order. Sampling and advantages are not part of it. Needs numpy alone, so that it runs in every
contender's interpreter.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

LR, ADAM_EPS, CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT, MAX_NORM = 3e-4, 1e-5, 0.2, 0.5, 0.01, 0.5


@dataclass(frozen=True)
class Work:
    """Shapes and sizes of an update."""

    observation: int = 4
    """Numbers in an observation."""
    action: str = "d2"
    """dN: N discrete actions; cN: N continuous ones."""
    hidden: tuple[int, ...] = (64, 64)
    batch: int = 2048
    """Rows of each module."""
    minibatch: int = 64
    passes: int = 10
    modules: int = 1
    """Modules that each step updates."""
    learners: int = 0
    """Learner processes; 0: one in the contender's own process, without a group."""
    threads: int = 1

    @property
    def is_discrete(self) -> bool:
        """Whether the actions are discrete."""
        return self.action[0] == "d"

    @property
    def num_actions(self) -> int:
        """Discrete actions, or components of a continuous one."""
        return int(self.action[1:])

    @property
    def steps(self) -> int:
        """Optimizer steps of an update; with several modules, each moves all of them."""
        return self.passes * (self.batch // self.minibatch)

    @property
    def module_ids(self) -> list[str]:
        """The names of the modules."""
        return [f"m{index}" for index in range(self.modules)]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Work":
        """What `to_dict` was called on, whatever else is with it."""
        data = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        return cls(**{**data, "hidden": tuple(data["hidden"])})

    def flops_per_step(self) -> int:
        """Multiplications and additions of the matrix products of one step, forward and backward."""
        total = 0
        for outputs in (self.num_actions, 1):
            sizes = [self.observation, *self.hidden, outputs]
            for index, (rows, columns) in enumerate(pairwise(sizes)):
                # Forward, gradient of the weights and, but for the first layer, gradient of the input.
                total += 2 * rows * columns * (2 if index == 0 else 3)
        return self.modules * self.minibatch * total

    def columns(self, seed: int = 0) -> dict[str, Any]:
        """Random rows of one module."""
        rng = np.random.default_rng(seed)
        rows, size = self.batch, self.num_actions
        if self.is_discrete:
            inputs = (rng.normal(size=(rows, size)) * 0.01).astype(np.float32)
            actions = rng.integers(0, size, rows)
            logp = inputs[np.arange(rows), actions] - np.log(np.exp(inputs).sum(-1))
        else:
            inputs = np.zeros((rows, 2 * size), np.float32)
            actions = rng.normal(size=(rows, size)).astype(np.float32)
            logp = (-0.5 * actions**2 - 0.5 * np.log(2 * np.pi)).sum(-1)

        def normal(*shape: int) -> Any:
            return rng.normal(size=shape).astype(np.float32)

        return {
            "obs": normal(rows, self.observation),
            "actions": actions,
            "action_logp": logp.astype(np.float32),
            "action_dist_inputs": inputs,
            "advantages": normal(rows),
            "value_targets": normal(rows),
            "vf_preds": normal(rows),
        }


def spaces_of(work: Work) -> tuple[Any, Any]:
    """The Gymnasium spaces of observations and actions."""
    import gymnasium as gym

    observation = gym.spaces.Box(-np.inf, np.inf, (work.observation,), np.float32)
    if work.is_discrete:
        return observation, gym.spaces.Discrete(work.num_actions)
    return observation, gym.spaces.Box(-1.0, 1.0, (work.num_actions,), np.float32)
