"""The command `inspect`: what a checkpoint holds, verified byte by byte."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unison.algorithms.run_folder import find_checkpoint
from unison.algorithms.run_folder.rows import (
    CONFIRMATION_RETURN,
    EVALUATION_RETURN,
    STEPS,
    TRAINING_RETURN,
    flatten,
    get_number,
)
from unison.checkpoint import Checkpoint, CheckpointKeeper, read_checkpoint
from unison.cli.settings import config_class
from unison.cli.words import number, size
from unison.types import Tree

_MOST_TENSORS = 40
_RESULTS = (STEPS, TRAINING_RETURN, EVALUATION_RETURN, CONFIRMATION_RETURN)


def show_checkpoint(path: Path) -> None:
    """Print the modules, optimizers, counters, settings and sizes of a checkpoint.

    Raises:
        CheckpointError: there is none, or a file is damaged.
    """
    chosen = find_checkpoint(path)
    checkpoint = read_checkpoint(chosen, tensors=True)
    console = Console(highlight=False, soft_wrap=True)
    manifest, metadata = checkpoint.manifest, checkpoint.metadata
    sizes = {entry.part: entry.size for entry in manifest.files.values()}
    total = sum(sizes.values()) + (chosen / "manifest.json").stat().st_size
    console.print(f"[bold]{chosen}[/]")
    console.print(f"{size(total)} in {len(sizes) + 1} files, {size(_on_disk(chosen))} on disk, every digest verified")
    if chosen != path:
        kept = CheckpointKeeper(chosen.parent).checkpoints()
        console.print(f"one of {len(kept)} checkpoints of this run, {size(sum(map(_on_disk, kept)))} on disk")
    console.print(f"written {manifest.created} by Unison {manifest.library_version}, format {manifest.format_version}")
    for title, key in (("Counters", "counters"), ("Classes", "")):
        rows = metadata.get(key, {}) if key else {k: v for k, v in metadata.items() if k.endswith("_class")}
        _print_pairs(console, title, {name: _count(value) for name, value in rows.items()})
    results = flatten(metadata.get("results", {}))
    _print_pairs(console, "Results", {name: number(get_number(results, name)) for name in _RESULTS if name in results})
    _print_modules(console, checkpoint, sizes)
    _print_optimizers(console, checkpoint, sizes)
    others = {n: size(b) for n, b in sizes.items() if not n.startswith(("modules/", "optimizers/"))}
    _print_pairs(console, "Other parts", others)
    if "config" in metadata:
        _print_pairs(console, "Settings that differ from the defaults", _changed(metadata["config"]))


def _on_disk(folder: Path) -> int:
    """The bytes that a folder takes on its disk, which hands them out in blocks."""
    return sum(entry.stat().st_blocks * 512 for entry in (folder, *folder.rglob("*")))


def _print_modules(console: Console, checkpoint: Checkpoint, sizes: Mapping[str, int]) -> None:
    for part, tree in checkpoint.parts.items():
        kind, _, module_id = part.partition("/")
        if part == "module" or kind == "modules":
            tensors = dict(_arrays(tree))
            count = sum(math.prod(t.shape) for t in tensors.values())
            console.print(
                f"\n[bold]Module {escape(module_id or part)}[/]  {count:,} numbers in {len(tensors)} tensors, "
                f"{size(sizes[part])}"
            )
            table = Table.grid(padding=(0, 3))
            for name, tensor in list(tensors.items())[:_MOST_TENSORS]:
                shape = " x ".join(map(str, tensor.shape)) or "scalar"
                table.add_row(f"  {escape(name)}", shape, f"[dim]{str(tensor.dtype).removeprefix('torch.')}[/]")
            console.print(table)
            if len(tensors) > _MOST_TENSORS:
                console.print(f"  [dim]and {len(tensors) - _MOST_TENSORS} more[/]")


def _print_optimizers(console: Console, checkpoint: Checkpoint, sizes: Mapping[str, int]) -> None:
    rows: dict[str, str] = {}
    for part, tree in checkpoint.parts.items():
        kind, _, name = part.partition("/")
        if kind == "optimizers":
            count = sum(math.prod(t.shape) for _, t in _arrays(tree))
            rows[name] = f"{count:,} numbers, {size(sizes[part])}"
    _print_pairs(console, "Optimizers", rows)


def _print_pairs(console: Console, title: str, rows: Mapping[str, Any]) -> None:
    if not rows:
        return
    console.print(f"\n[bold]{title}[/]")
    table = Table.grid(padding=(0, 3))
    for name, value in rows.items():
        table.add_row(f"  {escape(name)}", escape(str(value)))
    console.print(table)


def _arrays(tree: Tree, path: str = "") -> list[tuple[str, Any]]:
    """The arrays of a tree by their path."""
    if isinstance(tree, dict | list | tuple):
        pairs = cast("dict[Any, Any]", tree).items() if isinstance(tree, dict) else enumerate(cast("list[Any]", tree))
        return [item for key, value in pairs for item in _arrays(value, f"{path}/{key}" if path else str(key))]
    return [(path, tree)] if hasattr(tree, "shape") and hasattr(tree, "dtype") else []


def _changed(config: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a stored config that are not the defaults of its class."""
    name = config.get("algorithm_name")
    defaults = config_class(str(name))().to_dict() if name is not None else {}
    return {
        f"{section}.{setting}": json.dumps(value)
        for section, values in config.items()
        if isinstance(values, Mapping)
        for setting, value in cast("Mapping[str, Any]", values).items()
        if section not in defaults or defaults[section].get(setting) != value
    }


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
