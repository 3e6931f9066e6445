"""A process that writes checkpoints and can be killed at each of its steps. Not a test.

It reads jobs, one JSON object a line, and runs each in a fork of itself, so that Python and torch are imported once. A
step is a call that touches the file system; the fork sends itself SIGKILL before the step numbered `kill_at`, or, with
`torn`, in the midst of the write numbered so, half of its bytes written. The answer says whether the fork was killed,
and what it reported.
"""

import gc
import json
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unison.checkpoint import CheckpointKeeper, atomic, read_checkpoint, write_checkpoint

STEPS = ("open", "pwritev", "fsync", "close", "mkdir", "rename", "unlink", "rmdir", "scandir")


def contents(generation: int, floats: int = 3000) -> dict[str, Any]:
    """Parts in which every value tells the generation."""
    return {
        "modules/a": {
            "weight": np.full((floats,), generation, np.float32),
            "bias": torch.full((3,), float(generation)),
        },
        "modules/b": {"weight": np.full((7, 11), generation, np.int64)},
        "optimizers/a/adam": {"state": {0: {"step": generation, "moment": np.full(5, generation, np.float64)}}},
        "learner": {"generation": generation},
    }


def generation_of(parts: dict[str, Any], metadata: dict[str, Any]) -> int:
    """The generation of a checkpoint that was read; fails if it mixes several."""
    moment = parts["optimizers/a/adam"]["state"][0]
    arrays = (*parts["modules/a"].values(), parts["modules/b"]["weight"], moment["moment"])
    found = {int(value) for array in arrays for value in np.unique(array)}
    found |= {moment["step"], parts["learner"]["generation"], metadata["generation"]}
    assert len(found) == 1, f"a checkpoint of several generations: {found}"
    return found.pop()


class Killer:
    """Wraps the calls that touch the file system; counts them, and kills the process at one."""

    def __init__(self, kill_at: int | None, torn: bool) -> None:
        self.steps = 0
        self._kill_at = kill_at
        self._torn = torn
        self._lock = threading.Lock()

    def install(self) -> None:
        for name in STEPS:
            setattr(os, name, self._wrapped(getattr(os, name), is_write=name == "pwritev"))
        atomic._exchange = self._wrapped(atomic._exchange) if atomic._exchange else None
        atomic.fcntl.flock = self._wrapped(atomic.fcntl.flock)

    def _wrapped(self, call: Callable[..., Any], *, is_write: bool = False) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.steps += is_write or not self._torn
                if self.steps == self._kill_at and (is_write or not self._torn):
                    if self._torn:
                        (data,) = args[1]
                        call(args[0], [data[: len(data) // 2]], args[2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return step


def run(job: dict[str, Any], report: int) -> None:
    """One job, in the fork."""
    if not job.get("exchange", True):
        atomic._exchange = None
    killer = Killer(job.get("kill_at"), job.get("torn", False))
    if "kill_at" in job:
        killer.install()
    JOBS[job["do"]](job, report)
    os.write(report, json.dumps({"steps": killer.steps, "peak": peak_memory()}).encode() + b"\n")


def write(job: dict[str, Any], report: int) -> None:
    generation = job["generation"]
    write_checkpoint(job["path"], contents(generation), {"generation": generation}, fsync=job.get("fsync", True))


def write_forever(job: dict[str, Any], report: int) -> None:
    """Replace a checkpoint again and again; after each, tell its generation."""
    generation = job["generation"]
    while True:
        write_checkpoint(job["path"], contents(generation, job["floats"]), {"generation": generation}, fsync=False)
        os.write(report, f"{generation}\n".encode())
        generation += 1


def keep(job: dict[str, Any], report: int) -> None:
    """Save one numbered checkpoint; the keeper deletes what need not be kept."""
    number = job["generation"]
    keeper = CheckpointKeeper(job["path"], keep_last=2, keep_best_by="score")
    keeper.save(number, contents(number), {"generation": number}, {"score": job["score"]})


def write_large(job: dict[str, Any], report: int) -> None:
    """Write an array of so many bytes, whose memory is in use before the peak is measured."""
    array = np.ones(job["bytes"] // 4, np.float32)
    tensor = torch.ones(job["bytes"] // 4)
    reset_peak_memory()
    write_checkpoint(job["path"], {"numpy": {"w": array}, "torch": {"w": tensor}}, {}, fsync=False)


def read_large(job: dict[str, Any], report: int) -> None:
    reset_peak_memory()
    read_checkpoint(job["path"])


def save_algorithm(job: dict[str, Any], report: int) -> None:
    """Save an algorithm that the parent has trained for so many iterations; or train on while it is written."""
    random.seed(0)  # Python gives every fork another state.
    algorithm = trained_algorithm(job["generation"])
    algorithm.save_state(job["path"], background=job["background"])
    if job["background"]:
        algorithm.train()
        algorithm.wait_for_saves()


def train_run(job: dict[str, Any], report: int) -> None:
    """Begin a run in a folder, or go on with it, to its end."""
    from unison.algorithms.run_folder import RunFolder, TrainingRun

    random.seed(0)
    os.write(report, b"begun\n")
    folder = RunFolder(job["path"])
    if folder.holds_a_run and folder.read_outcome() is not None:
        return  # It was killed when all was done.
    if folder.holds_a_run:
        run = TrainingRun.resume(job["path"])
    else:
        run = TrainingRun(run_config(), job["path"], stop_steps=job["steps"])
    for _ in run:
        pass


@cache
def trained_algorithm(iterations: int) -> Any:
    """An algorithm of small networks; the parent trains it before it forks."""
    algorithm = run_config().build()
    for _ in range(iterations):
        algorithm.train()
    return algorithm


def run_config() -> Any:
    """A run that saves at intervals and at each better evaluation."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from support.runs import tiny_config

    config = tiny_config().env_runners(normalize_rewards=True)
    config.evaluation(evaluation_interval=3, evaluation_duration=2)
    return config.checkpointing(
        checkpoint_interval=2, keep_last=2, keep_best_by="evaluation/episode_return_mean"
    ).reporting(loggers=("jsonl",))


def reset_peak_memory() -> None:
    global _base
    Path("/proc/self/clear_refs").write_text("5")
    _base = memory("VmRSS")


def memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_memory() -> int:
    return memory("VmHWM") - _base


_base = 0
JOBS = {f.__name__: f for f in (write, write_forever, keep, write_large, read_large, save_algorithm, train_run)}


def serve() -> None:
    """Fork for each job; one with `delay` is killed from outside so many seconds after its first report."""
    torch.set_num_threads(1)
    if "algorithm" in sys.argv:  # A larger process takes longer to fork.
        for iterations in (1, 2):
            trained_algorithm(iterations)
    gc.freeze()  # else the forks' collectors touch, and so copy, everything that was imported
    for line in sys.stdin:
        job = json.loads(line)
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(readable)
                run(job, writable)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writable)
        if "delay" in job:
            select.select([readable], [], [])  # until the first report
            time.sleep(job["delay"])
            os.kill(child, signal.SIGKILL)
        with os.fdopen(readable) as reports:
            lines = reports.read().splitlines()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answer = {"killed": killed, "failed": not killed and status != 0, "reports": lines}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
