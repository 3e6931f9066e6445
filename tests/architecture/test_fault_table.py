"""Every test that docs/faults.md names is there, and every moment and fault has its cell."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(test_\w+(?:\[[^\]]*\])?)`")
FOLDERS = re.compile(r"`(tests/[\w/.]+)`")


def test_every_test_that_the_faults_name_exists() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *FOLDERS.findall(text)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    collected = {line.split("::", 1)[1] for line in listed.splitlines() if "::" in line}
    named = TEST.findall(text)
    assert len(named) > 50
    assert sorted(set(named) - collected) == []


def test_every_cell_of_the_faults_has_its_test() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    empty: list[str] = []
    for line in text.splitlines():
        if line.startswith("| ") and "---" not in line and "`test_" in line:
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            empty += [f"{name}: {cell}" for cell in cells if not TEST.search(cell) and not cell.startswith("as ")]
    assert empty == []
