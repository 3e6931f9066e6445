"""Samples of random actions among samples of the modules': steps that are open in between, columns, SAC's warm-up."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from unison import SACConfig
from unison.types import tree_map

from .conftest import RunnerMaker, Turns, Visitors

COLUMNS = {"action_dist_inputs", "action_logp"}


def silent() -> Visitors:
    return Visitors({"early": (0, 3), "late": (2, 9), "always": (0, 9)}, silent=("early", "always"))


def test_random_actions_come_without_columns(make_runner: RunnerMaker) -> None:
    (episode,) = make_runner(silent).sample(num_episodes=1, random_actions=True)
    assert all(part.get_extra_model_outputs() == {} for part in episode.agent_episodes.values())


@pytest.mark.parametrize("env", [Turns, silent])
@pytest.mark.parametrize("lengths", [(9, 9), (4, 1, 1, 7, 2, 20)])
@pytest.mark.parametrize("begins_at_random", [False, True])
def test_a_step_may_be_open_where_they_meet(
    make_runner: RunnerMaker, env: Any, lengths: tuple[int, ...], begins_at_random: bool
) -> None:
    """Nothing of a step is lost, and `action_logp` is there where the module chose all of an agent's actions."""
    runner, actions = make_runner(env, envs=2), defaultdict[str, list[int]](list)
    module, complete, bare = runner.modules["default_policy"], 0, 0
    for number, steps in enumerate(lengths):
        is_random = (number % 2 == 0) == begins_at_random
        chunks = runner.sample(num_timesteps=steps, random_actions=is_random)
        assert sum(len(chunk) for chunk in chunks) == steps
        for part in [part for chunk in chunks for part in chunk.agent_episodes.values() if len(part)]:
            assert part.t_started == len(actions[part.id_])
            actions[part.id_] += part.get_actions().tolist()
            outputs = part.get_extra_model_outputs()
            assert set(outputs) in (set(), COLUMNS)
            if not outputs:
                bare += 1
                continue
            complete += 1
            assert not is_random or len(part) == 1  # The open step alone.
            inputs = module.forward_inference({"obs": torch.from_numpy(part.get_observations()[:-1])})
            np.testing.assert_allclose(outputs["action_dist_inputs"], inputs["action_dist_inputs"], atol=1e-5)
            logps = module.action_distribution(inputs["action_dist_inputs"]).log_prob(
                tree_map(torch.from_numpy, part.get_actions())
            )
            np.testing.assert_allclose(outputs["action_logp"], logps, atol=1e-5)
    assert complete > 0
    assert bare > 0


@pytest.mark.parametrize("env", [Turns, silent])
def test_sac_goes_on_after_its_warm_up(env: Any) -> None:
    config = SACConfig().environment(lambda _: env()).rl_module(model_config={"hidden_sizes": (4,)})
    config.training(warm_up_steps=20, steps_per_iteration=25, train_batch_size=8).debugging(seed=0)
    algorithm = config.framework(engine="eager", num_threads=1).build()
    for _ in range(2):
        results = algorithm.train()
    assert algorithm.num_env_steps_sampled_lifetime == 50
    assert np.isfinite(results["learners"]["default_policy"]["critic_loss"])
    algorithm.stop()
