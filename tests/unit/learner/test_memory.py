"""What a step frees serves the next one, instead of going back to the system page by page."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import gymnasium as gym
import torch
from unison import PPOConfig

space = gym.spaces.Box(-1, 1, (3,))
PPOConfig().build_learner(spaces={"default_policy": (space, space)})

def step():
    pieces = [torch.ones(2 << 20) for _ in range(8)]  # 8 MiB each
    return sum(piece.numel() for piece in pieces)

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 16_384  # of 4 KiB, in the 64 MiB of a step


def faults(**environment: str) -> int:
    """The pages that ten steps take from the system, in a process of its own that has built a Learner."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(run, env=inherited | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory")
def test_freed_memory_is_kept() -> None:
    assert faults() < PAGES / 2  # some: a piece may no longer fit where it was after the first step


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory")
def test_the_users_own_settings_stay() -> None:
    assert faults(MALLOC_MMAP_THRESHOLD_="131072") > 5 * PAGES
