"""The recipe of docs/how_to.md that reads weights with safetensors alone, in a process that can't import Unison."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from support.learners import make_columns, make_learner

HOW_TO = Path(__file__).parents[3] / "docs" / "how_to.md"
WITHOUT_UNISON = "import sys; sys.modules['unison'] = None\n"


def test_weights_load_without_unison_in_five_lines(tmp_path: Path) -> None:
    learner = make_learner()
    learner.update_from_batch(make_columns(16))
    learner.save_state(tmp_path / "checkpoint")
    section = HOW_TO.read_text(encoding="utf-8").partition("The weights load without Unison")[2]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match is not None
    recipe = match[1]
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 5
    before = "import torch\nobservation = torch.linspace(-1, 1, 8).reshape(2, 4)\n"
    after = "\nprint(sorted(weights), logits.tolist())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_UNISON + before + recipe + after],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    module = learner.module["default_policy"]
    logits = module({"obs": torch.linspace(-1, 1, 8).reshape(2, 4)})["action_dist_inputs"]
    assert done.stdout == f"{sorted(module.state_dict())} {logits.tolist()}\n"
