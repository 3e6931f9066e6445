"""Many agents, resumed in a new process, go on bit for bit: teams, turns, and modules that came while training."""

from pathlib import Path
from typing import Any

import pytest
from mpe2 import simple_tag_v3

from support.resuming import ITERATIONS, check_resumed, train
from support.teams import by_heirs, by_side, by_team
from unison import Algorithm, PPOConfig, SingleAgentRLModuleSpec


def config(env: Any, **settings: Any) -> PPOConfig:
    """PPO for two modules, with what changes over time."""
    return (
        PPOConfig()
        .environment(env, env_config=settings)
        .framework(engine="eager", num_threads=1)
        .env_runners(num_envs_per_env_runner=2, normalize_observations=True)
        .rl_module(model_config={"hidden_sizes": (8,), "lstm_size": 6, "max_seq_len": 5})
        .training(
            lr=[[0, 1e-2], [2000, 0.0]],
            use_kl_loss=True,
            train_batch_size=96,
            minibatch_size=16,
            num_epochs=2,
            gradient_accumulation_steps=2,
        )
        .evaluation(evaluation_interval=2, evaluation_duration=2)
        .debugging(seed=3)
    )


def teams() -> Algorithm:
    """Two teams of unlike spaces that act at once, and learn at unlike rates."""
    made = config(simple_tag_v3, max_cycles=12).multi_agent(
        policies=["hunters", "hunted"],
        policy_mapping_fn=by_team,
        algorithm_config_overrides_per_module={"hunted": {"lr": 1e-3, "entropy_coeff": [[0, 0.1], [500, 0.0]]}},
    )
    return made.build()


def turns() -> Algorithm:
    """A board game, whose moves are not all allowed."""
    made = config("classic/tictactoe-v3").rl_module(model_config={"hidden_sizes": (8,)})
    return made.multi_agent(policies=["first", "second"], policy_mapping_fn=by_side).build()


def league() -> Algorithm:
    """A module and a frozen opponent that came while training; one of the first two acts and trains no more."""
    algorithm = teams()
    train(algorithm, 1)
    algorithm.add_snapshot("ancestors", of="hunters")
    like = algorithm.learner_group.local_module["hunted"]
    algorithm.add_module(
        module_id="heirs",
        module_spec=SingleAgentRLModuleSpec(observation_space=like.observation_space, action_space=like.action_space),
        config_overrides={"lr": 3e-3},
        policies_to_train=["hunters", "heirs"],
        policy_mapping_fn=by_heirs,
    )
    return algorithm


@pytest.mark.parametrize("make", [teams, turns, league])
def test_a_resumed_run_is_the_same_run(make: Any, tmp_path: Path) -> None:
    straight = make()
    train(straight, ITERATIONS)
    check_resumed(straight, tmp_path)
    straight.stop()
