"""SAC, resumed in a new process with its replay, goes on bit for bit: targets, temperature, priorities, optimizers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unison import SACConfig
from unison.types import tree_items

sys.path.insert(0, str(Path(__file__).parent))
from test_resume import ITERATIONS, assert_identical, state_of, train

SCRIPT = """
import json, sys; sys.path[:0] = sys.argv[1].split('|')
from test_resume import ITERATIONS, train
from unison import SAC
algorithm = SAC.from_checkpoint(sys.argv[2])
print(json.dumps(train(algorithm, ITERATIONS)))
algorithm.save_state(sys.argv[3]); algorithm.stop()
"""


def config(kind: str) -> SACConfig:
    """SAC with everything on that changes over time."""
    return (
        SACConfig()
        .environment("CartPole-v1" if kind == "discrete" else "Pendulum-v1")
        .framework(engine="eager", num_threads=1)
        .env_runners(num_envs_per_env_runner=2, normalize_observations=True)
        .rl_module(model_config={"hidden_sizes": (8,)})
        .training(
            actor_lr=[[0, 1e-2], [500, 0.0]],
            train_batch_size=16,
            warm_up_steps=20,
            steps_per_iteration=30,
            updates_per_step=0.75,
            replay_capacity=50,
            replay_prioritized=kind != "uniform",
            n_step=3,
        )
        .checkpointing(save_replay=True)
        .debugging(seed=3)
    )


@pytest.mark.parametrize("kind", ["continuous", "discrete", "uniform"])
def test_a_resumed_run_is_the_same_run(kind: str, tmp_path: Path) -> None:
    straight = config(kind).build()
    train(straight, ITERATIONS)
    straight.save_state(tmp_path / "half")
    expected = train(straight, ITERATIONS)
    straight.save_state(tmp_path / "whole")
    here = Path(__file__).parent
    paths = [f"{here}|{here.parent}", str(tmp_path / "half"), str(tmp_path / "resumed")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    resumed: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for ours, theirs in zip(resumed, expected, strict=True):
        assert_identical(theirs, ours)
    straight.load_state(tmp_path / "resumed")
    after = whole(straight)
    straight.load_state(tmp_path / "whole")
    assert_identical(whole(straight), after)
    straight.stop()


def whole(algorithm: Any) -> dict[str, Any]:
    """Everything that training goes on from, the replay included, by path."""
    return state_of(algorithm) | dict(tree_items({"replay": algorithm.replay.get_state()}))
