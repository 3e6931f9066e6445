"""Contenders: each a process in its own interpreter, pinned, kept alive, and run in turn."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from harness.machine import pin
from harness.options import ENGINES

SCRIPTS = Path(__file__).parents[1] / "peers"
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Entry:
    """Who takes part: a name, the script that serves it, and the folder of its interpreter below `--peers`."""

    name: str
    script: str
    interpreter: str | None = None
    """None: the interpreter that runs the benchmark."""
    arguments: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What it does differently from the work of the others."""

    def find_python(self, peers: Path | None) -> Path | None:
        """Its interpreter, if it is there."""
        if self.interpreter is None:
            return Path(sys.executable)
        python = peers / self.interpreter / "bin" / "python" if peers else None
        return python if python is not None and python.exists() else None


PEERS = (
    Entry("bare loop", "loop.py", "torch"),
    Entry("SB3", "sb3.py", "torch"),
    Entry("TorchRL", "torchrl_peer.py", "torch"),
    Entry("RLlib", "rllib.py", "rllib"),
    Entry("pure JAX", "jax_peer.py", "torch"),
)


def unison_entries(engines: Sequence[str]) -> list[Entry]:
    """Unison with each of these engines."""
    return [Entry(f"unison {engine}", "unison_peer.py", None, (engine,)) for engine in engines]


class Contender:
    """A running contender.

    Args:
        entry: who.
        python: its interpreter.
        cores: where it runs.
        log: takes what its libraries print.
    """

    def __init__(self, entry: Entry, python: Path, cores: Sequence[int], log: IO[bytes]) -> None:
        self.name, self._changes = entry.name, dict(entry.changes)
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [str(python), str(SCRIPTS / entry.script), *entry.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
            bufsize=1,
            preexec_fn=partial(pin, list(cores)),
        )

    def build(self, work: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare this work and warm up."""
        return self.ask({"do": "build", "work": {**work, **self._changes}})

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer; `{"error": ...}` also where it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"the process ended with {self._process.wait()}"}

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Measured:
    """What one contender took for one work.

    Attributes:
        seconds: of an update, one entry for each repeat.
        cpu_seconds: of its processor time, which a busy machine disturbs less.
        built: what it said when it was built.
    """

    built: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median time of an update."""
        return statistics.median(self.seconds)


def ratio(slower: Measured, faster: Measured) -> float:
    """How many times as long the first takes: the median of the ratios of each repeat."""
    return statistics.median(a / b for a, b in zip(slower.seconds, faster.seconds, strict=True))


def cpu_ratio(slower: Measured, faster: Measured) -> float:
    """The same of processor time."""
    return statistics.median(a / b for a, b in zip(slower.cpu_seconds, faster.cpu_seconds, strict=True))


class Field:
    """All contenders of a benchmark.

    Args:
        entries: who is to take part; those without an interpreter are left out.
        peers: the folder of interpreters, made by `setup_peers.sh`.
        cores: where each of them runs.
        log: a file for what they print.
    """

    def __init__(self, entries: Sequence[Entry], peers: Path | None, cores: Sequence[int], log: IO[bytes]) -> None:
        self.missing: dict[str, str] = {}
        """Who does not take part, and why."""
        self._contenders: list[Contender] = []
        for entry in entries:
            python = entry.find_python(peers)
            if python is None:
                self.missing[entry.name] = "not installed: benchmarks/setup_peers.sh DIR, then --peers DIR"
            else:
                self._contenders.append(Contender(entry, python, cores, log))

    def compare(self, work: Mapping[str, Any], repeats: int) -> dict[str, Measured]:
        """Build the work in every contender, then run them in turn; who can't is noted in `missing`."""
        measured: dict[str, Measured] = {}
        taking_part: list[Contender] = []
        for contender in self._contenders:
            answer = contender.build(work)
            refused = answer.get("error") or _refusal(contender.name, answer)
            if refused:
                self.missing[contender.name] = refused
                continue
            measured[contender.name] = Measured(answer)
            taking_part.append(contender)
        for turn in range(repeats):
            shift = turn % max(1, len(taking_part))
            for contender in [*taking_part[shift:], *taking_part[:shift]]:
                answer = contender.ask({"do": "run"})
                if "error" in answer:
                    raise RuntimeError(f"{contender.name}: {answer['error']}")
                measured[contender.name].seconds.append(answer["seconds"])
                measured[contender.name].cpu_seconds.append(answer["cpu_seconds"])
        return measured

    def stop(self) -> None:
        """End all."""
        for contender in self._contenders:
            contender.stop()


def _refusal(name: str, answer: Mapping[str, Any]) -> str | None:
    """Why a Unison entry ran with another engine than it was to."""
    wanted = name.removeprefix("unison ") if name.startswith("unison ") else None
    ran = answer.get("said", {}).get("engine")
    if wanted not in ENGINES or wanted == "auto" or ran in (None, wanted):
        return None
    return f"ran with the engine {ran} instead: {answer['said'].get('engine_reason', 'it is not built yet')}"
