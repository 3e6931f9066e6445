"""SAC Learners and batches that tests share."""

from typing import Any

import gymnasium as gym
import numpy as np

from support.engines import InterpretedEngine
from unison import SACConfig
from unison.algorithms import SACLearner

OBS = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
BOX = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
CHOICE = gym.spaces.Discrete(3)


def sac_config(**training: Any) -> SACConfig:
    """A small SAC config with a fixed seed."""
    return (
        SACConfig()
        .rl_module(model_config={"hidden_sizes": (16, 16)})
        .framework(engine="eager")
        .debugging(seed=0)
        .training(lr=1e-2, train_batch_size=8, **training)
    )


def sac_batch(rows: int, seed: int, actions: gym.Space[Any] = BOX, **columns: Any) -> dict[str, Any]:
    """Random rows of a replay."""
    rng = np.random.default_rng(seed)
    chosen: Any = rng.integers(0, 3, rows)
    if isinstance(actions, gym.spaces.Box):
        chosen = rng.uniform(-1, 1, (rows, 2)).astype(np.float32)
    return {
        "obs": rng.normal(size=(rows, 4)).astype(np.float32),
        "new_obs": rng.normal(size=(rows, 4)).astype(np.float32),
        "actions": chosen,
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminateds": rng.random(rows) < 0.2,
        **columns,
    }


class SACCase:
    """Updates of a SAC Learner, as `support.engines.Case` has them of PPO."""

    updates = 4
    passes = 1

    def __init__(
        self, actions: gym.Space[Any] = BOX, modules: tuple[str, ...] = ("default_policy",), **training: Any
    ) -> None:
        self.actions, self.modules, self._training = actions, modules, training

    def learner(self, engine: str) -> SACLearner:
        """A built Learner on `engine`; weights depend on the seed alone."""
        config = sac_config(**self._training).framework(engine="eager" if engine == "interpreted" else engine)
        if self.modules != ("default_policy",):
            config.multi_agent(policies=set(self.modules))
        learner = config.build_learner(spaces=dict.fromkeys(self.modules, (OBS, self.actions)))
        if engine == "interpreted":
            learner.engine = InterpretedEngine()
        return learner

    def update(self, learner: SACLearner, seed: int, rows: int = 24) -> dict[str, Any]:
        """One call of three gradient steps on the batch of `seed`; its results."""
        rng = np.random.default_rng(seed)
        extra: dict[str, Any] = {}
        if learner.config.n_step > 1:
            extra["n_steps"] = rng.integers(1, learner.config.n_step + 1, rows).astype(np.float32)
        if learner.config.replay_prioritized:
            extra["weights"] = rng.random(rows).astype(np.float32)
        batch = {m: sac_batch(rows, 31 * seed + i, self.actions, **extra) for i, m in enumerate(self.modules)}
        return learner.update_from_batch(batch, minibatch_size=8)
