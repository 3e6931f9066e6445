"""Saving and loading: a module's checkpoint beside torch.save and torch.load, and how long training stops for a save.

    python benchmarks/checkpoint.py [--directory DIR] [--repeats 9]

One process, all cores. Both sides save the same float32 parameters to new files of one file system and load them from
its cache, in turn; what waits for the disk is written out before each measurement. Unison always computes the SHA-256
of every byte it writes, and verifies that of every byte it reads; torch does neither. Like is compared with like: a
save that waits for the disk (fsync, Unison's default) with a torch.save that does so too, one that does not with one
that does not, and reading into memory with torch.load(mmap=False). "as shipped" is Unison's default beside torch's,
which does not wait for the disk. Times are medians, ratios medians of the ratios of each round; the first round does
not count.

Then a whole PPO with its Adam: how long `save_state(background=True)` keeps training, beside a plain copy of the same
arrays within host memory and beside a save in the foreground.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.options import make_parser
from harness.ratios import median_ratio
from harness.report import Report

from unison import PPOConfig
from unison.checkpoint import read_checkpoint, write_checkpoint
from unison.types import tree_leaves

PART = "modules/default_policy"
GOAL = 1.5
Weights = dict[str, torch.Tensor]
Action = Callable[[Weights, Path], object]
Times = dict[str, list[float]]


def make_weights(parameters: int) -> Weights:
    """The weights of a multi-layer perceptron of about so many parameters."""
    layers = 4 if parameters < 10_000_000 else 24
    width = round((parameters / layers) ** 0.5)
    generator = torch.Generator().manual_seed(0)
    weights = {f"encoder.{i}.weight": torch.randn(width, width, generator=generator) for i in range(layers)}
    return weights | {f"encoder.{i}.bias": torch.zeros(width) for i in range(layers)}


def torch_save(weights: Weights, path: Path) -> None:
    """torch.save as it is: the bytes may still be in memory when it returns."""
    torch.save(weights, path)


def torch_save_fsync(weights: Weights, path: Path) -> None:
    """torch.save, then wait for the disk."""
    with path.open("wb") as stream:
        torch.save(weights, stream)
        stream.flush()
        os.fsync(stream.fileno())


def unison_save(weights: Weights, path: Path) -> None:
    """A checkpoint without waiting for the disk."""
    write_checkpoint(path, {PART: weights}, {}, fsync=False)


def unison_save_fsync(weights: Weights, path: Path) -> None:
    """A checkpoint as Unison writes it by default."""
    write_checkpoint(path, {PART: weights}, {})


def torch_load(weights: Weights, path: Path) -> None:
    """torch.load into memory, safe unpickling."""
    check(weights, torch.load(path, weights_only=True, mmap=False))


def unison_load(weights: Weights, path: Path) -> None:
    """Read and verify."""
    check(weights, read_checkpoint(path, tensors=True).parts[PART])


def check(weights: Weights, loaded: Weights) -> None:
    """Cheap proof that the right thing was loaded."""
    assert loaded.keys() == weights.keys()
    assert loaded["encoder.0.weight"][0, 0] == weights["encoder.0.weight"][0, 0]


def seconds(action: Callable[[], object]) -> float:
    """Of one call; data that still waits for the disk is written before, not during it."""
    os.sync()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(weights: Weights, directory: Path, repeats: int) -> Times:
    """Times of everything, in turn."""
    times: Times = {}
    for turn in range(repeats + 1):
        taken: dict[str, float] = {}
        saves: list[Action] = [torch_save, unison_save, torch_save_fsync, unison_save_fsync]
        loads: list[tuple[Action, Action]] = [(torch_load, torch_save), (unison_load, unison_save_fsync)]
        for save in saves if turn % 2 else reversed(saves):
            path = directory / save.__name__
            taken[save.__name__] = seconds(lambda save=save, path=path: save(weights, path))
        for load, saved in loads if turn % 2 else reversed(loads):
            path = directory / saved.__name__
            taken[load.__name__] = seconds(lambda load=load, path=path: load(weights, path))
        shutil.rmtree(directory)
        directory.mkdir()
        if turn:
            for name, value in taken.items():
                times.setdefault(name, []).append(value)
    return times


def stops(hidden: int, directory: Path, repeats: int) -> tuple[int, Times]:
    """The bytes of a PPO's state, and how long its saves keep training."""
    config = PPOConfig().environment("CartPole-v1").framework(engine="eager").debugging(seed=0)
    config.rl_module(model_config={"hidden_sizes": (hidden, hidden)}).training(
        train_batch_size=64, minibatch_size=64, num_epochs=1
    )
    algorithm = config.build()
    algorithm.train()
    state = algorithm.learner_group.get_state()
    arrays = [leaf for leaf in _leaves(state) if isinstance(leaf, np.ndarray)]
    times: Times = {"copy": [], "background": [], "foreground": []}
    for turn in range(repeats + 1):
        taken = {
            "copy": seconds(lambda: [array.copy() for array in arrays]),
            "background": seconds(lambda: algorithm.save_state(directory / "background", background=True)),
        }
        algorithm.wait_for_saves()
        taken["foreground"] = seconds(lambda: algorithm.save_state(directory / "foreground"))
        shutil.rmtree(directory)
        directory.mkdir()
        if turn:
            for name, value in taken.items():
                times[name].append(value)
    algorithm.stop()
    return sum(array.nbytes for array in arrays), times


def _leaves(tree: Any) -> list[Any]:
    return [leaf for part in tree_leaves(tree) for leaf in (part if isinstance(part, list) else [part])]


COMPARISONS = (
    ("save, both wait for the disk", "torch_save_fsync", "unison_save_fsync", True),
    ("save, neither waits", "torch_save", "unison_save", True),
    ("load into memory", "torch_load", "unison_load", True),
    ("save as shipped (only Unison waits)", "torch_save", "unison_save_fsync", False),
)


def add_comparison(report: Report, parameters: int, times: Times) -> None:
    """The table of one module, and whether the goal is reached."""
    rows: list[list[str]] = []
    for label, theirs, ours, is_goal in COMPARISONS:
        ratio = median_ratio(times[ours], times[theirs])
        rows.append([label, spread(times[theirs]), spread(times[ours]), f"{ratio:.2f}"])
        if is_goal:
            reached = "reached" if ratio <= GOAL else "not reached"
            report.notes.append(f"{parameters:,} parameters, {label}: {ratio:.2f} times torch's; {GOAL} is {reached}.")
    header = ["ms, median (least to most)", "torch", "Unison, with SHA-256", "Unison / torch"]
    report.add_table(f"A module of {parameters:,} parameters", header, rows)


def spread(times: list[float]) -> str:
    """Milliseconds: the median, and the range."""
    return f"{statistics.median(times) * 1e3:.1f} ({min(times) * 1e3:.1f} to {max(times) * 1e3:.1f})"


def main() -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--directory", type=Path, default=None, help="on which file system; default: the temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    about = " ".join(" ".join((__doc__ or "").split("\n\n")[2:]).split())
    report = Report("checkpoint", "Saving and loading", about)
    for parameters, repeats in ((1_000_000, arguments.repeats), (100_000_000, max(3, arguments.repeats // 2))):
        weights = make_weights(parameters)
        with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
            times = compare(weights, _work(folder), 2 if arguments.quick else repeats)
        add_comparison(report, sum(tensor.numel() for tensor in weights.values()), times)
        report.data[f"seconds_{parameters}"] = times
        del weights
    rows: list[list[str]] = []
    for hidden in (256, 1000, 3000):
        with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
            nbytes, times = stops(hidden, _work(folder), 2 if arguments.quick else arguments.repeats)
        ratio = median_ratio(times["background"], times["copy"])
        shown = [spread(times[name]) for name in ("copy", "background", "foreground")]
        rows.append([f"{nbytes / 1e6:,.1f} MB", *shown, f"{ratio:.2f}"])
        report.data[f"stop_seconds_{hidden}"] = times
    header = ["ms; state of", "plain copy", "save_state(background=True)", "save_state", "background / copy"]
    report.add_table("How long training stops", header, rows)
    report.show()
    for path in report.write(arguments.results):
        print(path)


def _work(folder: str) -> Path:
    made = Path(folder) / "work"
    made.mkdir()
    return made


if __name__ == "__main__":
    main()
