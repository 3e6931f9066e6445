"""What a replay buffer refuses by name, and that it is then as it was."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unison import SingleAgentEpisode
from unison.data.replay import Prioritization, ReplayBuffer
from unison.errors import BatchError, ConfigError, ModuleError, StateError

NAN = float("nan")


def make(*, prioritized: bool = True) -> ReplayBuffer:
    """Four steps of "left" and of "right", whose observations count up."""
    buffer = ReplayBuffer(8, prioritization=Prioritization() if prioritized else None, seed=0)
    for module_id in ("left", "right"):
        columns: dict[str, Any] = {"observations": np.arange(5.0)[:, None], "actions": np.zeros((4, 1))}
        buffer.add([SingleAgentEpisode("e", rewards=np.ones(4), module_id=module_id, **columns)])
    return buffer


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: ReplayBuffer(0), "capacity is 0; give an integer of at least 1"),
        (lambda: ReplayBuffer(-3), "capacity is -3"),
        (lambda: ReplayBuffer(1e6), r"capacity is 1000000\.0"),  # type: ignore[arg-type]
        (lambda: Prioritization(alpha=-1), "alpha is -1; give a number from 0 to 1"),
        (lambda: Prioritization(alpha=NAN), "alpha is nan"),
        (lambda: Prioritization(beta=NAN), "beta is nan"),
        (lambda: Prioritization(beta=5), "beta is 5"),
        (lambda: Prioritization(beta="0.4"), "beta is '0.4'"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_sense(make_it: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_it()


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda b: b.sample(0), "rows is 0; give an integer of at least 1"),
        (lambda b: b.sample(-2), "rows is -2"),
        (lambda b: b.sample(2.0), r"rows is 2\.0"),
        (lambda b: b.sample(4, n_step=0), "n_step is 0; give an integer of at least 1"),
        (lambda b: b.sample(4, n_step=2.5), r"n_step is 2\.5"),
        (lambda b: b.sample(4, n_step={"left": 1, "right": -1}), "n_step is -1"),
        (lambda b: b.sample(4, n_step={"left": 2}), r"n_step has no number for module 'right', only for \['left'\]"),
        (lambda b: b.sample(4, gamma=NAN), "gamma is nan; give a number from 0 to 1"),
        (lambda b: b.sample(4, gamma=3), "gamma is 3"),
        (lambda b: b.sample(4, gamma=None), "gamma is None"),
        (lambda b: b.sample(4, gamma=np.ones(2)), "gamma is array"),
        (lambda b: b.sample(4, gamma={"right": 1.0}), "gamma has no number for module 'left'"),
        (lambda b: b.sample_sequences(4, 0), "length is 0; give an integer of at least 1"),
        (lambda b: b.sample_sequences(0, 4), "rows is 0"),
    ],
)
def test_draws_that_make_no_sense(draw: Callable[[ReplayBuffer], Any], message: str, prioritized: bool) -> None:
    buffer = make(prioritized=prioritized)
    before = buffer.get_state()
    with pytest.raises(ConfigError, match=message):
        draw(buffer)
    np.testing.assert_equal(buffer.get_state(), before)  # Not a random number was drawn.


def test_numbers_of_any_type() -> None:
    ours, theirs = make(), make()
    plain = ours.sample(16, n_step=3, gamma=1.0).columns
    typed = theirs.sample(np.int64(16), n_step={"left": np.int64(3), "right": 3}, gamma=np.float32(1)).columns  # type: ignore[arg-type]
    for module_id in ("left", "right"):
        torch.testing.assert_close(typed[module_id], plain[module_id], rtol=0, atol=0)


@pytest.mark.parametrize("call", [lambda b: b.sample(4, module_ids="left"), lambda b: b.forget_modules_but("left")])
def test_one_id_where_several_are_meant(call: Callable[[ReplayBuffer], Any]) -> None:
    buffer = make()
    with pytest.raises(ModuleError, match=r"give a list of ids: \['left'\]"):
        call(buffer)
    assert len(buffer) == 8


@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        ({"x": np.ones(4)}, ModuleError, r"Errors of module 'x', but steps and numbers only of \['left'\]"),
        ({"right": np.ones(4)}, ModuleError, "Errors of module 'right'"),
        ({"left": np.ones(3)}, BatchError, r"Module 'left': errors of shape \[3\] .* have the shape \[4\]"),
        ({"left": np.ones((4, 1))}, BatchError, r"Module 'left': errors of shape \[4, 1\]"),
        ({"left": 1.0}, BatchError, r"Module 'left': errors of shape \[\]"),
    ],
)
def test_errors_that_belong_to_no_rows(errors: Any, kind: type[Exception], message: str) -> None:
    buffer = make()
    before = buffer.get_state()
    numbers = {"left": torch.arange(4), "x": torch.arange(4)}
    with pytest.raises(kind, match=message):
        buffer.update_priorities(numbers, {"left": np.full(4, 9.0)} | errors)
    np.testing.assert_equal(buffer.get_state(), before)


def test_rows_that_are_not_there_get_no_priority() -> None:
    buffer = make()
    before = buffer.get_state()
    numbers = torch.tensor([-1, 4, 5, 100])  # As of a buffer that held more, before it was cleared.
    buffer.update_priorities({"left": numbers}, {"left": np.full(4, 9.0)})
    np.testing.assert_equal(buffer.get_state(), before)


def without(state: Any, *path: str) -> Any:
    """A state that lacks what is at a path."""
    return {key: without(part, *path[1:]) if key == path[0] else part for key, part in state.items() if path != (key,)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"The state of the replay: it lacks \['modules', 'generator'\]; give what get_state\(\) returned"),
        (None, "The state of the replay: it is a NoneType"),
        (make().get_state() | {"modules": [1]}, "'modules': it is a list"),
        (make().get_state() | {"modules": {"left": {}}}, r"module 'left': it lacks \['ring', 'links', 'sampler'\]"),
        (without(make().get_state(), "modules", "left", "links", "open"), r"'left', 'links': it lacks \['open'\]"),
        (
            without(make().get_state(), "modules", "right", "ring", "written"),
            r"'right', 'ring': it lacks \['written'\]",
        ),
    ],
)
def test_states_of_something_else(state: Any, message: str) -> None:
    buffer = make()
    before = buffer.get_state()
    for take in (buffer.check_state, buffer.set_state):
        with pytest.raises(StateError, match=message):
            take(state)
    np.testing.assert_equal(buffer.get_state(), before)
