"""The driver is killed, at every moment: no process and no shared memory is left, and the last checkpoint is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.hosted import children, is_alive, wait_until
from unison.checkpoint import read_checkpoint

MOMENTS = ("before", "inside", "after", "saving", "adding", "building", "resizing")
SCRIPT = Path(__file__).with_name("driver_process.py")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int], set[str]]:
    """A folder for each moment; all processes that there were when the driver was killed; the named shared memory."""
    folder = tmp_path_factory.mktemp("driver")
    named = set(os.listdir("/dev/shm"))
    path = os.pathsep.join([str(SCRIPT.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    driver = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), "processes", *MOMENTS],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "stuck\n"
        family = children(driver.pid)
    finally:
        driver.kill()
        driver.communicate()
    return folder, family, set(os.listdir("/dev/shm")) - named


@pytest.mark.parametrize("moment", MOMENTS)
def test_driver_killed(killed: tuple[Path, set[int], set[str]], moment: str) -> None:
    folder, family, new_shared_memory = killed
    pids = {int(pid) for pid in (folder / moment / "pids").read_text().split()}
    assert len(pids) == 2
    assert pids <= family
    assert wait_until(lambda: not any(map(is_alive, pids)), timeout=10.0)
    assert read_checkpoint(folder / moment / "saved").parts["learner"]["counters"]["num_updates"] == 0
    assert {entry.name for entry in (folder / moment).iterdir()} == {"saved", "pids", "sprung"}
    assert wait_until(lambda: not any(map(is_alive, family)), timeout=10.0)
    assert new_shared_memory == set()
