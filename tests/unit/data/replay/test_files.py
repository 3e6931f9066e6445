"""A replay in files: its room is claimed at once, a disk without room is named, and nothing is ever left behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unison import SingleAgentEpisode
from unison.data.replay import ReplayBuffer

STEPS = """
import os, resource, signal, sys
import numpy as np
from unison import SingleAgentEpisode
from unison.data.replay import ReplayBuffer
from unison.errors import ConfigError
directory = sys.argv[1]
steps = SingleAgentEpisode(observations=np.ones((101, 1)), actions=np.ones((100, 1)), rewards=np.ones(100))
"""
LIMITED = "resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17))\n"
WITHOUT_ROOM = """
large = ReplayBuffer(100_000, directory=directory)
try:
    for _ in range(1000):
        large.add([steps])
    print("all was written")
except ConfigError as error:
    print(error)
assert not len(large) and not os.listdir(directory)
small = ReplayBuffer(10_000, directory=directory)
for _ in range(100):
    small.add([steps])
assert len(small) == 10_000
"""
FULL = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m replay "$0" && exec "$@"']
"""Runs a command, given after a directory, with that directory as a disk of 1 MiB, which nobody else sees."""


def one_step(width: int = 1) -> SingleAgentEpisode:
    return SingleAgentEpisode(observations=np.ones((2, width)), actions=np.ones((1, 1)), rewards=np.ones(1))


def can_mount(directory: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*FULL, str(directory), "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("why", ["File too large", "No space left on device"])
def test_a_disk_without_room_is_named_and_nothing_is_left(why: str, tmp_path: Path) -> None:
    is_full = why.startswith("No space")
    if is_full and not can_mount(tmp_path):
        pytest.skip("nothing can be mounted here")
    code = STEPS + ("" if is_full else LIMITED) + WITHOUT_ROOM
    command = [*([*FULL, str(tmp_path)] if is_full else []), sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert f"needs 1,700,000 bytes of files in '{tmp_path}', where " in child.stdout
    assert ("where 1,048,576 are free" in child.stdout) == is_full
    assert f"{why}. Lower replay_capacity, or choose another replay_directory." in child.stdout


def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    code = STEPS + "kept = ReplayBuffer(100, directory=directory)\nkept.add([steps])\nos.kill(os.getpid(), 9)\n"
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert child.returncode == -9, child.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what Linux says of open files")
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_room_is_claimed_before_it_is_written_to(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    buffer = ReplayBuffer(600_001, directory=tmp_path)
    buffer.add([one_step()])
    opened = Path("/proc/self/fd").iterdir()
    files = [path.stat() for path in opened if os.path.realpath(path).startswith(str(tmp_path))]
    assert sum(file.st_size for file in files) == buffer.nbytes == 600_001 * 17
    assert all(file.st_blocks * 512 >= file.st_size for file in files)


def test_a_relative_directory_is_where_the_process_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    buffer = ReplayBuffer(10, directory="replay")
    monkeypatch.chdir(tmp_path / "elsewhere")
    buffer.add([one_step()])
    del buffer
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "elsewhere", tmp_path / "replay"]


def test_columns_without_numbers_need_no_file(tmp_path: Path) -> None:
    buffer = ReplayBuffer(10, directory=tmp_path)
    buffer.add([one_step(width=0)])
    assert buffer.sample(3).columns["default_policy"]["obs"].shape == (3, 0)
