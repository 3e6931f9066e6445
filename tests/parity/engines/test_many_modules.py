"""Modules of one make are one program, whatever their settings, and also when some of them have few rows or none."""

import shutil
from typing import Any

import pytest
import torch

from support.engines import Case, assert_agree, assert_results_agree
from unison import SingleAgentRLModuleSpec
from unison.learner.engines import xla

NAMES = tuple("abcde")
SETTINGS: dict[str, dict[str, Any]] = {
    "b": {"lr": 1e-3, "clip_param": 0.1},
    "c": {"vf_loss_coeff": 0.25, "entropy_coeff": 0.05, "grad_clip": 0.1},
    "d": {"optimizer": {"name": "adam", "betas": (0.8, 0.99), "eps": 1e-4}},
    "e": {"clip_param": 0.3, "lr": [[0, 1e-3], [400, 1e-5]]},
}
CASE = Case(modules=NAMES, configure=lambda c: c.multi_agent(algorithm_config_overrides_per_module=SETTINGS))
# Rows of each module in each update: all, fewer, some without any.
UPDATES = [
    dict.fromkeys(NAMES, 32),
    {"a": 32, "b": 16, "c": 32, "d": 8, "e": 24},
    {"a": 32, "c": 32, "d": 16},
    {"b": 32},
    dict.fromkeys(NAMES, 32),
]


def train(learner: Any, updates: list[dict[str, int]]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for seed, rows in enumerate(updates):
        torch.manual_seed(seed)
        batch = {m: CASE._columns(learner.module[m], seed * 31 + ord(m), n) for m, n in rows.items()}
        results.append(learner.update_from_batch(batch, minibatch_size=8, num_iters=3))
    return results


@pytest.mark.parametrize("engine", ["xla", "inductor"])
def test_modules_with_other_settings_share_a_program(engine: str) -> None:
    if engine == "xla":
        pytest.importorskip("jax")
    elif shutil.which("c++") is None:
        pytest.skip("inductor needs a C++ compiler")
    eager, compiled = CASE.learner("eager"), CASE.learner(engine)
    updates = UPDATES if engine == "xla" else UPDATES[:2]  # inductor compiles for long
    for wanted, found in zip(train(eager, updates), train(compiled, updates), strict=True):
        assert found["__all_modules__"]["engine"] == engine, found["__all_modules__"]
        assert_results_agree(wanted, found)
    assert_agree(eager, compiled)
    assert len(compiled.engine._functions) == 1


@pytest.mark.parametrize("width", [1, 2])
def test_modules_take_turns_where_all_at_once_are_too_many(
    width: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Five modules in six places: one by one, and two side by side, also with what is large then in pieces."""
    pytest.importorskip("jax")
    from unison.learner.engines.lowering import pieces, steps

    monkeypatch.setattr(steps, "_size", lambda graph: steps._SIDE_BY_SIDE // width)
    monkeypatch.setattr(pieces, "LARGE", 64)
    eager, compiled = CASE.learner("eager"), CASE.learner("xla")
    for wanted, found in zip(train(eager, UPDATES), train(compiled, UPDATES), strict=True):
        assert found["__all_modules__"]["engine"] == "xla", found["__all_modules__"]
        assert_results_agree(wanted, found)
    assert_agree(eager, compiled)
    assert "not at once" not in caplog.text


def test_a_module_with_fewer_steps_waits_for_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    """69 and 72 steps are of one size to a program."""
    pytest.importorskip("jax")
    eager, compiled = CASE.learner("eager"), CASE.learner("xla")
    updates = [{"a": 184, "b": 192, "c": 192}, {"b": 184, "c": 192, "d": 192}]
    for wanted, found in zip(train(eager, updates), train(compiled, updates), strict=True):
        assert_results_agree(wanted, found)
    assert_agree(eager, compiled)
    assert "not at once" not in caplog.text


def test_compiling_for_several_modules_counts_as_compiling() -> None:
    pytest.importorskip("jax")
    together = dict.fromkeys("abc", 32)
    results = train(CASE.learner("xla"), [{"a": 32}, {"b": 32}, {"c": 32}, together, together])
    alone, first, again = (each["__all_modules__"]["seconds_compile"] for each in results[2:])
    assert alone < first == again


def test_what_cannot_step_at_once_steps_one_after_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("jax")
    run = xla.run_together

    def failing(jobs: Any, places: int, before_change: Any) -> Any:
        if places > 1:
            raise RuntimeError("no room")
        return run(jobs, places, before_change)

    monkeypatch.setattr(xla, "run_together", failing)
    learners = [CASE.learner("eager"), CASE.learner("xla")]
    for learner in learners:
        results = train(learner, UPDATES[:2])
    assert results[-1]["__all_modules__"]["engine"] == "xla"
    assert "one after another, not at once: compiling failed with RuntimeError: no room" in caplog.text
    assert_agree(*learners)


def test_modules_come_and_go() -> None:
    pytest.importorskip("jax")
    learners = [CASE.learner("eager"), CASE.learner("xla")]
    for learner in learners:
        spec = SingleAgentRLModuleSpec(
            observation_space=CASE.observations,
            action_space=CASE.actions,
            model_config=learner.module["c"].model_config,
        )
        learner.remove_module("c")
        train(learner, [dict.fromkeys("abde", 32)] * 2)
        learner.add_module(module_id="c", module_spec=spec, config_overrides={"lr": 2e-3})
        learner.set_module_state({"c": learner.get_module_state(["a"])["a"]})
        train(learner, [dict.fromkeys(NAMES, 32)] * 2)
    assert_agree(*learners)
    assert len(learners[1].engine._functions) == 1
