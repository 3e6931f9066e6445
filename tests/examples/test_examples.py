"""Every example runs as it stands, and what it shows is true."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def load(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, next(p for p in EXAMPLES if p.stem == name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80


def test_a_learner_of_ones_own_learns() -> None:
    assert load("custom_learner").main(iterations=30) > 60


def test_a_module_of_ones_own_learns() -> None:
    assert load("custom_module").main(iterations=12) > 60


def test_an_environment_of_ones_own_is_solved() -> None:
    assert load("custom_environment").main() == pytest.approx(0.3)


def test_a_connector_of_ones_own_changes_what_is_learned_from() -> None:
    results = load("custom_connector").main()
    assert results["env_runners"]["episode_return_mean"] < -100  # the real rewards
    assert results["learners"]["default_policy"]["vf_loss"] < 4000  # signs, not rewards of up to -16


def test_many_modules() -> None:
    assert "rookie" in load("many_modules").main()


@pytest.mark.parametrize("name", ["several_learners"])
def test_examples_with_processes(name: str) -> None:
    path = next(p for p in EXAMPLES if p.stem == name)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "restarts: 1" in done.stdout
