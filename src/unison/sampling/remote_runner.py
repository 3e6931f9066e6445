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

    It starts in the background; `is_started` tells when it can be called.

    Args:
        transport: not started yet.
        config: the settings of the runner.
        index: which of the run's runners it is.
        roster: the group's, which changes as modules come and go.
    """

    def __init__(self, transport: Transport, config: AlgorithmConfig, index: int, roster: Roster) -> None:
        self.restarts = 0
        self._transport = transport
        self._config = config
        self._roster = roster
        self._weights: dict[str, Any] | None = None
        self._has_weights = True
        self._error: BaseException | None = None
        self._starting = self._start(index)

    @property
    def is_started(self) -> bool:
        """Whether it can be called; False while it starts.

        Raises:
            Exception: what kept it from starting.
        """
        if self._starting.is_alive():
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

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

    def share(self, value: Any) -> Any:
        """What to hand to several runners in place of `value`."""
        return self._transport.share(value)

    def keep_weights(self, weights: Any, version: int) -> None:
        """Remember what to give a runner that comes back."""
        self._weights = {"weights": weights, "version": version}

    def take_due_weights(self) -> dict[str, Any] | None:
        """The arguments of `set_weights`, once, for a runner that has come back without its weights."""
        due = None if self._has_weights else self._weights
        self._has_weights = True
        return due

    def rejoin(self, index: int) -> None:
        """Start anew in the background, as another of the run's runners; environments begin afresh, with its seeds."""
        self.restarts += 1
        self._has_weights = False
        self._starting = self._start(index)

    def wait(self) -> None:
        """Wait until it has started, or failed to."""
        self._starting.join()

    def stop(self) -> None:
        """End the process."""
        self.wait()
        self._transport.stop()

    def _start(self, index: int) -> threading.Thread:
        factory = RunnerFactory(self._config, index, self._roster)

        def start() -> None:
            try:
                self._transport.start(factory, 1)
            except BaseException as error:
                self._error = error

        thread = threading.Thread(target=start, name=f"unison-runner-{index}", daemon=True)
        thread.start()
        return thread
