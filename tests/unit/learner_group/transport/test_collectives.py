"""What ranks do together: sums, and errors of those who did not come."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.rank_threads import World
from unison.learner.collective import gather_objects
from unison.learner_group.collectives import (
    Collective,
    CollectiveAborted,
    CollectiveError,
    CollectiveTimeout,
    SingleCollective,
)


def random_of(rank: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(rank)).to(dtype)


def sum_in_rank_order(world_size: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    total = random_of(0, size, dtype)
    for rank in range(1, world_size):
        total = total + random_of(rank, size, dtype)
    return total


@pytest.mark.parametrize("lengths", [(0, 5, 3), (4094, 4095, 9000), (20_000, 0, 1)])
def test_objects_of_any_length_reach_all_ranks(lengths: tuple[int, ...]) -> None:
    values = [{"of": rank, "text": "é"[: rank + 1] + "x" * length} for rank, length in enumerate(lengths)]
    found = World(3).run(lambda collective: gather_objects(collective, values[collective.rank]))
    assert found == [values] * 3


@given(
    world_size=st.integers(1, 4),
    sizes=st.lists(st.sampled_from([0, 1, 5, 1000, 65_535, 65_536, 65_539, 200_001]), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_sums_are_bit_identical_on_all_ranks_and_in_rank_order(
    world_size: int, sizes: list[int], dtype: torch.dtype
) -> None:
    world = World(world_size)
    results = world.run(lambda c: [c.all_reduce_(random_of(c.rank, size, dtype)) for size in sizes])
    for index, size in enumerate(sizes):
        expected = sum_in_rank_order(world_size, size, dtype)
        assert all(torch.equal(result[index], expected) for result in results)


def test_a_sum_replaces_the_tensor_in_place_whatever_its_shape() -> None:
    world = World(2)

    def work(c: Collective) -> torch.Tensor:
        tensor = torch.full((2, 3, 4), float(c.rank + 1))
        assert c.all_reduce_(tensor) is tensor
        return tensor

    assert all(torch.equal(result, torch.full((2, 3, 4), 3.0)) for result in world.run(work))


def test_a_thousand_sums_in_a_row_never_mix() -> None:
    world = World(3)

    def work(c: Collective) -> bool:
        for turn in range(1000):
            assert c.all_reduce_(torch.full((turn % 7 + 1,), float(turn + c.rank)))[-1] == 3 * turn + 3
        return True

    assert world.run(work) == [True] * 3


def test_a_sum_lets_nobody_pass_before_the_last_one_came() -> None:
    world = World(2)
    came = threading.Event()

    def work(c: Collective) -> bool:
        if c.rank == 1:
            time.sleep(0.1)
            came.set()
        c.all_reduce_(torch.zeros(0))
        return came.is_set()

    assert world.run(work) == [True, True]


def test_different_sizes_are_named() -> None:
    said = World(2).run(lambda c: c.all_reduce_(torch.zeros(10 + c.rank)))
    assert "Rank 0 came to sum 40 bytes while rank 1 came to sum 44" in str(said[0])
    assert "Rank 1 came to sum 44 bytes while rank 0 came to sum 40" in str(said[1])


def test_a_tensor_that_cannot_be_shared_is_refused() -> None:
    collective = World(1).ranks[0]
    with pytest.raises(CollectiveError, match="contiguous CPU tensor"):
        collective.all_reduce_(torch.zeros(3, 4).t())


def test_a_rank_that_does_not_come_is_named_after_the_deadline() -> None:
    world = World(3, timeout_s=0.2)
    results = world.run(lambda c: None if c.rank == 1 else c.all_reduce_(torch.zeros(1)))
    for rank in (0, 2):
        assert isinstance(results[rank], CollectiveTimeout)
        assert "for rank [1] in a sum" in str(results[rank])


@pytest.mark.parametrize("by_driver", [True, False])
def test_an_abort_frees_those_who_wait_at_once(by_driver: bool) -> None:
    world = World(2)

    def work(c: Collective) -> float:
        if c.rank == 1:
            time.sleep(0.1)
            abort = (lambda: world.meeting.abort(1)) if by_driver else c.abort
            start = time.monotonic()
            abort()
            return start
        with pytest.raises(CollectiveAborted, match="gave up a sum"):
            c.all_reduce_(torch.zeros(3))
        return time.monotonic()

    freed, aborted = world.run(work)
    assert freed - aborted < 5.0
    assert all(c.aborted for c in world.ranks)


def test_after_an_abort_all_go_on_in_a_new_epoch_with_a_newcomer() -> None:
    world = World(3, timeout_s=60.0)
    world.run(lambda c: [c.all_reduce_(torch.ones(c.rank * 0 + 9)) for _ in range(5)])
    world.run(lambda c: c.abort() if c.rank == 1 else c.all_reduce_(torch.zeros(1)))
    world.ranks[1] = world.join(1)
    for collective in world.ranks:
        collective.join(2)
    assert not any(c.aborted for c in world.ranks)
    results = world.run(lambda c: [c.all_reduce_(random_of(c.rank, size)) for size in (9, 100_000, 9)])
    assert all(torch.equal(r[1], sum_in_rank_order(3, 100_000)) for r in results)


def test_an_abort_of_an_old_epoch_does_not_touch_a_new_one() -> None:
    world = World(2)
    for collective in world.ranks:
        collective.join(5)
    world.meeting.abort(4)
    assert [r[0].item() for r in world.run(lambda c: c.all_reduce_(torch.ones(1)))] == [2.0, 2.0]


def test_a_world_of_one_changes_nothing() -> None:
    collective = SingleCollective()
    tensor = torch.randn(3)
    before = tensor.clone()
    collective.join(1)
    assert torch.equal(collective.all_reduce_(tensor), before)
    collective.abort()
    assert not collective.aborted
