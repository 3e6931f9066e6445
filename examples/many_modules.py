"""A Learner with several modules: unequal rows, settings of their own, one frozen, one added later."""

import gymnasium as gym
import numpy as np

from unison import MultiAgentBatch, PPOConfig, SingleAgentRLModuleSpec

OBS, ACTIONS = gym.spaces.Box(-1.0, 1.0, (4,)), gym.spaces.Discrete(2)


def rows(number, seed):
    """A random batch with the columns of PPO's loss; an environment would give them."""
    rng = np.random.default_rng(seed)
    columns = ("action_logp", "advantages", "value_targets")
    return {
        "obs": rng.normal(size=(number, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, number),
        **{name: rng.normal(size=number).astype(np.float32) * 0.1 for name in columns},
    }


def main() -> list[str]:
    """Two updates; returns the modules that the second one trained."""
    config = PPOConfig().multi_agent(
        policies=["hunter", "prey", "statue"],
        policies_to_train=["hunter", "prey"],
        algorithm_config_overrides_per_module={"prey": {"lr": 1e-4, "entropy_coeff": 0.01}},
    )
    learner = config.build_learner(spaces=dict.fromkeys(["hunter", "prey", "statue"], (OBS, ACTIONS)))
    batch = MultiAgentBatch({"hunter": rows(100, 0), "prey": rows(30, 1), "statue": rows(50, 2)}, env_steps=100)
    results = learner.update_from_batch(batch, minibatch_size=32, num_iters=4)
    for module_id in ("hunter", "prey"):
        print(
            module_id,
            {name: round(results[module_id][name], 4) for name in ("policy_loss", "num_module_steps_trained")},
        )

    spec = SingleAgentRLModuleSpec(observation_space=OBS, action_space=ACTIONS)
    learner.add_module(module_id="rookie", module_spec=spec, new_should_module_be_updated=["rookie"])
    results = learner.update_from_batch({"rookie": rows(64, 3), "hunter": rows(64, 4)})
    trained = [module_id for module_id in results if not module_id.startswith("__")]
    print("trained now:", trained)
    learner.remove_module("rookie")
    return trained


if __name__ == "__main__":
    main()
