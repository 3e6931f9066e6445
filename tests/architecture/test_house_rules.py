"""Sizes, and what may not stand in any file."""

import ast
import re
from typing import Any

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_METHODS = 20
"""Without those that Python itself calls, such as `__len__`."""
API_CLASSES = {"Learner", "TorchLearner", "LearnerGroup"}
"""Classes that have the API's own members, and no more."""

# Written in pieces, so that this file keeps its own rules.
OPEN_WORK = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:root|home|work|opt|Users|mnt)/\w")
REGISTRY_HOST = re.compile(r"pypi\." + r"org|python" + r"hosted|registry\.np" + r"mjs")


def test_files_functions_and_classes_stay_small(sources: list[Any]) -> None:
    large: list[str] = []
    for source in sources:
        lines = source.text.count("\n")
        if lines > MAX_FILE_LINES:
            large.append(f"{source.module}: {lines} lines")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    large.append(f"{source.module}: {node.name} has {length} lines")
            elif isinstance(node, ast.ClassDef) and node.name not in API_CLASSES:
                methods = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
                methods = {name for name in methods if not name.startswith("__")}
                if len(methods) > MAX_METHODS:
                    large.append(f"{source.module}: {node.name} has {len(methods)} methods")
    assert large == []


def test_there_is_no_open_work(texts: dict[str, str]) -> None:
    assert _hits(texts, OPEN_WORK) == []


def test_nothing_names_a_machine(texts: dict[str, str]) -> None:
    assert _hits(texts, MACHINE_PATH) == []
    assert _hits(texts, REGISTRY_HOST) == []


def test_every_module_says_what_it_is(sources: list[Any]) -> None:
    assert [source.module for source in sources if not ast.get_docstring(source.tree)] == []


def test_the_way_of_the_data_reads_in_an_afternoon(sources: list[Any], texts: dict[str, str]) -> None:
    route = texts["CONTRIBUTING.md"].partition("## An afternoon's reading")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([\w/]+)\.py`", route))
    lines = {source.module.removeprefix("unison."): source.text.count("\n") for source in sources}
    found = {name: lines.get(name.replace("/", ".")) for name in named}
    assert [name for name, length in found.items() if length is None] == []
    assert 3500 < sum(length or 0 for length in found.values()) < 4500


def _hits(texts: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
