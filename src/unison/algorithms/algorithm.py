"""The loop around the Learners: sample, update, evaluate, save."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from unison.algorithms.acting import Actor
from unison.algorithms.checkpoints import check_family, check_is_whole, describe, read_config, read_mapping, read_whole
from unison.algorithms.population import Population
from unison.checkpoint import BackgroundWriter, check_like, check_rng, restore_rng
from unison.config import AlgorithmConfig
from unison.errors import NotBuiltError
from unison.learner.learner_state import SettingsSource
from unison.learner.loading import LoadOptions, take_over
from unison.learner_group import LearnerGroup
from unison.modules import RLModule
from unison.sampling import LocalRunner, Runner, make_local_runner, make_runner
from unison.types import ModuleID, Tree

NUM_ENV_STEPS_SAMPLED_LIFETIME = "num_env_steps_sampled_lifetime"


class Part(Protocol):
    """Something whose state is a part of an Algorithm's checkpoint; a state of None is one that was not saved."""

    def get_state(self) -> Any:
        """What to go on from."""
        ...

    def check_state(self, state: Any) -> None:
        """Raise what `set_state` would, and change nothing."""
        ...

    def set_state(self, state: Any) -> None:
        """Go on from a state of `get_state`."""
        ...


class Algorithm(Population, ABC):
    """Trains the modules of a config; `config.build()` makes one.

    A subclass writes `training_step`.

    Args:
        config: the settings; frozen from here on.
    """

    def __init__(self, *, config: AlgorithmConfig) -> None:
        self.config = config if config.is_frozen else config.copy().freeze()
        self.iteration = 0
        self.num_env_steps_sampled_lifetime: int = 0
        self.time_total_s = 0.0
        self.timers: dict[str, float] = {}
        """Seconds of this iteration, by phase."""
        self.parts: dict[str, Part] = {}
        """What else a checkpoint holds, by the name of its part."""
        self._stopped = False
        with ExitStack() as begun:  # What was begun ends if the rest fails.
            self.learner_group: LearnerGroup = self.config.build_learner_group()
            begun.callback(self.learner_group.shutdown)
            self.env_runner: Runner = make_runner(self.config)
            begun.callback(self.env_runner.stop)
            self._writer = BackgroundWriter()
            begun.callback(self._writer.close)
            self.sync_weights()
            begun.pop_all()

    @abstractmethod
    def training_step(self) -> dict[ModuleID, dict[str, Any]]:
        """Sample and update once; returns the Learners' results."""

    def train(self) -> dict[str, Any]:
        """One iteration: a training step, and an evaluation where `evaluation_interval` says so.

        Returns:
            "env_runners", "learners" and (if it ran) "evaluation" with their metrics;
            "training_iteration", "num_env_steps_sampled_lifetime", "env_steps_per_second",
            "time_total_s", and "timers" with the seconds of each phase.
        """
        self._check_is_running()
        start = time.perf_counter()
        steps_before = self.num_env_steps_sampled_lifetime
        self.timers = {}
        learners = self.training_step()
        self.iteration += 1
        trained = time.perf_counter() - start
        results: dict[str, Any] = {
            "training_iteration": self.iteration,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
            "env_runners": self.env_runner.get_metrics(),
            "learners": learners,
            "env_steps_per_second": (self.num_env_steps_sampled_lifetime - steps_before) / trained,
        }
        interval = self.config.evaluation_interval
        if interval and self.iteration % interval == 0:
            with self.timed("evaluate_s"):
                results["evaluation"] = self.evaluate()
        self.time_total_s += time.perf_counter() - start
        return {**results, "time_total_s": self.time_total_s, "timers": dict(self.timers)}

    def evaluate(self, num_episodes: int | None = None) -> dict[str, Any]:
        """Run whole episodes on environments of their own, by default with the deterministic policy.

        Returns:
            episode_return_mean, _min and _max, episode_len_mean, num_episodes, num_env_steps_sampled.
        """
        return self._get_evaluator().evaluate(num_episodes)

    def compute_actions(
        self, observations: Tree, *, state: Tree = None, explore: bool = False, module_id: ModuleID | None = None
    ) -> Any:
        """The actions, as the environment takes them, for one observation or a batch of them.

        Args:
            observations: one that fits the observation space, or many with rows first.
            state: the state that the last call returned, for stateful modules, which stays as it is; None at an
                episode's start.
            explore: whether actions are drawn from the policy's distribution.
            module_id: whose actions, where there are several modules.

        Returns:
            The action or actions; for a stateful module, a pair of them and the next state.

        Raises:
            BatchError: the observations do not fit the space, or the state is one of other rows or of another kind.
            ModuleError: there is no such module, or there are several and none is named.
        """
        return Actor(self._get_evaluator(), module_id).act(observations, state, explore=explore)

    def save_state(
        self,
        path: str | Path,
        *,
        results: Mapping[str, Any] | None = None,
        background: bool = False,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Write everything that training goes on from to a checkpoint directory.

        Environments can't be saved: running episodes are abandoned, here as after loading, so that the run
        that goes on and the one that is resumed continue alike.

        Args:
            path: the directory; a checkpoint that is there already is replaced.
            results: plain results that stand in the manifest; a `CheckpointKeeper` finds the best by them.
            background: return as soon as everything is copied to host memory; a thread writes it while training
                goes on. The next save, `wait_for_saves`, `load_state` and `stop` wait for it, and raise what befell it.
            then: called once the checkpoint is whole, in the background on the writing thread.

        Raises:
            CheckpointError: this save, or the one before it in the background, failed; what was there before is
                untouched.
        """
        self._check_is_running()
        self._writer.wait()
        self.env_runner.reset_environments()
        parts, metadata = describe(self, results or {})
        self._writer.write(path, parts, metadata, copy=False, then=then)
        if not background:
            self._writer.wait()

    def wait_for_saves(self) -> None:
        """Wait until what is saved in the background is on the disk.

        Raises:
            CheckpointError: it could not be written.
        """
        self._writer.wait()

    def load_state(
        self,
        path: str | Path,
        *,
        settings: SettingsSource = "checkpoint",
        module_classes: Mapping[ModuleID, type[RLModule]] | None = None,
    ) -> dict[str, tuple[Any, Any]]:
        """Go on from a checkpoint that `save_state` wrote, wholly or (on an error) not at all.

        See Learner.load_state for `settings`, `module_classes`, what returns and what is raised. A checkpoint of
        another algorithm raises CheckpointError.
        """
        self._check_is_running()
        self._writer.wait()
        checkpoint = read_whole(path)
        check_family(path, checkpoint.metadata["config"]["algorithm_name"], type(self))
        parts = checkpoint.parts
        self.env_runner.check_state(parts["env_runner"])
        check_like(parts["algorithm"], self.get_progress(), "The state of the Algorithm")
        check_rng(parts["rng"])
        for name, part in self.parts.items():
            part.check_state(parts.get(name))
        options = LoadOptions(settings, module_classes=module_classes)
        mapping = read_mapping(path, checkpoint.metadata, self.policy_mapping_fn)
        before = self.module_ids
        with self._evaluator_like(parts["evaluator"]) as evaluator:
            differences = take_over(self.learner_group, path, checkpoint, options)
            self.policy_mapping_fn = mapping
            for runner in {id(r): r for r in (*self._runners(), evaluator) if r is not None}.values():
                self._bring_up_to_date(runner, before)
            self._replace_evaluator(evaluator, parts["evaluator"])
        self.env_runner.set_state(parts["env_runner"])
        self.set_progress(parts["algorithm"])
        for name, part in self.parts.items():
            part.set_state(parts.get(name))
        self.modules_changed()
        self.sync_weights()
        restore_rng(parts["rng"])
        return differences

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, overrides: Mapping[str, Any] | None = None) -> Self:
        """A new Algorithm from a checkpoint, with its config.

        Args:
            path: what `save_state` wrote.
            overrides: settings that replace the checkpoint's, for what can't be stored (functions without a
                name) or is to differ.

        Raises:
            CheckpointError: it is damaged, not an Algorithm's, or of another algorithm than this class.
        """
        check_is_whole(path)
        config = read_config(path, overrides)
        found = check_family(path, config.algorithm_name, cls)
        is_own = found is not None and issubclass(cls, found)  # A subclass need not have a name of its own.
        algorithm: Any = cls(config=config) if is_own else config.build()
        with ExitStack() as begun:
            begun.callback(algorithm.stop)
            algorithm.load_state(path)
            begun.pop_all()
        return algorithm

    def stop(self) -> None:
        """Stop Learners and environments, and wait for saves; a second call does nothing.

        Raises:
            CheckpointError: a save in the background failed.
        """
        if self._stopped:
            return
        self._stopped = True
        with ExitStack() as stack:  # The rest is stopped even if one of them raises.
            stack.callback(self._writer.close)
            stack.callback(self.learner_group.shutdown)
            for runner in reversed(self._runners()):
                stack.callback(runner.stop)

    # --- for subclasses ---

    def sync_weights(self) -> None:
        """Give the sampling modules the Learners' weights."""
        local = self.learner_group.local_module
        if local is not None and isinstance(self.env_runner, LocalRunner):
            self.env_runner.copy_weights(local, self.learner_group.weights_version)
            return
        weights = self.learner_group.get_weights(inference_only=True)
        self.env_runner.set_weights(weights, version=weights.version)

    def timed(self, phase: str) -> "_Timer":
        """Add the seconds of a `with` block to `timers`."""
        return _Timer(self.timers, phase)

    def get_progress(self) -> dict[str, Any]:
        """Counters and whatever else a subclass goes on from; its own beside these."""
        return {
            "iteration": self.iteration,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime,
            "time_total_s": self.time_total_s,
        }

    def set_progress(self, progress: Mapping[str, Any]) -> None:
        """Take over what `get_progress` returned."""
        self.iteration = progress["iteration"]
        self.num_env_steps_sampled_lifetime = progress[NUM_ENV_STEPS_SAMPLED_LIFETIME]
        self.time_total_s = progress["time_total_s"]

    def get_sampling_state(self) -> dict[str, Any]:
        """The states of the env runner and the evaluator."""
        evaluator = None if self._evaluator is None else self._evaluator.get_state()
        return {"env_runner": self.env_runner.get_state(), "evaluator": evaluator}

    @contextmanager
    def _evaluator_like(self, state: Mapping[str, Any] | None) -> Generator[LocalRunner | None]:
        """The evaluator that a saved state fits; one that is made for it is stopped if what is done with it fails."""
        evaluator = None if state is None else self._evaluator or self._make_evaluator()
        try:
            if evaluator is not None and state is not None:
                evaluator.check_state(state)
            yield evaluator
        except BaseException:
            if evaluator is not None and evaluator is not self._evaluator:
                evaluator.stop()
            raise

    def _replace_evaluator(self, evaluator: LocalRunner | None, state: Mapping[str, Any] | None) -> None:
        """Put an evaluator in the place of the present one, in this state; None: nothing was evaluated yet."""
        if self._evaluator is not None and evaluator is not self._evaluator:
            self._evaluator.stop()
        self._evaluator = evaluator
        if evaluator is not None and state is not None:
            evaluator.set_state(state)

    def _make_evaluator(self) -> LocalRunner:
        evaluator = make_local_runner(self.config, evaluation=True)
        self._bring_up_to_date(evaluator, list(evaluator.modules))
        return evaluator

    def _get_evaluator(self) -> LocalRunner:
        """The runner for evaluation, in this process, with the Learners' weights."""
        self._check_is_running()
        if self._evaluator is None:
            self._evaluator = self._make_evaluator()
        version = self.learner_group.weights_version
        if self._evaluator.weights_version != version:
            weights = self.learner_group.get_weights(inference_only=True)
            self._evaluator.set_weights(weights, version=version)
        return self._evaluator

    def _check_is_running(self) -> None:
        if self._stopped:
            raise NotBuiltError(f"This {type(self).__name__} was stopped; build a new one, or load its checkpoint.")


class _Timer:
    def __init__(self, timers: dict[str, float], phase: str) -> None:
        self._timers, self._phase = timers, phase

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        self._timers[self._phase] = self._timers.get(self._phase, 0.0) + seconds
