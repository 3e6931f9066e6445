"""What importing and building does not load, for it would take longer than all the rest."""

import subprocess
import sys

import pytest

BUILD = """
import sys
from unison import PPOConfig
learner = PPOConfig().environment("CartPole-v1").framework(engine="eager").build_learner()
print(sorted({"torch._dynamo", "jax", "ray", "matplotlib"} & set(sys.modules)))
"""

IMPORT = """
import gc, torch
{first}
full = gc.get_stats()[2]["collections"]
from unison import PPO, PPOConfig
print(gc.get_stats()[2]["collections"] - full, gc.isenabled())
"""


def test_a_learner_is_built_without_compilers_and_extras() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("first", "enabled"), [("", True), ("gc.disable()", False)])
def test_importing_waits_for_no_full_collection_and_leaves_the_collector_as_it_was(first: str, enabled: bool) -> None:
    code = IMPORT.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(enabled)]


@pytest.mark.parametrize(("first", "frozen"), [("pass", True), ("import torch", False)])
def test_no_collection_looks_at_what_the_import_of_torch_left_but_at_what_was_there_before(
    first: str, frozen: bool
) -> None:
    code = f"{first}\nimport gc\nfrom unison import PPOConfig\nprint(gc.get_freeze_count() > 50_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(frozen)
