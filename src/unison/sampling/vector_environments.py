"""Environments that a Gymnasium vector environment steps."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from operator import itemgetter
from typing import Any, Final, cast, final

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from unison.errors import ConfigError, EnvironmentFailure
from unison.sampling.environments import Ending, Environments, Outcome, WorkerError
from unison.sampling.guarded_env import FAILED_RESET, FAILED_STEP
from unison.sampling.observations import empty_observations, row_of, writer_for
from unison.sampling.step_check import is_numeric, shown
from unison.types import Tree, tree_map

Vector = VectorEnv[Any, Any, Any]
_DEATH_NOTICE_S: Final = 1.0


@final
class VectorEnvironments(Environments):
    """Steps a vector environment: Gymnasium's async one, the environment's own, or a user's.

    All three ways of resetting are understood (`AutoresetMode`). With NEXT_STEP, the step after an
    episode's end only resets: its row is counted as lost and never handed out.

    Args:
        make: makes the vector environment.
        name: the environment's, for messages.
        max_restarts: how many crashes are answered by a new environment instead of an error.

    Raises:
        ConfigError: the vector environment does not say how it resets.
    """

    def __init__(self, make: Callable[[], Vector], name: str, max_restarts: int) -> None:
        self._make = make
        self._vector = vector = make()
        mode = vector.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            vector.close()
            raise ConfigError(
                f"The vector environment '{name}' does not say how it resets. Set its "
                "metadata['autoreset_mode'] to a gymnasium.vector.AutoresetMode."
            )
        self._mode = mode
        self._seeds: list[int] = []
        self._was_done = np.zeros(vector.num_envs, np.bool_)
        super().__init__(
            name,
            vector.num_envs,
            cast(Any, vector).single_observation_space,
            cast(Any, vector).single_action_space,
            max_restarts,
        )
        self._write = writer_for(self.observations, of_all=True)
        self._final = empty_observations(self.observation_space, 1, name)
        self._write_final = writer_for(self._final)

    @property
    def resets_take_a_step(self) -> bool:
        """Whether the vector environment uses NEXT_STEP."""
        return self._mode is AutoresetMode.NEXT_STEP

    def reset(self, seeds: Sequence[int]) -> None:
        """Reset all; a vector environment of its own kind takes one seed, the first."""
        self._seeds = list(seeds)
        self._was_done[:] = False
        try:
            observations, infos = self._vector.reset(seed=self._seed)
        except Exception as error:
            self._restart(error)
            return
        self._keep(observations)
        self._admit_reported(infos)

    @property
    def _seed(self) -> Any:
        """What the vector environment resets with: Gymnasium's own takes a seed for each copy, others one for all."""
        return self._seeds if isinstance(self._vector, AsyncVectorEnv) else self._seeds[0]

    def step(self, actions: Tree) -> Outcome:
        """Take one action [E, ...] in each environment."""
        try:
            observations, rewards, terminated, truncated, infos = self._vector.step(actions)
            shape = (self.num_envs,)
            if not (is_numeric(rewards, shape) and is_numeric(terminated, shape) and is_numeric(truncated, shape)):
                raise self._misshapen(rewards=rewards, terminated=terminated, truncated=truncated)
            self._keep(observations)
            done = np.logical_or(terminated, truncated)
            if self._mode is AutoresetMode.NEXT_STEP:
                return self._after_next_step(rewards, terminated, done)
            if not done.any():
                return Outcome(rewards, (), (), 0)
            ended = np.flatnonzero(done).tolist()
            if self._mode is AutoresetMode.SAME_STEP:
                finals = [self._final_observation(infos, index) for index in ended]
            else:
                finals = [row_of(self.observations, index) for index in ended]
                observations, infos = self._vector.reset(options={"reset_mask": done})
                self._keep(observations)
        except EnvironmentFailure:
            raise
        except Exception as error:
            self._restart(error)
            everyone = range(self.num_envs)
            failures = [Ending(index, False, True, failed=True) for index in everyone]
            return Outcome(np.zeros(self.num_envs), failures, everyone, self.num_envs)
        failed = self._admit_reported(infos)
        endings = [
            Ending(index, bool(terminated[index]), not terminated[index], final, index in failed)
            for index, final in zip(ended, finals, strict=True)
        ]
        return Outcome(rewards, endings, ended, len(failed))

    def _misshapen(self, **returned: Any) -> EnvironmentFailure:
        """What to raise where not all of this is one number or flag for each copy."""
        shape = (self.num_envs,)
        name, values = next((name, values) for name, values in returned.items() if not is_numeric(values, shape))
        return EnvironmentFailure(
            f"The vector environment '{self.name}': step() returned {name}={shown(values)}; return one "
            f"{'number' if name == 'rewards' else 'flag'} for each copy, an array of shape {shape}."
        )

    def _after_next_step(self, rewards: Any, terminated: Any, done: Any) -> Outcome:
        """The outcome where those that were done have used this step to reset."""
        was_done = self._was_done
        if not done.any() and not was_done.any():
            return Outcome(rewards, (), (), 0)
        begun = np.flatnonzero(was_done).tolist()
        self._was_done = done
        ended = np.flatnonzero(done).tolist()
        endings = [Ending(index, bool(terminated[index]), not terminated[index]) for index in ended]
        return Outcome(rewards, endings, begun, len(begun))

    def _keep(self, observations: Tree) -> None:
        try:
            self._write(..., observations)
        except TypeError as error:
            raise EnvironmentFailure(f"The vector environment '{self.name}' returned {error}") from None

    def _final_observation(self, infos: dict[str, Any], index: int) -> Tree:
        if "final_obs" not in infos:
            raise EnvironmentFailure(
                f"The vector environment '{self.name}' resets in the same step, but its infos lack 'final_obs' "
                f"(they hold {sorted(infos)}), without which truncated episodes can't be bootstrapped."
            )
        try:
            self._write_final(0, tree_map(itemgetter(index), infos["final_obs"]))
        except (TypeError, LookupError) as error:
            raise EnvironmentFailure(
                f"The vector environment '{self.name}' has in infos['final_obs'], for copy {index}, {error}"
            ) from None
        return row_of(self._final, 0)

    def _admit_reported(self, infos: dict[str, Any]) -> set[int]:
        """Count the crashes that guarded environments report; returns those that crashed in a step."""
        failed: set[int] = set()
        for key in (FAILED_STEP, FAILED_RESET):
            for index, report in enumerate(infos.get(key, ())):
                if report is not None:
                    self._admit_restart(f"Environment {index}", WorkerError(report))
                    if key == FAILED_STEP:
                        failed.add(index)
        return failed

    def _restart(self, error: Exception) -> None:
        """Make the whole vector environment anew, after it raised or a worker of it died."""
        dead = self._dead_workers()
        if dead:
            exit_codes = {index: cast(AsyncVectorEnv, self._vector).processes[index].exitcode for index in dead}
            error = WorkerError(f"the processes ended with exit codes {exit_codes} ({type(error).__name__}: {error})")
        which = (
            f"Environment {', '.join(map(str, dead))}" if dead else f"The vector environment ({self.num_envs} copies)"
        )
        self._admit_restart(which, error)
        self.close()
        seeds = np.random.SeedSequence([*self._seeds, self.num_restarts]).generate_state(self.num_envs)
        self._seeds = (seeds >> 1).tolist()
        self._was_done[:] = False
        try:
            self._vector = self._make()
            observations, _ = self._vector.reset(seed=self._seed)
        except Exception as second:
            raise self._second_failure(which, second) from error
        self._keep(observations)

    def _dead_workers(self) -> list[int]:
        if not isinstance(self._vector, AsyncVectorEnv):
            return []
        # The end of a process shows a moment after its pipe has closed.
        sentinels = [process.sentinel for process in self._vector.processes]
        ended = wait(sentinels, timeout=_DEATH_NOTICE_S)
        return [index for index, sentinel in enumerate(sentinels) if sentinel in ended]

    def close(self) -> None:
        """Release the environments, also when some of their processes are dead."""
        vector = self._vector
        if vector.closed:
            return
        if isinstance(vector, AsyncVectorEnv) and not all(process.is_alive() for process in vector.processes):
            # Its own close() would wait for answers of the dead.
            for process in vector.processes:
                process.terminate()
                process.join()
            vector.closed = True
            return
        with suppress(Exception):  # A crashed environment may fail to close.
            vector.close(**({"terminate": True} if isinstance(vector, AsyncVectorEnv) else {}))
