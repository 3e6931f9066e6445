"""Several env runners in processes of their own, that sample side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, final

from unison.config import AlgorithmConfig
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import LearnerGroupError
from unison.learner_group.failures import WorkerError
from unison.learner_group.recovery import original
from unison.learner_group.transport import Call, Transport
from unison.modules import SingleAgentRLModuleSpec
from unison.sampling.amounts import amount_to_sample
from unison.sampling.metrics import merge_reports, without_module, without_steps
from unison.sampling.quota import even_shares
from unison.sampling.redistribution import check_parts, redistribute, worker_index_of
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
        self._reported = {"num_episodes": 0, "num_env_steps_sampled": 0}
        self._runners: list[RemoteRunner] = []
        self._last_index = count
        self._roster = Roster()
        try:
            for index in range(count):
                self._runners.append(RemoteRunner(make_transport(config, 1), config, index + 1, self._roster))
            for runner in self._runners:
                runner.wait()
                assert runner.is_started  # or raises what kept it from starting
        except BaseException as error:
            self.stop()
            if isinstance(error, WorkerError) and error.cause.kind == "raised":
                raise original(error) from error
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
            ConfigError: both numbers were given, or one that is not whole and positive.
            LearnerGroupError: runners were lost more often than `max_env_runner_restarts` allows.
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        num_envs = self._config.num_envs_per_env_runner
        name, wanted = amount_to_sample(
            self._config, num_timesteps, num_episodes, num_envs=num_envs, num_runners=len(self._runners)
        )
        options = {"explore": explore, "random_actions": random_actions}
        episodes: list[Episode] = []
        try:
            while wanted > 0:
                wanted -= self._sample_once(episodes, name, wanted, options)
        except BaseException:  # Nobody gets what the others have sampled.
            if episodes:
                self._retired.append((without_steps(sum(len(episode) for episode in episodes)), 0))
            raise
        return episodes

    def _sample_once(self, episodes: list[Episode], name: str, wanted: int, options: Mapping[str, Any]) -> int:
        """Add what the runners that are there sample of `wanted` steps or episodes; how many that makes."""
        alive = self._alive()
        shares = [(r, share) for r, share in zip(alive, even_shares(wanted, len(alive)), strict=True) if share]
        answers, errors = self._call_each([(r, partial(r.sample, {name: n, **options})) for r, n in shares])
        sampled = 0
        for (runner, share), answer in zip(shares, answers, strict=True):
            if answer is not None:
                own, metrics, restarts = answer
                episodes += own
                self._reports[self._runners.index(runner)] = (metrics, restarts)
                sampled += share
        if errors:
            raise errors[0]
        return sampled

    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, Any]:
        """Run whole episodes on the first runner that is alive."""
        while True:
            runner = self._alive()[0]
            (answer,) = self._on([runner], "call", "evaluate", num_episodes=num_episodes, explore=explore)
            if answer is not None:
                return answer

    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Give all runners the modules' weights."""
        number = 0 if version is None else version
        shared = self._alive()[0].share(weights)
        for runner in self._runners:
            runner.keep_weights(shared, number)
        self._on(self._alive(), "call", "set_weights", weights=shared, version=number)

    def add_module(self, *, module_id: ModuleID, module_spec: SingleAgentRLModuleSpec) -> None:
        """Build one more module on all runners, or on none."""
        self._wait_for_all()
        self._roster.added[module_id] = module_spec  # Before the call: a runner that is lost in it comes back with it.
        try:
            self._on(self._alive(), "change", "ensure_module", module_id, module_spec)
        except BaseException:
            del self._roster.added[module_id]
            self._on(self._alive(), "change", "drop_module", module_id)
            raise

    def remove_module(self, module_id: ModuleID) -> None:
        """Remove a module from all runners."""
        self._wait_for_all()
        if self._roster.added.pop(module_id, None) is None:  # Before the call, as in add_module.
            self._roster.removed[module_id] = None
        self._on(self._alive(), "change", "drop_module", module_id)
        self._retired = [(without_module(metrics, module_id), restarts) for metrics, restarts in self._retired]

    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping | None) -> None:
        """Say anew which module acts for which agent, on all runners."""
        self._wait_for_all()
        self._roster.policy_mapping_fn = policy_mapping_fn
        self._on(self._alive(), "call", "set_policy_mapping_fn", policy_mapping_fn=policy_mapping_fn)

    def get_metrics(self) -> dict[str, Any]:
        """Averages over the last episodes of all runners, and counts since the last call."""
        present, retired = ([state for state, _ in reports] for reports in (self._reports.values(), self._retired))
        merged = merge_reports(present, self._config.metrics_window, self._reported, retired)
        self._reported = {name: merged[f"{name}_lifetime"] for name in self._reported}
        restarts = sum(count for _, count in (*self._reports.values(), *self._retired))
        return merged | {"num_environment_restarts": restarts, "num_env_runner_restarts": self.restarts}

    def reset_environments(self) -> None:
        """Abandon the running episodes of all runners."""
        self._on(self._alive(), "call", "reset_environments")

    def get_state(self) -> dict[str, Any]:
        """The states of all runners, in order, the counts of those that are gone, and what was reported."""
        states = [self._insist(runner, "get_state") for runner in self._runners]
        retired = [{"metrics": metrics, "num_environment_restarts": count} for metrics, count in self._retired]
        return {"runners": states, "retired": retired, "reported": dict(self._reported)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`; see `redistribute` for another number of runners.

        Raises:
            StateError: the state lacks a part.
        """
        fresh = [self._insist(runner, "get_state") for runner in self._runners]
        check_parts(state.get("runners", [state]), fresh[0])
        if "runners" not in state:
            state = {
                "runners": [state],
                "reported": _reported_by(state["metrics"]),
            }  # of a single runner in one process
        states = redistribute(state["runners"], fresh)
        self._last_index = max(self._last_index, *map(worker_index_of, (*states, *state["runners"])))
        for runner, saved in zip(self._runners, states, strict=True):
            self._insist(runner, "set_state", state=saved)
        saved_reports = [
            (s["metrics"], s["num_environment_restarts"]) for s in (*state["runners"], *state.get("retired", ()))
        ]
        present = min(len(self._runners), len(state["runners"]))
        self._reports, self._retired = dict(enumerate(saved_reports[:present])), saved_reports[present:]
        self._reported = dict(state["reported"])

    def stop(self) -> None:
        """End all processes."""
        for runner in self._runners:
            runner.stop()

    def _alive(self) -> list[RemoteRunner]:
        """The runners that can sample now; if there is none, waits for one."""
        while True:
            alive = [runner for runner in self._runners if self._is_ready(runner)]
            if alive:
                return alive
            self._runners[0].wait()

    def _is_ready(self, runner: RemoteRunner) -> bool:
        """Whether a runner can be called; one that has come back gets its weights first."""
        try:
            if not runner.is_started:
                return False
            weights = runner.take_due_weights()
            if weights is not None:
                runner.gather(runner.call("set_weights", **weights))
        except WorkerError as error:
            self._bring_back(runner, error)
            return False
        return True

    def _insist(self, runner: RemoteRunner, method: str, **arguments: Any) -> Any:
        """Call a method of one runner, again if it is lost meanwhile, once it has come back."""
        while True:
            runner.wait()
            if self._is_ready(runner):
                restarts = runner.restarts
                (answer,) = self._on([runner], "call", method, **arguments)
                if runner.restarts == restarts:
                    return answer

    def _wait_for_all(self) -> None:
        for runner in self._runners:
            runner.wait()

    def _on(self, runners: Sequence[RemoteRunner], kind: str, *args: Any, **arguments: Any) -> list[Any]:
        """Do the same with several runners; the results, None for those that were lost. Raises the first error."""
        answers, errors = self._call_each([(r, partial(getattr(r, kind), *args, **arguments)) for r in runners])
        if errors:
            raise errors[0]
        return answers

    def _call_each(self, calls: Sequence[tuple[RemoteRunner, Callable[[], Call]]]) -> tuple[list[Any], list[Exception]]:
        """Begin calls side by side and gather them all, also where one raises: else the next would seem to have failed.

        Returns:
            The results, None for runners that were lost and are coming back or that raised; and what was raised.
        """
        errors: list[Exception] = []

        def attempt(runner: RemoteRunner, act: Callable[[], Any]) -> Any:
            try:
                try:
                    return act()
                except WorkerError as error:
                    self._bring_back(runner, error)
            except Exception as error:
                errors.append(error)

        begun = [(runner, attempt(runner, begin)) for runner, begin in calls]
        answers = [call and attempt(runner, partial(runner.gather, call)) for runner, call in begun]
        return answers, errors

    def _bring_back(self, runner: RemoteRunner, error: WorkerError) -> None:
        if error.cause.kind == "raised":
            raise original(error) from error
        if self.restarts >= self._config.max_env_runner_restarts:
            raise LearnerGroupError(
                f"Env runners were lost more than {self._config.max_env_runner_restarts} times "
                f"(max_env_runner_restarts). {error}"
            ) from error
        index = self._runners.index(runner)
        if index in self._reports:  # Its counts stay; the one in its place counts from 0.
            self._retired.append(self._reports.pop(index))
        self._last_index += 1
        runner.rejoin(self._last_index)


def _reported_by(metrics: Mapping[str, Any]) -> dict[str, int]:
    """What a single runner has reported of its counts; the rest it had still to report."""
    return {
        "num_episodes": metrics["num_episodes_lifetime"] - metrics["num_episodes"],
        "num_env_steps_sampled": metrics["num_env_steps_lifetime"] - metrics["num_env_steps"],
    }
