"""One env runner in a process of its own, that comes back in the background when it is lost."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from unison.config import AlgorithmConfig
from unison.data.multi_agent_episode import PolicyMapping
from unison.learner_group.transport import Call, Transport, WorkerContext
from unison.modules import SingleAgentRLModuleSpec
from unison.sampling.local_runner import LocalRunner
from unison.sampling.local_runners import make_local_runner
from unison.types import ModuleID


@dataclass
class Roster:
    """What has become of the modules since the runners began; a runner that comes back catches up by it.

    Args:
        added: specs of modules that the config does not know, by id.
        removed: modules of the config that are gone.
        policy_mapping_fn: what took the place of the setting.
    """

    added: dict[ModuleID, SingleAgentRLModuleSpec] = field(default_factory=dict[ModuleID, SingleAgentRLModuleSpec])
    removed: dict[ModuleID, None] = field(default_factory=dict[ModuleID, None])
    policy_mapping_fn: PolicyMapping | None = None

    def apply(self, runner: LocalRunner) -> None:
        """Give a new runner these modules."""
        for module_id in self.removed:
            runner.remove_module(module_id)
        for module_id, spec in self.added.items():
            runner.add_module(module_id=module_id, module_spec=spec)
        if self.policy_mapping_fn is not None:
            runner.set_policy_mapping_fn(self.policy_mapping_fn)


@dataclass
class RunnerFactory:
    """Makes the env runner of a worker.

    Args:
        config: environments, and how to sample.
        worker_index: which of the run's runners it is; a new one after a loss gets a new index, and so new seeds.
        roster: what has become of the modules.
    """

    config: AlgorithmConfig
    worker_index: int
    roster: Roster

    def __call__(self, context: WorkerContext) -> "RunnerWorker":
        """The runner."""
        runner = make_local_runner(self.config, worker_index=self.worker_index)
        self.roster.apply(runner)
        return RunnerWorker(runner)


@final
class RunnerWorker:
    """The methods that a RunnerGroup calls by name."""

    def __init__(self, runner: LocalRunner) -> None:
        self._runner = runner

    def sample(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any], int]:
        """The episodes, the state of the metrics, and how many environments have been made anew."""
        episodes = self._runner.sample(**arguments)
        state = self._runner.get_state()
        return episodes, state["metrics"], state["num_environment_restarts"]

    def ensure_module(self, module_id: ModuleID, module_spec: SingleAgentRLModuleSpec) -> None:
        """Add a module, unless it is there already."""
        if module_id not in self._runner.modules:
            self._runner.add_module(module_id=module_id, module_spec=module_spec)

    def drop_module(self, module_id: ModuleID) -> None:
        """Remove a module, unless it is gone already."""
        if module_id in self._runner.modules:
            self._runner.remove_module(module_id)

    def call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """A method of the runner by name."""
        return getattr(self._runner, method)(**arguments)


@final
class RemoteRunner:
    """A transport with one worker: it fails, and is started anew, without the others.

    Args:
        transport: not started yet.
        config: the settings of the runner.
        index: which of the run's runners it is.
        stride: what is added to the index for each new start; the number of runners.
        roster: the group's, which changes as modules come and go.
    """

    def __init__(self, transport: Transport, config: AlgorithmConfig, index: int, stride: int, roster: Roster) -> None:
        self.restarts = 0
        self._transport = transport
        self._config = config
        self._roster = roster
        self._index, self._stride = index, stride
        self._weights: tuple[Mapping[ModuleID, Any], int] | None = None
        self._rejoining: threading.Thread | None = None
        self._error: BaseException | None = None
        transport.start(RunnerFactory(config, index, roster), 1)

    @property
    def is_alive(self) -> bool:
        """Whether it can be called; False while it comes back.

        Raises:
            Exception: what kept it from coming back.
        """
        if self._rejoining is not None and not self._rejoining.is_alive():
            self._rejoining = None
            if self._error is not None:
                raise self._error
            if self._weights is not None:
                weights, version = self._weights
                self.gather(self.call("set_weights", weights=weights, version=version))
        return self._rejoining is None

    def sample(self, arguments: Mapping[str, Any]) -> Call:
        """Begin to sample."""
        return self._transport.call("sample", arguments)

    def call(self, method: str, **arguments: Any) -> Call:
        """Begin a method of the runner."""
        return self._transport.call("call", method, arguments)

    def change(self, method: str, *arguments: Any) -> Call:
        """Begin `ensure_module` or `drop_module`."""
        return self._transport.call(method, *arguments)

    def gather(self, call: Call) -> Any:
        """The result of a call."""
        return self._transport.gather(call, timeout=self._config.learner_timeout_s)[0]

    def keep_weights(self, weights: Mapping[ModuleID, Any], version: int) -> None:
        """Remember what to give a runner that comes back."""
        self._weights = (weights, version)

    def rejoin(self) -> None:
        """Start anew in the background; environments begin afresh, with new seeds."""
        self.restarts += 1
        factory = RunnerFactory(self._config, self._index + self.restarts * self._stride, self._roster)

        def start() -> None:
            try:
                self._transport.start(factory, 1)
            except BaseException as error:
                self._error = error

        self._rejoining = threading.Thread(target=start, name=f"unison-runner-{self._index}", daemon=True)
        self._rejoining.start()

    def wait(self) -> None:
        """Wait until it has come back."""
        if self._rejoining is not None:
            self._rejoining.join()

    def stop(self) -> None:
        """End the process."""
        self.wait()
        self._transport.stop()
