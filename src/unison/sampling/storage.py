"""What is recorded while environments run: the storage of a sample."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, final

import numpy as np

from unison.data import Columns, SingleAgentEpisode
from unison.data.trees import concat_rows, slice_rows
from unison.sampling.environments import Ending, Outcome
from unison.sampling.running import Recorder, RunningEpisodes
from unison.types import ModuleID, Tree, tree_leaves, tree_map

Array = np.ndarray[Any, Any]


class Chunk(NamedTuple):
    """Steps `start` to `stop` of environment `index`, a part of one episode."""

    env_index: int
    start: int
    stop: int
    shift: int
    """How far the observations' places are ahead of the steps'."""
    id_: str
    t_started: int
    terminated: bool = False
    truncated: bool = False


@final
class Storage(Recorder):
    """Arrays [E, T, ...] that a sample is written to, step by step, and its episodes are views of.

    Each environment's steps lie one after the other, so that an episode's part is one stretch of memory.
    Where an environment resets within a step, its final observation takes a place of its own among
    the observations, and all that follow move on by one; where it takes a step to reset, that
    step belongs to no episode.

    Args:
        observations: the environments' current observations, arrays [E, ...] that are written in place.
        num_steps: T, the most steps that fit.
        running: the episodes that are under way.
        num_rows: how many real steps of all environments together are enough; None: as many as fit.
    """

    def __init__(
        self, observations: Tree, num_steps: int, running: RunningEpisodes, num_rows: int | None = None
    ) -> None:
        self.num_steps = num_steps
        self._num_rows = num_rows
        self.lost = 0
        """Rows of E * steps that are none: environments that failed or only reset."""
        self.steps = 0
        self.chunks: list[Chunk] = []
        self._running = running
        current = tree_leaves(observations)
        num_envs = len(current[0])
        # Every step may end an episode. The memory is not touched, so costs nothing, until it is needed.
        self.observations = _space_for(observations, 2 * num_steps + 1)
        self._places = list(zip(tree_leaves(self.observations), current, strict=True))
        self.actions: Tree = None
        self.outputs: dict[str, Tree] = {}
        self.rewards = np.zeros((num_envs, num_steps))
        self._envs = np.arange(num_envs)
        self._starts = [0] * num_envs
        self._shifts = np.zeros(num_envs, np.int64)
        self._shifted = False
        for place, leaf in self._places:
            place[:, 0] = leaf

    @property
    def is_full(self) -> bool:
        """Whether the storage is full, or enough rows have come."""
        return self.steps == self.num_steps or (self._num_rows is not None and self.rows >= self._num_rows)

    @property
    def rows(self) -> int:
        """Real steps of all environments together."""
        return self.steps * len(self._envs) - self.lost

    def add_actions(self, actions: Tree, outputs: Mapping[str, Tree]) -> None:
        """Write actions and outputs of this step; the first step says which columns there are."""
        step = self.steps
        if self.actions is None:
            self.actions = _space_for(actions, self.num_steps)
            self.outputs = {name: _space_for(column, self.num_steps) for name, column in outputs.items()}
        _write(self.actions, step, actions)
        for name, column in outputs.items():
            _write(self.outputs[name], step, column)

    def add_outcome(self, outcome: Outcome) -> None:
        """Write rewards and next observations, and close what has ended."""
        self.rewards[:, self.steps] = outcome.rewards
        self.steps += 1
        self.lost += outcome.lost
        for ending in outcome.ended:
            self._end(ending)
        if self._shifted:
            places = self._shifts + self.steps
            for place, leaf in self._places:
                place[self._envs, places] = leaf
        else:
            for place, leaf in self._places:
                place[:, self.steps] = leaf
        for index in outcome.begun:
            self._starts[index] = self.steps
            self._running.begin(index)

    def _end(self, ending: Ending) -> None:
        index = ending.env_index
        stop = self.steps - 1 if ending.failed else self.steps
        self._close(index, stop, ending.terminated, ending.truncated)
        self._running.end(index, failed=ending.failed)
        if ending.final_observation is not None and not ending.failed:
            place = self.steps + int(self._shifts[index])

            def write(array: Array, final_observation: Any) -> None:
                array[index, place] = final_observation

            # By key: an environment may give a dict in another order than its space's.
            tree_map(write, self.observations, ending.final_observation)
            self._shifts[index] += 1
            self._shifted = True

    def _close(self, index: int, stop: int, terminated: bool = False, truncated: bool = False) -> None:
        start = self._starts[index]
        if stop > start:
            t_started = self._running.advance(index, stop - start, float(self.rewards[index, start:stop].sum()))
            shift = int(self._shifts[index])
            id_ = self._running.ids[index]
            self.chunks.append(Chunk(index, start, stop, shift, id_, t_started, terminated, truncated))
        self._starts[index] = stop

    def cut(self) -> None:
        """Close the chunks of all episodes that go on."""
        for index in range(len(self._starts)):
            self._close(index, self.steps)

    def hold_back(self, surplus: int) -> list[Chunk]:
        """Take the last row of `surplus` environments out of the chunks; returns these rows as chunks."""
        held: list[Chunk] = []
        for position in reversed(range(len(self.chunks))):
            chunk = self.chunks[position]
            if len(held) >= surplus:
                break
            if chunk.stop == self.steps:
                cut = self.steps - 1
                held.append(chunk._replace(start=cut, t_started=chunk.t_started + cut - chunk.start))
                self.chunks[position] = chunk._replace(stop=cut, terminated=False, truncated=False)
        self.chunks = [chunk for chunk in self.chunks if chunk.stop > chunk.start]
        return held

    def episode(self, chunk: Chunk, rewards: Array, module_id: ModuleID | None) -> SingleAgentEpisode:
        """The chunk as an episode of views; `rewards` [E, T] are those that the Learner sees."""
        index, steps = chunk.env_index, slice(chunk.start, chunk.stop)
        in_chunk = itemgetter((index, steps))
        places = slice(chunk.start + chunk.shift, chunk.stop + chunk.shift + 1)
        return SingleAgentEpisode(
            chunk.id_,
            observations=tree_map(itemgetter((index, places)), self.observations),
            actions=tree_map(in_chunk, self.actions),
            rewards=rewards[index, steps],
            extra_model_outputs={name: tree_map(in_chunk, column) for name, column in self.outputs.items()},
            terminated=chunk.terminated,
            truncated=chunk.truncated,
            t_started=chunk.t_started,
            module_id=module_id,
        )

    def add_log_probs(self, log_probs: Any) -> None:
        """Compute `action_logp` of all steps at once, by `log_probs(inputs, actions)`."""
        inputs = self.outputs.get(Columns.ACTION_DIST_INPUTS)
        if inputs is not None and self.steps:
            actions = tree_map(itemgetter((slice(None), slice(0, self.steps))), self.actions)
            self.outputs[Columns.ACTION_LOGP] = log_probs(inputs[:, : self.steps], actions)


def joined(chunks: Sequence[SingleAgentEpisode]) -> SingleAgentEpisode:
    """The chunks of one episode, in order, as one."""
    first, last = chunks[0], chunks[-1]
    if len(chunks) == 1:
        return first
    later = [slice_rows(chunk.get_observations(), 1, None) for chunk in chunks[1:]]
    return SingleAgentEpisode(
        first.id_,
        observations=concat_rows([first.get_observations(), *later]),
        actions=concat_rows([chunk.get_actions() for chunk in chunks]),
        rewards=concat_rows([chunk.get_rewards() for chunk in chunks]),
        extra_model_outputs={
            name: concat_rows([chunk.get_extra_model_outputs(name) for chunk in chunks])
            for name in first.get_extra_model_outputs()
        },
        terminated=last.is_terminated,
        truncated=last.is_truncated,
        t_started=first.t_started,
        module_id=first.module_id,
    )


def copied(episode: SingleAgentEpisode) -> SingleAgentEpisode:
    """The episode in memory of its own, so that it keeps no storage alive."""
    state = episode.get_state()
    for name in ("observations", "actions", "rewards", "extra_model_outputs"):
        state[name] = tree_map(np.array, state[name])
    return SingleAgentEpisode.from_state(state)


def _space_for(values: Tree, num_steps: int) -> Tree:
    """Unwritten arrays [E, T, ...] for the like of `values` [E, ...]."""

    def space(leaf: Array) -> Array:
        return np.empty((leaf.shape[0], num_steps, *leaf.shape[1:]), leaf.dtype)

    return tree_map(space, values)


def _write(arrays: Tree, step: int, values: Tree) -> None:
    if isinstance(arrays, np.ndarray):
        arrays[:, step] = values
    else:
        for array, value in zip(tree_leaves(arrays), tree_leaves(values), strict=True):
            array[:, step] = value
