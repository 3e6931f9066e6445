"""Golden checkpoints of the present format; `python tests/support/golden.py` writes them.

They stay in the repository for as long as their format is to be read: a new format gets a folder of its own, and those
of released versions are never written anew. `expected.json` beside them says what is inside, in words that no code of
Unison reads.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from unison import PPOConfig, SingleAgentRLModuleSpec
from unison.checkpoint import FORMAT_VERSION

OBS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
ACT = gym.spaces.Discrete(2)
FOLDER = Path(__file__).parents[1] / "data" / f"format_{FORMAT_VERSION}"


def config() -> PPOConfig:
    """PPO with everything on that leaves a trace in a checkpoint."""
    made = PPOConfig().framework(engine="eager", num_threads=1).debugging(seed=7)
    made.rl_module(model_config={"hidden_sizes": (4,)})
    return made.training(
        lr=[[0, 1e-2], [1000, 0.0]],
        entropy_coeff=[[0, 0.1], [1000, 0.0]],
        use_kl_loss=True,
        train_batch_size=32,
        minibatch_size=16,
        num_epochs=2,
        optimizer={"name": "adam", "betas": (0.8, 0.99)},
    )


def columns(rows: int) -> dict[str, Any]:
    """A batch for PPO's loss."""
    generator = np.random.default_rng(0)
    return {
        "obs": generator.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "actions": generator.integers(0, 2, rows),
        "action_logp": np.full(rows, np.log(0.5), np.float32),
        "action_dist_inputs": np.zeros((rows, 2), np.float32),
        "advantages": generator.normal(size=rows).astype(np.float32),
        "value_targets": generator.normal(size=rows).astype(np.float32),
        "vf_preds": np.zeros(rows, np.float32),
    }


def learner() -> Any:
    """A trained Learner that lost a module and got another."""
    made = config().multi_agent(policies={"a", "gone"}).build_learner(spaces=dict.fromkeys(("a", "gone"), (OBS, ACT)))
    made.remove_module("gone")
    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=ACT, model_config={"hidden_sizes": (3,)})
    made.add_module(module_id="added/b", module_spec=spec, config_overrides={"lr": 0.5, "clip_param": 0.1})
    made.update_from_batch({"a": columns(16), "added/b": columns(16)}, minibatch_size=8, num_iters=2)
    return made


def algorithm() -> Any:
    """A trained and evaluated Algorithm."""
    made = config().environment("CartPole-v1").evaluation(evaluation_interval=1, evaluation_duration=2)
    made.env_runners(num_envs_per_env_runner=2, normalize_observations=True, normalize_rewards=True)
    built = made.build()
    for _ in range(2):
        built.train()
    return built


def summary(tree: Any) -> Any:
    """Trees with, for each array, its dtype, shape and sum; and for everything else the value."""
    if isinstance(tree, Mapping):
        return {str(key): summary(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return {type(tree).__name__: [summary(value) for value in tree]}
    if isinstance(tree, np.ndarray | np.generic):
        return [str(tree.dtype), list(tree.shape), repr(math.fsum(tree.ravel().tolist()))]
    return tree if tree is None or isinstance(tree, bool | str) else repr(tree)


def main() -> None:
    """Write them."""
    torch.manual_seed(7)
    FOLDER.mkdir(exist_ok=False)
    built, whole = learner(), algorithm()
    built.module["a"].save_to_checkpoint(FOLDER / "module")
    built.module.save_to_checkpoint(FOLDER / "modules")
    built.save_state(FOLDER / "learner")
    whole.save_state(FOLDER / "algorithm", results={"evaluation": {"episode_return_mean": 12.5}})
    expected = {
        "learner": summary(built.get_state()),
        "algorithm": summary({"group": whole.learner_group.get_state(), **whole.get_sampling_state()}),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    whole.stop()


if __name__ == "__main__":
    main()
