"""Counters and averages."""

import math
from typing import Any

from unison.sampling.metrics import SamplingMetrics, merge_reports, without_module
from unison.sampling.running import AgentReturn, Finished

NOTHING = {"num_episodes": 0, "num_env_steps_sampled": 0}


def test_window_counts_and_state() -> None:
    metrics = SamplingMetrics(window=2)
    assert math.isnan(metrics.report()["episode_return_mean"])
    metrics.add_steps(30)
    metrics.add_episodes([Finished(0, "a", 1.0, 10), Finished(0, "b", 2.0, 12), Finished(1, "c", 5.0, 4)])
    expected = {
        "episode_return_mean": 3.5,
        "episode_return_min": 2.0,
        "episode_return_max": 5.0,
        "episode_len_mean": 8.0,
        "num_episodes": 3,
        "num_env_steps_sampled": 30,
        "num_episodes_lifetime": 3,
        "num_env_steps_sampled_lifetime": 30,
    }
    twin = SamplingMetrics(window=2)
    twin.set_state(metrics.get_state())
    assert metrics.report() == twin.report() == expected
    metrics.add_steps(5)
    assert metrics.report() == expected | {
        "num_episodes": 0,
        "num_env_steps_sampled": 5,
        "num_env_steps_sampled_lifetime": 35,
    }


def test_several_runners_make_one_report_of_whole_counts() -> None:
    states: list[Any] = []
    for steps in (30, 12):
        metrics = SamplingMetrics(window=2)
        metrics.add_steps(steps)
        metrics.add_episodes([Finished(0, "a", float(steps), 10)])
        states.append(metrics.get_state())
    merged = merge_reports(states, 2, {"num_episodes": 1, "num_env_steps_sampled": 40})
    assert (merged["num_episodes"], merged["num_env_steps_sampled"]) == (1, 2)
    assert merged["episode_return_mean"] == 21.0
    assert repr(merged["num_env_steps_sampled_lifetime"]) == "42"
    assert repr(merged["num_episodes_lifetime"]) == "2"


def test_those_that_are_gone_make_way() -> None:
    """Their counts stay, but their episodes have only the room that the others leave in the window."""
    module_returns: list[float] = []
    for new in range(4):
        states: list[Any] = []
        for number, payoff in ((9, 0.0), (new, 1.0), (new, 1.0), (new, 1.0)):
            metrics = SamplingMetrics(window=10, has_members=True)
            metrics.add_episodes([Finished(0, "e", payoff, 5, (AgentReturn("a", "red", payoff),))] * number)
            states.append(metrics.get_state())
        report = merge_reports(states[1:], 10, NOTHING, states[:1])
        assert report["num_episodes_lifetime"] == 9 + 3 * new
        assert report["episode_return_mean"] == report["agent_return_mean"]["a"]
        module_returns.append(report["module_return_mean"]["red"])
    assert module_returns == [0.0, 0.3, 0.6, 0.9]
    full = merge_reports([states[1] | {"episodes": [[1.0, 5]] * 10} for _ in range(3)], 10, NOTHING, states[:1])
    assert (full["episode_return_mean"], full["episode_return_min"]) == (1.0, 1.0)


def test_those_that_are_gone_forget_modules() -> None:
    metrics = SamplingMetrics(window=4, has_members=True)
    members = (AgentReturn("a", "red", 1.0), AgentReturn("red", "blue", 2.0))
    metrics.add_episodes([Finished(0, "e", 3.0, 5, members)])
    report = merge_reports([], 4, NOTHING, [without_module(metrics.get_state(), "red")])
    assert report["module_return_mean"] == {"blue": 2.0}
    assert report["agent_return_mean"] == {"a": 1.0, "red": 2.0}
