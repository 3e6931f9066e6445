"""Contenders: each a process in its own interpreter, pinned and kept alive; they run in turn, the others stopped."""

import json
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from harness.family import Family
from harness.options import ENGINES
from harness.ratios import median_ratio

SCRIPTS = Path(__file__).parents[1] / "peers"
SETTLE_S = 0.5
"""From when a contender's processes go on to its turn."""


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
    """A contender whose processes run while it is asked something, and are stopped otherwise.

    Else what they do by themselves, such as the threads of an idle cluster, would take time from whose turn it is.

    Args:
        entry: who.
        python: its interpreter.
        cores: where it runs.
        log: takes what its libraries print.
    """

    def __init__(self, entry: Entry, python: Path, cores: Sequence[int], log: IO[bytes]) -> None:
        self.name, self._changes = entry.name, dict(entry.changes)
        self._family = Family([str(python), str(SCRIPTS / entry.script), *entry.arguments], cores, log)

    def rest(self) -> None:
        """Wait for its turn, stopped."""
        self._family.freeze()

    def build(self, work: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare this work and warm up."""
        return self._ask({"do": "build", "work": {**work, **self._changes}})

    def run(self) -> dict[str, Any]:
        """Run it, after what its processes have to catch up with and a run that does not count."""
        return self._ask({"do": "run"}, settle=True)

    def _ask(self, request: Mapping[str, Any], *, settle: bool = False) -> dict[str, Any]:
        """Its answer; `{"error": ...}` also where it has died."""
        self._family.thaw()
        try:
            if settle:
                time.sleep(SETTLE_S)
                self._exchange(request)
            return self._exchange(request)
        finally:
            self.rest()

    def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._family.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"the process ended with {process.wait()}"}

    def stop(self, patience_s: float) -> None:
        """End it, within this time in order."""
        self._family.end(patience_s)


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


class Timed(Protocol):
    """What was timed round by round."""

    seconds: list[float]
    cpu_seconds: list[float]


def ratio(slower: Timed, faster: Timed) -> float:
    """How many times as long the first takes: the median of the ratios of each repeat."""
    return median_ratio(slower.seconds, faster.seconds)


def cpu_ratio(slower: Timed, faster: Timed) -> float:
    """The same of processor time."""
    return median_ratio(slower.cpu_seconds, faster.cpu_seconds)


class Field:
    """All contenders of a benchmark; they are there inside `with`.

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
        self._commands: list[tuple[Entry, Path]] = []
        for entry in entries:
            python = entry.find_python(peers)
            if python is None:
                self.missing[entry.name] = "not installed: benchmarks/setup_peers.sh DIR, then --peers DIR"
            else:
                self._commands.append((entry, python))
        self._cores, self._log = cores, log

    def __enter__(self) -> "Field":
        signal.signal(signal.SIGTERM, _exit)
        try:
            for entry, python in self._commands:
                self._contenders.append(Contender(entry, python, self._cores, self._log))
                self._contenders[-1].rest()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """End all, each whatever befalls the others."""
        with ExitStack() as stack:
            for contender in self._contenders:
                stack.callback(contender.stop, 2.0 if failed else 20.0)

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
                answer = contender.run()
                if "error" in answer:
                    raise RuntimeError(f"{contender.name}: {answer['error']}")
                measured[contender.name].seconds.append(answer["seconds"])
                measured[contender.name].cpu_seconds.append(answer["cpu_seconds"])
        return measured


def _exit(*_: object) -> NoReturn:
    """SIGTERM ends a benchmark as Ctrl-C does: not without its contenders, which may be stopped."""
    sys.exit(128 + signal.SIGTERM)


def _refusal(name: str, answer: Mapping[str, Any]) -> str | None:
    """Why a Unison entry ran with another engine than it was to."""
    wanted = name.removeprefix("unison ") if name.startswith("unison ") else None
    ran = answer.get("said", {}).get("engine")
    if wanted not in ENGINES or wanted == "auto" or ran in (None, wanted):
        return None
    return f"ran with the engine {ran} instead: {answer['said'].get('engine_reason', 'it is not built yet')}"
