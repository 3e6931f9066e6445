import math

import pytest

from unison.cli.words import duration, losses, number, size


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (9.6, "0:10"), (75, "1:15"), (3675, "1:01:15"), (90_000, "25:00:00")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
        (0.0, "0"),
        (0.0012345, "0.00123"),
        (-0.5, "-0.5"),
        (9.876, "9.88"),
        (-123.456, "-123.5"),
        (12345.6, "12,346"),
    ],
)
def test_numbers(value: float | None, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (5e12, "5000.0 GB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words


def test_losses_show_what_is_there_for_each_module() -> None:
    learners = {
        "p0": {"total_loss": 9.0, "vf_loss": 2.0, "policy_loss": -0.5, "entropy": 0.6, "curiosity_loss": 3.0, "x": 1.0},
        "p1": {"total_loss": 4.0},
        "__all_modules__": {"num_updates": 1.0},
    }
    assert losses(learners) == {"p0": "policy -0.5  value 2  entropy 0.6  curiosity 3", "p1": "total 4"}
