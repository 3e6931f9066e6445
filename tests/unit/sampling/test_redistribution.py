"""States of runners for other numbers of runners."""

from typing import Any

import numpy as np
import pytest

from unison.errors import StateError
from unison.sampling.metrics import SamplingMetrics
from unison.sampling.redistribution import check_parts, merge_into_one, redistribute
from unison.sampling.running import Finished

RETURNS = {"red": ([1.0, 5.0, 9.0], [2.0]), "blue": ([], [4.0, 8.0])}
"""What each module has seen on each of two runners."""


def scale(returns: Any) -> dict[str, Any]:
    return {"count": len(returns), "mean": float(np.mean(returns)), "variance": float(np.var(returns))}


def make_state(index: int) -> dict[str, Any]:
    """Of a runner with two agents; each counts 10 steps, the second one an episode."""
    metrics = SamplingMetrics(4, has_members=True)
    metrics.add_steps(10)
    metrics.add_episodes([Finished(0, "e", 3.0, 7, (("a", "red", 2.0), ("b", "blue", 1.0)))][:index])
    seen = {module_id: own[index] for module_id, own in RETURNS.items() if own[index]}
    return {
        "seeds": {"worker_index": 1 + index, "bases": f"bases {index}", "torch": f"torch {index}"},
        "metrics": metrics.get_state(),
        "num_episodes_begun": 2 + index,
        "num_environment_restarts": index,
        "reward_normalizers": [{"module_id": m, **scale(own)} for m, own in seen.items()],
    }


def count_of(states: list[Any], module_id: str) -> list[int]:
    return [s["count"] for state in states for s in state["reward_normalizers"] if s["module_id"] == module_id]


def test_the_same_number_goes_on_as_it_was() -> None:
    saved = [make_state(0), make_state(1)]
    assert redistribute(saved, [make_state(1), make_state(1)]) == saved


def test_more_runners_share_what_the_modules_have_learned() -> None:
    saved = [make_state(0), make_state(1)]
    seeds: list[Any] = [{"worker_index": 1 + n, "bases": "fresh", "torch": f"fresh {n}"} for n in range(3)]
    fresh = [{**make_state(0), "seeds": own} for own in seeds]
    states = redistribute(saved, fresh)
    assert [state["seeds"] for state in states[:2]] == [state["seeds"] for state in saved]
    assert states[2]["seeds"] == {"worker_index": 3, "bases": "bases 0", "torch": "fresh 2"}
    assert states[2]["metrics"]["num_env_steps_lifetime"] == 0
    assert count_of(states, "red") == [2, 1, 1]
    assert count_of(states, "blue") == [1, 1, 0]
    # There and back is where it was.
    back = merge_into_one({"runners": states, "reported": REPORTED}, make_state(0), 4)
    for found, (module_id, own) in zip(back["reward_normalizers"], RETURNS.items(), strict=True):
        assert found == pytest.approx({"module_id": module_id, **scale([*own[0], *own[1]])})


REPORTED = {"num_episodes": 0, "num_env_steps_sampled": 15}


def test_one_runner_takes_over_all_counts() -> None:
    retired = {"metrics": make_state(1)["metrics"], "num_environment_restarts": 3}
    group = {"runners": [make_state(0), make_state(1)], "retired": [retired], "reported": REPORTED}
    one = merge_into_one(group, make_state(0), 4)
    assert one["seeds"] == make_state(0)["seeds"]
    assert (one["num_episodes_begun"], one["num_environment_restarts"]) == (5, 4)
    metrics = SamplingMetrics(4, has_members=True)
    metrics.set_state(one["metrics"])
    report = metrics.report()
    assert (report["num_episodes"], report["num_episodes_lifetime"]) == (2, 2)
    assert (report["num_env_steps_sampled"], report["num_env_steps_sampled_lifetime"]) == (15, 30)
    assert report["module_return_mean"] == {"red": 2.0, "blue": 1.0}


def test_without_scales_there_are_none() -> None:
    saved = [{**make_state(index), "reward_normalizers": None} for index in (0, 1)]
    assert redistribute(saved, [make_state(0)])[0]["reward_normalizers"] is None


def test_a_state_without_a_part_is_refused(make_runner: Any, counting_env: Any) -> None:
    runner = make_runner(counting_env, {})
    whole = runner.get_state()
    broken = {name: part for name, part in whole.items() if name != "seeds"}
    with pytest.raises(StateError, match="seeds"):
        runner.set_state({"runners": [whole, broken], "reported": REPORTED})


def test_a_state_that_lacks_a_part_is_named() -> None:
    whole = make_state(0)
    lacking = {name: part for name, part in whole.items() if name not in ("seeds", "metrics")}
    check_parts([whole, make_state(1)], whole)
    with pytest.raises(StateError, match=r"lacks \['metrics', 'seeds'\]"):
        check_parts([whole, lacking], whole)
