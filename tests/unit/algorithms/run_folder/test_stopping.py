import pytest

from unison.algorithms.run_folder import Outcome, StopConditions, StopReason
from unison.errors import ConfigError

STEPS, CONFIRMED = "num_env_steps_sampled_lifetime", "confirmation/episode_return_mean"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({STEPS: 99}, None),
        ({STEPS: 100}, StopReason.STEPS_DONE),
        ({STEPS: 50, CONFIRMED: 9.9}, None),
        ({STEPS: 50, CONFIRMED: 10.0}, StopReason.RETURN_REACHED),
        ({STEPS: 100, CONFIRMED: 10.0}, StopReason.RETURN_REACHED),
        ({STEPS: 50, CONFIRMED: None}, None),
        ({STEPS: 50, "evaluation/episode_return_mean": 99.0}, None),
        ({STEPS: 50, "env_runners/episode_return_mean": 99.0}, None),
    ],
)
def test_only_a_confirmed_evaluation_or_the_steps_end_a_run(row: dict[str, float], reason: StopReason | None) -> None:
    assert StopConditions(stop_return=10, stop_steps=100).reason(row) is reason


def test_without_conditions_nothing_ends_it() -> None:
    assert StopConditions().reason({STEPS: 10**9, CONFIRMED: 1e9}) is None


def test_a_negative_goal_is_a_goal() -> None:
    assert StopConditions(stop_return=-100).reason({CONFIRMED: -100.0}) is StopReason.RETURN_REACHED
    assert StopConditions(stop_return=0).reason({CONFIRMED: -0.1}) is None


def test_conditions_survive_storage_and_change_one_by_one() -> None:
    conditions = StopConditions(stop_return=0.0, stop_steps=5)
    assert StopConditions.from_dict(conditions.to_dict()) == conditions
    assert conditions.changed(None, 7) == StopConditions(0.0, 7)
    assert conditions.changed(3.0, None) == StopConditions(3.0, 5)


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_below_one_make_no_sense(steps: int) -> None:
    with pytest.raises(ConfigError, match="stop_steps"):
        StopConditions(stop_steps=steps)


@pytest.mark.parametrize("goal", [float("nan"), float("inf")])
def test_a_goal_that_nothing_reaches_makes_no_sense(goal: float) -> None:
    with pytest.raises(ConfigError, match=f"stop_return={goal} is not allowed; it takes a finite number"):
        StopConditions(stop_return=goal)


@pytest.mark.parametrize(
    ("reason", "goal", "evaluation", "sentence"),
    [
        (
            "return_reached",
            475,
            480.0,
            "Solved after 1,024 steps: evaluation return 480.0 over 20 episodes (goal 475).",
        ),
        ("steps_done", 475, 80.0, "Not solved within 1,024 steps: evaluation return 80.0 over 20 episodes (goal 475)."),
        ("steps_done", None, 80.0, "Done after 1,024 steps: evaluation return 80.0 over 20 episodes."),
        ("steps_done", None, None, "Done after 1,024 steps."),
        ("interrupted", 475, None, "Interrupted after 1,024 steps."),
    ],
)
def test_the_outcome_in_words(reason: str, goal: float | None, evaluation: float | None, sentence: str) -> None:
    outcome = Outcome(StopReason(reason), 4, 1024, 1.0, evaluation, 20, goal)
    assert outcome.sentence() == sentence
    assert outcome.to_dict()["reason"] == reason
