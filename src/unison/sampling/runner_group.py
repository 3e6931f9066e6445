"""Several env runners in processes of their own, that sample side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from unison.config import AlgorithmConfig
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import ConfigError, LearnerGroupError
from unison.learner_group.failures import WorkerError
from unison.learner_group.transport import Transport
from unison.modules import SingleAgentRLModuleSpec
from unison.sampling.metrics import merge_reports
from unison.sampling.remote_runner import RemoteRunner, Roster
from unison.sampling.runner import Runner
from unison.types import ModuleID

Episode = SingleAgentEpisode | MultiAgentEpisode


@final
class RunnerGroup(Runner):
    """Splits every sample over its runners; a lost runner comes back while the others go on.

    What a lost runner had begun to sample is sampled by those that are left; its running episodes are gone.

    Args:
        config: `num_env_runners`, environments, and how to sample.
        make_transport: makes the transport of each runner.
    """

    def __init__(self, config: AlgorithmConfig, make_transport: Callable[[AlgorithmConfig, int], Transport]) -> None:
        self._config = config
        count = config.num_env_runners
        self._reports: dict[int, tuple[dict[str, Any], int]] = {}
        self._retired: list[tuple[dict[str, Any], int]] = []
        self._reported = {"num_episodes": 0.0, "num_env_steps_sampled": 0.0}
        self._runners: list[RemoteRunner] = []
        self._roster = Roster()
        try:
            for index in range(count):
                self._runners.append(RemoteRunner(make_transport(config, 1), config, index + 1, count, self._roster))
        except BaseException:
            self.stop()
            raise

    @property
    def restarts(self) -> int:
        """How often a runner was started anew."""
        return sum(runner.restarts for runner in self._runners)

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
    ) -> Sequence[Episode]:
        """As `EnvRunner.sample`, all runners together.

        Raises:
            LearnerGroupError: runners were lost more often than `max_env_runner_restarts` allows.
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        if num_timesteps is not None and num_episodes is not None:
            raise ConfigError("sample() takes num_timesteps or num_episodes, not both.")
        name = "num_timesteps" if num_episodes is None else "num_episodes"
        wanted = num_episodes if num_timesteps is None else num_timesteps
        if wanted is None:
            wanted = self._config.train_batch_size
        episodes: list[Episode] = []
        while wanted > 0:
            alive = self._alive()
            shares = [wanted * (i + 1) // len(alive) - wanted * i // len(alive) for i in range(len(alive))]
            options = {"explore": explore, "random_actions": random_actions}
            calls = [
                (r, n, self._begin(r, "sample", {name: n, **options})) for r, n in zip(alive, shares, strict=True) if n
            ]
            for runner, share, call in calls:
                answer = self._gather(runner, call)
                if answer is not None:
                    sampled, metrics, restarts = answer
                    episodes += sampled
                    self._reports[self._runners.index(runner)] = (metrics, restarts)
                    wanted -= share
        return episodes

    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, Any]:
        """Run whole episodes on the first runner that is alive."""
        while True:
            runner = self._alive()[0]
            call = self._begin(runner, "call", "evaluate", num_episodes=num_episodes, explore=explore)
            answer = self._gather(runner, call)
            if answer is not None:
                return answer

    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Give all runners the modules' weights."""
        number = 0 if version is None else version
        for runner in self._runners:
            runner.keep_weights(weights, number)
        self._call_all("set_weights", weights=weights, version=number)

    def add_module(self, *, module_id: ModuleID, module_spec: SingleAgentRLModuleSpec) -> None:
        """Build one more module on all runners, or on none."""
        self._wait_for_all()
        self._roster.added[module_id] = module_spec  # Before the call: a runner that is lost in it comes back with it.
        try:
            self._change_all("ensure_module", module_id, module_spec)
        except BaseException:
            del self._roster.added[module_id]
            self._change_all("drop_module", module_id)
            raise

    def remove_module(self, module_id: ModuleID) -> None:
        """Remove a module from all runners."""
        self._wait_for_all()
        self._change_all("drop_module", module_id)
        if self._roster.added.pop(module_id, None) is None:
            self._roster.removed[module_id] = None

    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping) -> None:
        """Say anew which module acts for which agent, on all runners."""
        self._wait_for_all()
        self._roster.policy_mapping_fn = policy_mapping_fn
        self._call_all("set_policy_mapping_fn", policy_mapping_fn=policy_mapping_fn)

    def get_metrics(self) -> dict[str, Any]:
        """Averages over the last episodes of all runners, and counts since the last call."""
        reports = [*self._retired, *self._reports.values()]
        merged = merge_reports([state for state, _ in reports], self._config.metrics_window)
        for name, before in self._reported.items():
            lifetime = merged[f"{name}_lifetime"]
            merged[name], self._reported[name] = lifetime - before, lifetime
        restarts = float(sum(count for _, count in reports))
        return merged | {"num_environment_restarts": restarts, "num_env_runner_restarts": float(self.restarts)}

    def reset_environments(self) -> None:
        """Abandon the running episodes of all runners."""
        self._call_all("reset_environments")

    def get_state(self) -> dict[str, Any]:
        """The states of all runners, in order, and what was reported."""
        states: dict[int, Any] = {}
        while len(states) < len(self._runners):
            self._wait_for_all()
            states = {i: state for i, state in self._call_all("get_state").items() if state is not None}
        return {"runners": [states[i] for i in range(len(self._runners))], "reported": dict(self._reported)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`; with another number of runners, as many as both have."""
        if "runners" not in state:
            state = {"runners": [state], "reported": self._reported}  # that of a single runner in one process
        for runner, saved in zip(self._runners, state["runners"], strict=False):
            self._gather(runner, self._begin(runner, "call", "set_state", state=saved))
        self._reports = {i: (s["metrics"], s["num_environment_restarts"]) for i, s in enumerate(state["runners"])}
        self._reported = dict(state["reported"])

    def stop(self) -> None:
        """End all processes."""
        for runner in self._runners:
            runner.stop()

    def _alive(self) -> list[RemoteRunner]:
        """The runners that can sample now; if there is none, waits for one."""
        alive = [runner for runner in self._runners if runner.is_alive]
        if not alive:
            self._runners[0].wait()
            return self._alive()
        return alive

    def _wait_for_all(self) -> None:
        for runner in self._runners:
            runner.wait()

    def _change_all(self, method: str, *arguments: Any) -> None:
        calls = [(r, self._begin(r, "change", method, *arguments)) for r in self._alive()]
        for runner, call in calls:
            self._gather(runner, call)

    def _call_all(self, method: str, **arguments: Any) -> dict[int, Any]:
        calls = [(r, self._begin(r, "call", method, **arguments)) for r in self._alive()]
        return {self._runners.index(runner): self._gather(runner, call) for runner, call in calls}

    def _begin(self, runner: RemoteRunner, kind: str, *args: Any, **arguments: Any) -> Any:
        """Begin a call; None if the runner is found lost, and is coming back."""
        try:
            return getattr(runner, kind)(*args, **arguments)
        except WorkerError as error:
            return self._bring_back(runner, error)

    def _gather(self, runner: RemoteRunner, call: Any) -> Any:
        """The result of a call, or None if the runner was lost and is coming back."""
        if call is None:
            return None
        try:
            return runner.gather(call)
        except WorkerError as error:
            return self._bring_back(runner, error)

    def _bring_back(self, runner: RemoteRunner, error: WorkerError) -> None:
        if error.cause.kind == "raised" and error.cause.exception is not None:
            raise error.cause.exception from error
        if self.restarts >= self._config.max_env_runner_restarts:
            raise LearnerGroupError(
                f"Env runners were lost more than {self._config.max_env_runner_restarts} times "
                f"(max_env_runner_restarts). {error}"
            ) from error
        self._retire(self._runners.index(runner))
        runner.rejoin()

    def _retire(self, index: int) -> None:
        """Keep the counts of a runner that is lost; the one in its place counts from 0."""
        if index in self._reports:
            self._retired.append(self._reports.pop(index))
