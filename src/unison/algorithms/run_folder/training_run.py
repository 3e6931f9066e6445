"""One training run: an algorithm, trained until it may stop, with everything kept in a folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast, final

from unison.algorithms.algorithm import Algorithm
from unison.algorithms.run_folder.best_by import is_measured
from unison.algorithms.run_folder.extras import is_installed
from unison.algorithms.run_folder.folder import RunFolder
from unison.algorithms.run_folder.interrupts import Interrupts
from unison.algorithms.run_folder.loggers import MetricsLogger, check_loggers, open_loggers
from unison.algorithms.run_folder.progress import Progress, Speedometer
from unison.algorithms.run_folder.rows import flatten, plain
from unison.algorithms.run_folder.stopping import Outcome, StopConditions, StopReason
from unison.checkpoint import RESULTS, CheckpointKeeper, read_manifest
from unison.config import AlgorithmConfig
from unison.errors import CheckpointError, ConfigError, NotBuiltError
from unison.types import ModuleID

CONFIRMATION_EPISODES = 20
"""An evaluation that reaches the goal is confirmed over at least as many new episodes."""
_STEPS_BETWEEN_EVALUATIONS = 10_000


@final
class TrainingRun:
    """Trains an algorithm in a folder of its own; iterate over it, and it trains.

        run = TrainingRun(PPOConfig().environment("CartPole-v1"), "runs/cartpole", stop_return=475, stop_steps=200_000)
        for progress in run:
            print(progress.env_steps, progress.evaluation_return)
        print(run.outcome.sentence())

    Evaluation and checkpoints come as the config says; a `stop_return` without `evaluation_interval` sets
    one of about 10,000 environment steps. Ctrl-C and SIGTERM end the run after the iteration under way,
    with a checkpoint; a second one at once. Leaving the loop early ends the run without a checkpoint.

    Args:
        config: what to train.
        out: the folder, absent or empty.
        stop_return: see StopConditions.
        stop_steps: see StopConditions.
        goes_on: whether `out` holds this run already and its last whole checkpoint is gone on from; see `resume`.
        on_interrupt: called when the run is asked to end.

    Raises:
        ConfigError: the folder holds something, the run to go on with has ended and `stop_return` and `stop_steps` are
            no new goal, a setting is out of range, or `keep_best_by` names no result.
        MissingExtraError: a logger's package is not installed.
        CheckpointError: the run to go on with has ended, and left no whole checkpoint.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        out: str | Path,
        *,
        stop_return: float | None = None,
        stop_steps: int | None = None,
        goes_on: bool = False,
        on_interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.stop = StopConditions(stop_return, stop_steps)
        self.folder = RunFolder(out)
        self.config = _with_evaluation(config, self.stop)
        check_loggers(self.config.loggers)
        self.resumed_from: Path | None = None
        """The checkpoint that it goes on from; None if it begins at the start."""
        self._had_ended = False
        if goes_on:
            self._look_where_it_stands()
        else:
            self.folder.check_is_free()
        self._goes_on = goes_on
        self._on_interrupt = on_interrupt
        self._outcome: Outcome | None = None
        self._keeper = CheckpointKeeper(self.folder.checkpoint_folder, self.config.keep_last, self.config.keep_best_by)
        self._best_score: float | None = None
        self._knows_best_by = False
        self._check_best_by({})

    @classmethod
    def resume(
        cls,
        out: str | Path,
        *,
        stop_return: float | None = None,
        stop_steps: int | None = None,
        on_interrupt: Callable[[], None] | None = None,
    ) -> "TrainingRun":
        """The run of a folder, to go on from its last whole checkpoint; without one, from the start.

        Args:
            out: the folder.
            stop_return: a new goal in place of the old one.
            stop_steps: as `stop_return`.
            on_interrupt: called when the run is asked to end.

        Raises:
            ConfigError: there is no run, or it has ended and no new goal is given.
        """
        folder = RunFolder(out)
        config, before = folder.read_config(), folder.read_stop()
        stop = before.changed(stop_return, stop_steps)
        return cls(
            config,
            out,
            stop_return=stop.stop_return,
            stop_steps=stop.stop_steps,
            goes_on=True,
            on_interrupt=on_interrupt,
        )

    @property
    def outcome(self) -> Outcome:
        """How the run ended.

        Raises:
            NotBuiltError: it has not ended yet.
        """
        if self._outcome is None:
            raise NotBuiltError("The run has not ended yet; iterate over it to its end.")
        return self._outcome

    def __iter__(self) -> Iterator[Progress]:
        """Train to the end; yields after each iteration.

        Raises:
            ConfigError: a resumed run has ended meanwhile or done its `stop_steps` already, another process trains in
                its folder, or the first iteration has no result such as `keep_best_by` names.
            CheckpointError: the checkpoint to go on from is damaged.
        """
        with ExitStack() as stack:
            # Before any process is started, so that those that are forked ignore Ctrl-C too.
            interrupts = stack.enter_context(Interrupts(self._on_interrupt))
            if self._goes_on:
                stack.enter_context(self.folder.held())
                self._look_where_it_stands()  # Anew: another process may have trained until now.
            algorithm = self._build(stack)
            results = self._check_goes_on(algorithm)
            loggers = self._open(algorithm, stack)
            reason = self.stop.reason(flatten(results))
            if reason is None:
                yield from self._train(algorithm, loggers, interrupts)
            else:  # It was killed between its last checkpoint and its end.
                self._end(algorithm, reason, _last_evaluation(results))
        if is_installed("matplotlib"):
            from unison.algorithms.run_folder.plotting import plot_runs

            plot_runs([self.folder], self.folder.curve_file)

    def _look_where_it_stands(self) -> None:
        """Find how the run has ended, if it has, and the checkpoint to go on from."""
        ended = self.folder.read_outcome()
        if ended is not None and ended["reason"] != StopReason.INTERRUPTED and self.stop == self.folder.read_stop():
            raise ConfigError(
                f"The run in {self.folder.path} has ended: {ended['reason'].replace('_', ' ')}, "
                f"{ended['env_steps']:,} steps. To train on, give it a new goal: --stop-steps or --stop-return."
            )
        self._had_ended = ended is not None
        self.resumed_from = self.folder.latest_checkpoint()
        if self._had_ended and self.resumed_from is None:
            raise CheckpointError(
                f"The run in {self.folder.path} has ended, and there is no checkpoint of it to go on from. Restore one "
                "from a copy, or train anew in another folder."
            )

    def _build(self, stack: ExitStack) -> Algorithm:
        algorithm: Algorithm = self.config.build()
        stack.callback(algorithm.stop)
        if self.resumed_from is not None:
            try:
                algorithm.load_state(self.resumed_from)
            except CheckpointError as error:
                error.args = (f"{error} To go on from the one before it, if there is one, move this one elsewhere.",)
                raise
        return algorithm

    def _check_goes_on(self, algorithm: Algorithm) -> Mapping[str, Any]:
        """The results of the checkpoint that a run goes on from, where it was killed before it ended.

        Raises:
            ConfigError: it had ended, and has nothing left to do.
        """
        steps = algorithm.num_env_steps_sampled_lifetime
        if self._had_ended and self.stop.has_done_its_steps(steps):
            raise ConfigError(
                f"The run in {self.folder.path} has done {steps:,} steps; to train on, give a larger --stop-steps."
            )
        if self._had_ended or self.resumed_from is None:
            return {}
        return cast("Mapping[str, Any]", read_manifest(self.resumed_from).metadata.get(RESULTS, {}))

    def _open(self, algorithm: Algorithm, stack: ExitStack) -> list[MetricsLogger]:
        if self._goes_on:
            self.folder.write_run(self.stop, None)
            self._keeper.prune()  # It may have been killed between a checkpoint and this.
        else:
            stack.enter_context(self.folder.held())
            self.folder.create(self.config, self.stop)
        loggers = open_loggers(
            self.folder.path,
            self.config.loggers,
            last_iteration=algorithm.iteration,
            last_step=algorithm.num_env_steps_sampled_lifetime,
        )
        for logger in loggers:
            stack.callback(logger.close)
        return loggers

    def _train(self, algorithm: Algorithm, loggers: list[MetricsLogger], interrupts: Interrupts) -> Iterator[Progress]:
        speedometer = Speedometer(algorithm.num_env_steps_sampled_lifetime)
        self._best_score = self._keeper.best_score()
        evaluation: Mapping[str, Any] = {}
        evaluation_steps: int | None = None
        reason: StopReason | None = None
        while reason is None:
            results = self._iterate(algorithm)
            self._check_best_by(results, algorithm.module_ids)
            steps = algorithm.num_env_steps_sampled_lifetime
            row = flatten(results)
            for logger in loggers:
                logger.log(row)
            if "evaluation" in results:
                evaluation, evaluation_steps = _last_evaluation(results), steps
            reason = self.stop.reason(row) or (StopReason.INTERRUPTED if interrupts.requested else None)
            checkpoint = self._save_if_due(algorithm, reason, results)
            if reason is not None:
                algorithm.wait_for_saves()
                self._end(algorithm, reason, evaluation)
            yield Progress(
                iteration=algorithm.iteration,
                env_steps=steps,
                stop_steps=self.stop.stop_steps,
                seconds=algorithm.time_total_s,
                steps_per_second=speedometer.read(steps),
                evaluation_return=evaluation.get("episode_return_mean"),
                evaluation_steps=evaluation_steps,
                stop_return=self.stop.stop_return,
                results=results,
                checkpoint=checkpoint,
            )

    def _iterate(self, algorithm: Algorithm) -> dict[str, Any]:
        """One iteration; the last one is evaluated in any case, and one that seems to reach the goal again."""
        results = algorithm.train()
        if self.config.evaluation_interval is None:
            return results
        if "evaluation" not in results and self.stop.has_done_its_steps(algorithm.num_env_steps_sampled_lifetime):
            results["evaluation"] = algorithm.evaluate()
        goal = self.stop.stop_return
        if goal is not None and "evaluation" in results and results["evaluation"]["episode_return_mean"] >= goal:
            results["confirmation"] = algorithm.evaluate(max(CONFIRMATION_EPISODES, self.config.evaluation_duration))
        return results

    def _check_best_by(self, results: Mapping[str, Any], module_ids: Sequence[ModuleID] = ()) -> None:
        name = self.config.keep_best_by
        if name is not None and not self._knows_best_by:
            self._knows_best_by = is_measured(name, results, module_ids)

    def _save_if_due(self, algorithm: Algorithm, reason: StopReason | None, results: Mapping[str, Any]) -> Path | None:
        """Save where the interval, a better result or the end of the run says so, while training goes on."""
        interval = self.config.checkpoint_interval
        score = self._keeper.score(plain(results))
        is_better = score is not None and (self._best_score is None or score > self._best_score)
        if reason is None:
            is_due = is_better or (interval is not None and algorithm.iteration % interval == 0)
        else:
            is_due = is_better or self.config.checkpoint_at_end or reason is StopReason.INTERRUPTED
        if not is_due:
            return None
        if is_better:
            self._best_score = score
        path = self._keeper.path(algorithm.iteration)
        algorithm.save_state(path, results=plain(results), background=True, then=lambda: self._keeper.prune(path))
        return path

    def _end(self, algorithm: Algorithm, reason: StopReason, evaluation: Mapping[str, Any]) -> None:
        self._outcome = Outcome(
            reason=reason,
            iteration=algorithm.iteration,
            env_steps=algorithm.num_env_steps_sampled_lifetime,
            seconds=algorithm.time_total_s,
            evaluation_return=evaluation.get("episode_return_mean"),
            evaluation_episodes=evaluation.get("num_episodes"),
            stop_return=self.stop.stop_return,
        )
        self.folder.write_run(self.stop, self._outcome)


def iterations_for(config: AlgorithmConfig, env_steps: int) -> int:
    """How many training iterations come nearest to so many environment steps; at least one."""
    return max(1, round(env_steps / int(config.env_steps_per_iteration)))


def _last_evaluation(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return results.get("confirmation", results.get("evaluation", {}))


def _with_evaluation(config: AlgorithmConfig, stop: StopConditions) -> AlgorithmConfig:
    """The config, checked and frozen; evaluation is on where the end of the run depends on it."""
    if stop.stop_return is not None and config.evaluation_interval is None:
        config = config.copy().evaluation(evaluation_interval=iterations_for(config, _STEPS_BETWEEN_EVALUATIONS))
    config.validate()
    return config if config.is_frozen else config.copy().freeze()
