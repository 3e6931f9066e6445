"""Environments that break PettingZoo's contract are told so: method, agent, what came, what should have come."""

from typing import Any

import pytest

from unison.errors import EnvironmentFailure

from .conftest import RunnerMaker, Turns, Visitors

VISITS = {"anna": (0, 9), "ben": (0, 2)}


class Careless(Visitors):
    """Visitors whose `step` and `reset` return something else, as `spoil_step` and `spoil_reset` say."""

    def __init__(self, spoil_step: Any = None, spoil_reset: Any = None) -> None:
        super().__init__(VISITS)
        self.spoil_step, self.spoil_reset = spoil_step, spoil_reset

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        told = super().reset(seed, options)
        return self.spoil_reset(self, *told) if self.spoil_reset else told

    def step(self, actions: dict[str, Any]) -> Any:
        told = super().step(actions)
        return self.spoil_step(self, *told) if self.spoil_step else told


def without(told: dict[str, Any], agent: str) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != agent}


def renamed(told: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("ben", "Ben"): value for name, value in told.items()}


STEPS: list[tuple[Any, str]] = [
    (lambda env, o, r, e, c, i: (o, without(r, "anna"), e, c, i), "no rewards for 'anna', only for 'ben'.*Every agent"),
    (lambda env, o, r, e, c, i: (o, renamed(r), e, c, i), "no rewards for 'ben', only for 'anna', 'Ben'.*its name"),
    # In the step that ends them agents are paid as well.
    (lambda env, o, r, e, c, i: (o, without(r, "ben") if e.get("ben") else r, e, c, i), "no rewards for 'ben'"),
    (lambda env, o, r, e, c, i: (o, r, without(e, "ben"), c, i), "no terminations for 'ben', only for 'anna'"),
    (lambda env, o, r, e, c, i: (o, r, e, {}, i), "no truncations for 'anna', 'ben', only for none"),
    (lambda env, o, r, e, c, i: (renamed(o), r, e, c, i), "observations for 'Ben', but its agents are 'anna', 'ben'"),
    (lambda env, o, r, e, c, i: (o, {**r, "carl": 1.0}, e, c, i), "rewards for 'carl', but its agents are 'anna'"),
    (lambda env, o, r, e, c, i: (o, r, e, i), "returned 4 values instead of 5: observations, rewards, terminations"),
    (lambda env, o, r, e, c, i: o, "returned one dict instead of 5: observations"),
    (lambda env, o, r, e, c, i: (o, 1.0, e, c, i), "rewards that are a float instead of a dict by agent"),
    (lambda env, o, r, e, c, i: (o, dict.fromkeys(r, "much"), e, c, i), "{'anna': 'much'.*each must be one number"),
    (lambda env, o, r, e, c, i: (o, dict.fromkeys(r, "1"), e, c, i), "{'anna': '1'.*each must be one number"),
]


@pytest.mark.parametrize(("spoil", "message"), STEPS)
def test_what_step_returns_is_checked(make_runner: RunnerMaker, spoil: Any, message: str) -> None:
    for restarts in (False, True):
        runner = make_runner(lambda: Careless(spoil), restart_failed_environments=restarts)
        with pytest.raises(EnvironmentFailure, match=rf"Environment 0 of '<lambda>': step\(\) .*{message}"):
            runner.sample(num_timesteps=4)
        assert runner.get_metrics()["num_environment_restarts"] == 0


RESETS: list[tuple[Any, str]] = [
    (lambda env, o, i: o, "returned one dict instead of 2: observations, infos"),
    (lambda env, o, i: (o, i, {}), "returned 3 values instead of 2: observations, infos"),
    (lambda env, o, i: (list(o), i), "observations that are a list instead of a dict by agent"),
    (lambda env, o, i: (renamed(o), i), "observations for 'Ben', but its agents are 'anna', 'ben'"),
]


@pytest.mark.parametrize(("spoil", "message"), RESETS)
def test_what_reset_returns_is_checked(make_runner: RunnerMaker, spoil: Any, message: str) -> None:
    runner = make_runner(lambda: Careless(spoil_reset=spoil))
    with pytest.raises(EnvironmentFailure, match=rf"Environment 0 of '<lambda>': reset\(\) .*{message}"):
        runner.sample(num_timesteps=1)


def test_agents_that_have_ended_leave_the_list(make_runner: RunnerMaker) -> None:
    def keep(env: Any, *told: Any) -> Any:
        env.agents = list(VISITS)
        return told

    message = r"step\(\) said that 'ben' ended, but `agents` still lists 'anna', 'ben'.*self.agents = \[\]"
    with pytest.raises(EnvironmentFailure, match=message):
        make_runner(lambda: Careless(keep)).sample(num_timesteps=3)


def test_agents_may_be_made_up_as_an_environment_goes(make_runner: RunnerMaker) -> None:
    class Open(Visitors):
        def __init__(self) -> None:
            super().__init__({"early": (0, 3), "late": (2, 9), "always": (0, 9)}, silent=("late",))

    def make() -> Any:
        env = Open()
        env.possible_agents = ["always"]
        return env

    (episode,) = make_runner(make).sample(num_episodes=1)
    assert set(episode.agent_episodes) == {"early", "late", "always"}


@pytest.mark.parametrize("name", ["rewards", "terminations", "truncations"])
@pytest.mark.parametrize("method", ["reset", "step"])
def test_games_of_turns_name_all_their_agents(make_runner: RunnerMaker, name: str, method: str) -> None:
    class Forgetful(Turns):
        def forget(self) -> None:
            getattr(self, name).pop("player_1", None)

        def reset(self, seed: int | None = None, options: Any = None) -> None:
            super().reset(seed, options)
            if method == "reset":
                self.forget()

        def step(self, action: Any) -> None:
            super().step(action)
            self.forget()

    message = (
        rf"Environment 0 of '<lambda>': {method}\(\) gave no {name} for 'player_1', only for 'player_0', 'player_2'"
    )
    with pytest.raises(EnvironmentFailure, match=message):
        make_runner(Forgetful).sample(num_timesteps=3)
