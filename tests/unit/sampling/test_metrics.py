"""Counters and averages."""

import math
from typing import Any

from unison.sampling.metrics import SamplingMetrics, merge_reports
from unison.sampling.running import Finished


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
