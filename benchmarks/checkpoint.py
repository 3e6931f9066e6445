"""Saving and loading a module: Unison's checkpoints against torch.save and torch.load.

    python benchmarks/checkpoint.py [--directory DIR] [--repeats 9 5]

Both save the same float32 parameters to a new path of the same file system, in turn, within one process. Unison
computes and verifies SHA-256 over every byte, and by default waits until the bytes are on the disk (fsync);
torch.save does neither, so that saving is shown with and without waiting for the disk on both sides. The
last row is how long a caller waits for `BackgroundWriter.write`. Times are milliseconds, medians and best; on a machine
that does other things as well, the best say more.
"""

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from unison.checkpoint import BackgroundWriter, read_checkpoint, write_checkpoint

PART = "modules/default_policy"
Weights = dict[str, torch.Tensor]
Action = Callable[[Weights, Path], object]


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
    """torch.load, safe unpickling."""
    check(weights, torch.load(path, weights_only=True))


def unison_load(weights: Weights, path: Path) -> None:
    """Read and verify."""
    check(weights, read_checkpoint(path, tensors=True).parts[PART])


def check(weights: Weights, loaded: Weights) -> None:
    """Cheap proof that the right thing was loaded."""
    assert loaded.keys() == weights.keys()
    assert loaded["encoder.0.weight"][0, 0] == weights["encoder.0.weight"][0, 0]


def timed(action: Action, weights: Weights, path: Path) -> float:
    """Seconds of one call; data that still waits for the disk is written before, not during it."""
    os.sync()
    start = time.perf_counter()
    action(weights, path)
    return time.perf_counter() - start


def compare(weights: Weights, directory: Path, repeats: int) -> dict[str, list[float]]:
    """Times of everything, in turn; the first round warms up and is left out."""
    times: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        taken: dict[str, float] = {}
        actions = (torch_save, unison_save, torch_save_fsync, unison_save_fsync)
        for action in actions if turn % 2 else reversed(actions):
            taken[action.__name__] = timed(action, weights, directory / action.__name__)
        loads = ((torch_load, torch_save), (unison_load, unison_save_fsync))
        for load, saved in loads if turn % 2 else reversed(loads):
            taken[load.__name__] = timed(load, weights, directory / saved.__name__)
        with BackgroundWriter() as writer:
            os.sync()
            start = time.perf_counter()
            writer.write(directory / "background", {PART: weights}, {})
            taken["background"] = time.perf_counter() - start
        shutil.rmtree(directory)
        directory.mkdir()
        if turn:
            for name, seconds in taken.items():
                times.setdefault(name, []).append(seconds)
    return times


ROWS = (
    ("save, no fsync", "torch_save", "unison_save"),
    ("save, fsync", "torch_save_fsync", "unison_save_fsync"),
    ("save (as shipped)", "torch_save", "unison_save_fsync"),
    ("load, verified", "torch_load", "unison_load"),
    ("caller waits", "torch_save", "background"),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=None, help="on which file system; default: the temporary one")
    parser.add_argument("--repeats", type=int, nargs=2, default=(9, 5), help="for 1M and for 100M parameters")
    arguments = parser.parse_args()
    machine = f"{cpu_model()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, torch {torch.__version__}")
    print(f"{'':<31}{'-------- median --------':>27}{'--------- best ---------':>27}")
    print(f"{'parameters':>12} {'':<18}" + f"{'torch':>9}{'unison':>10}{'ratio':>8}" * 2)
    for parameters, repeats in zip((1_000_000, 100_000_000), arguments.repeats, strict=True):
        weights = make_weights(parameters)
        with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
            directory = Path(folder) / "work"
            directory.mkdir()
            times = compare(weights, directory, repeats)
        count = sum(tensor.numel() for tensor in weights.values())
        for label, torch_name, unison_name in ROWS:
            columns = ""
            for summary in (statistics.median, min):
                theirs, ours = (summary(times[name]) * 1e3 for name in (torch_name, unison_name))
                columns += f"{theirs:>9.1f}{ours:>10.1f}{ours / theirs:>8.2f}"
            print(f"{count:>12,} {label:<18}{columns}")


def cpu_model() -> str:
    """What the kernel calls the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
