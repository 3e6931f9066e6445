"""`auto` starts eager, tries what pays, keeps what is fastest, and tells."""

from typing import Any

import pytest

from support.engines import Case, InterpretedEngine
from unison.learner.engines import auto
from unison.learner.engines.auto import AutoEngine
from unison.types import ALL_MODULES

CASE = Case(passes=1)


class Clock:
    """A clock that only moves when told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


class Fast(InterpretedEngine):
    """Takes a millisecond."""

    name = "xla"

    def run(self, *args: Any) -> Any:
        CLOCK.now += 0.001
        return super().run(*args)


class Slow(InterpretedEngine):
    """Takes a second."""

    name = "xla"

    def run(self, *args: Any) -> Any:
        CLOCK.now += 1.0
        return super().run(*args)


class Refusing(InterpretedEngine):
    def refusal(self, learner: Any) -> str | None:
        return "it is Sunday"


def auto_learner(monkeypatch: pytest.MonkeyPatch, engine: type[InterpretedEngine]) -> Any:
    """A Learner under `auto` whose only compiling engine is `engine`, and whose eager update takes 0.1 s."""
    learner = CASE.learner("interpreted")
    learner.engine = AutoEngine()
    monkeypatch.setattr(auto, "_candidates", lambda _: ["xla"])
    monkeypatch.setattr(auto, "make_compiled", lambda _: engine())
    monkeypatch.setattr(auto, "PATIENCE", {"xla": 0.15})
    monkeypatch.setattr(auto, "time", CLOCK)
    run = auto.EagerEngine.run

    def timed(self: Any, *args: Any) -> Any:
        CLOCK.now += 0.1
        return run(self, *args)

    monkeypatch.setattr(auto.EagerEngine, "run", timed)
    return learner


def engines_of(learner: Any, updates: int = 8) -> list[dict[str, Any]]:
    return [CASE.update(learner, seed)[ALL_MODULES] for seed in range(updates)]


def test_the_faster_engine_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    results = engines_of(auto_learner(monkeypatch, Fast))
    assert [r["engine"] for r in results[:2]] == ["eager", "eager"]
    assert results[-1]["engine"] == "xla"
    assert "measured" in results[-1]["engine_reason"]
    assert results[-1]["seconds_compile"] > 0


def test_the_slower_engine_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    results = engines_of(auto_learner(monkeypatch, Slow))
    assert "xla" in [r["engine"] for r in results]
    assert results[-1]["engine"] == "eager"


def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    results = engines_of(auto_learner(monkeypatch, Refusing), updates=4)
    assert {r["engine"] for r in results} == {"eager"}
    assert "it is Sunday" in results[-1]["engine_reason"]


def test_a_short_run_stays_eager() -> None:
    learner = CASE.learner("interpreted")
    learner.engine = AutoEngine()
    results = CASE.update(learner, 0)[ALL_MODULES]
    assert results["engine"] == "eager"
    assert results["seconds_compile"] == 0


def test_a_step_too_long_to_compile_stays_eager() -> None:
    pytest.importorskip("jax")
    learner = CASE.learner("interpreted")
    learner.engine = auto.make_compiled("xla")
    learner.engine.compiler, learner.engine.max_operations = None, 100
    results = CASE.update(learner, 0)[ALL_MODULES]
    assert results["engine"] == "eager"
    assert "operations for minutes" in results["engine_reason"]


class Compiling(InterpretedEngine):
    """Measures well on trial, then takes a second for every update."""

    name = "xla"
    runs = 0

    def run(self, *args: Any) -> Any:
        self.runs += 1
        CLOCK.now += 0.001 if self.runs <= 3 else 1.0
        return super().run(*args)


def test_an_engine_that_compiles_for_every_update_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = auto_learner(monkeypatch, Compiling)
    ran = engines_of(learner, updates=14)
    assert any(results["engine"] == "xla" for results in ran)
    assert ran[-1]["engine"] == "eager"
    assert "compiles for each update" in ran[-1]["engine_reason"]
