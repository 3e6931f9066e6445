"""The end of a driver whose cluster is its own: asked to by SIGTERM or Ctrl-C, and after the cluster itself is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.hosted import children, is_alive, wait_until
from unison.algorithms.run_folder import RunFolder, StopReason

SETTINGS = {
    "resources.backend": "ray",
    "resources.num_learners": 1,
    "training.train_batch_size": 64,
    "training.minibatch_size": 32,
    "framework.engine": "eager",
}
GONE = """
import os, signal
from support.hosted import Hosted, children, is_alive, wait_until
from unison.learner_group.ray import RayTransport

transport = RayTransport()
transport.start(Hosted, 1)
cluster = children()
for pid in cluster:
    os.kill(pid, signal.SIGKILL)
assert wait_until(lambda: not any(map(is_alive, cluster)))
transport.stop()
print("stopped")
"""
"""A driver whose cluster is killed: a signal that was meant for the driver may go to all that it has started."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_after_the_iteration_under_way_with_a_checkpoint(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """Ctrl-C goes to all processes of a terminal's foreground, those of the cluster too."""
    folder = RunFolder(tmp_path / "run")
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    options = ["--no-tuned", "--stop-steps", "100000000", "--eval-interval", "0", *settings]
    driver = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "unison",
            "train",
            "ppo",
            "--env",
            "CartPole-v1",
            "--out",
            folder.path,
            *options,
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,
    )
    try:
        metrics = folder.path / "metrics.jsonl"
        assert wait_until(lambda: driver.poll() is not None or (metrics.exists() and metrics.stat().st_size > 0), 120.0)
        family = children(driver.pid)
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)
        else:
            driver.send_signal(number)
        told, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    outcome, iterations = folder.read_outcome(), len(metrics.read_text().splitlines())
    assert driver.returncode == 130, told
    assert outcome is not None
    assert outcome["reason"] == StopReason.INTERRUPTED
    assert outcome["iteration"] == iterations
    checkpoint = folder.latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint_{iterations:06}"
    assert len(family) > 2
    assert wait_until(lambda: not any(map(is_alive, family)))


def test_a_driver_whose_own_cluster_is_gone_does_not_wait_for_it(environment: dict[str, str]) -> None:
    driver = subprocess.run([sys.executable, "-c", GONE], env=environment, capture_output=True, text=True)
    assert driver.stdout == "stopped\n", driver.stderr  # Ray itself would end the driver after a minute.
    assert driver.returncode == 0
