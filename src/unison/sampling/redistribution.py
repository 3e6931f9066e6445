"""What runners hand on to another number of runners than they were saved with."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any

from unison.errors import StateError
from unison.sampling.metrics import merge_states
from unison.sampling.reward_normalizer import spread_evenly
from unison.types import ModuleID

State = Mapping[str, Any]


def redistribute(saved: Sequence[State], fresh: Sequence[State]) -> list[State]:
    """States for other runners: as many as there are go on from one that was saved, and the rest begin.

    With another number, the scales of rewards are those of all that was seen, and each runner has its share of it, so
    that nothing is lost or counts twice, however often the number changes. What is counted stays with the group.

    Args:
        saved: the states of the runners that there were.
        fresh: those of the runners that are to go on.
    """
    if len(saved) == len(fresh):
        return list(saved)
    states: list[dict[str, Any]] = [
        {**state, "metrics": merge_states((), 1, _NOTHING), "num_environment_restarts": 0} for state in fresh
    ]
    taken = [*map(worker_index_of, saved)]
    numbers = count(max(*taken, *map(worker_index_of, fresh)) + 1)
    for state in states[len(saved) :]:
        # All draw the same numbers here, and each has seeds of its own by its index.
        own = worker_index_of(state)
        index = next(numbers) if own in taken else own
        state["seeds"] = {**state["seeds"], "bases": saved[0]["seeds"]["bases"], "worker_index": index}
    for index, state in enumerate(saved[: len(fresh)]):
        states[index] = dict(state)
    for index, scales in enumerate(_spread_scales(saved, len(fresh))):
        states[index] |= scales
    return list(states)


def worker_index_of(state: State) -> int:
    """Which of the run's runners a state is of; older checkpoints lack it, and 0 is none of a group."""
    return int(state["seeds"].get("worker_index", 0))


def check_parts(states: Iterable[State], own: State) -> None:
    """Raise StateError if one of the states lacks a part of `own`."""
    missing = sorted({part for state in states for part in own.keys() - state.keys()})
    if missing:
        raise StateError(f"The state of the env runner lacks {missing}.")


def merge_into_one(group: State, own: State, window: int) -> State:
    """The state of a group of runners as that of one; its random numbers are those of the first of them.

    Args:
        group: of RunnerGroup.get_state.
        own: the state of the one now.
        window: how many episodes averages are taken over.
    """
    runners: Sequence[State] = group["runners"]
    retired: Sequence[State] = group.get("retired", ())
    present, gone = ([state["metrics"] for state in states] for states in (runners, retired))
    return {
        **redistribute(runners, [own])[0],
        "metrics": merge_states(present, window, group["reported"], gone),
        "num_episodes_begun": sum(state["num_episodes_begun"] for state in runners),
        "num_environment_restarts": sum(state["num_environment_restarts"] for state in (*runners, *retired)),
    }


_NOTHING = {"num_episodes": 0, "num_env_steps_sampled": 0}


def _spread_scales(saved: Sequence[State], number: int) -> list[dict[str, Any]]:
    """The scales of rewards in the states of so many runners: of one agent, or of the modules of many."""
    name = "reward_normalizers" if "reward_normalizers" in saved[0] else "reward_normalizer"
    scales = [scales for state in saved if (scales := state[name]) is not None]
    if not scales:
        return []
    if name == "reward_normalizer":
        return [{name: share} for share in spread_evenly(scales, number)]
    by_module: dict[ModuleID, list[State]] = {}
    for scale in chain.from_iterable(scales):
        by_module.setdefault(scale["module_id"], []).append(scale)
    shares = {module_id: spread_evenly(own, number) for module_id, own in by_module.items()}
    return [{name: [{"module_id": m, **share[index]} for m, share in shares.items()]} for index in range(number)]
