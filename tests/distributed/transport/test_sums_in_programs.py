"""Sums that a program of XLA makes by itself are those that Python makes, and meet with them."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from support.hosted import Hosted
from unison.learner.engines.kernels.compiler import find_compiler
from unison.learner.engines.kernels.sums import SumsInPrograms
from unison.learner_group.processes import ProcessTransport

jax = pytest.importorskip("jax")
pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

NUMBER = 5
Reduce = Callable[[torch.Tensor], torch.Tensor]


class Summing(Hosted):
    """Sums vectors within a program; counts the sums that are left to Python, and keeps their errors."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.sums = SumsInPrograms(self.in_python)
        self.left_to_python = 0
        self.error: Exception | None = None

    def in_python(self, tensor: torch.Tensor, number: int) -> None:
        assert number == NUMBER
        self.left_to_python += 1
        try:
            self.collective.all_reduce_(tensor)
        except Exception as error:
            self.error = error

    def in_program(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.array(jax.jit(self.in_program_of)(vector.numpy())))

    def in_program_of(self, vector: Any) -> Any:
        """In three pieces, the last of which is of two stretches, at both ends of the vector."""
        a, b, end = vector.size // 8, vector.size // 2, vector.size - 3
        places = [(0, a, b), (1, b, end), (2, 0, a), (2, end, vector.size)]
        pieces = [vector[a:b], vector[b:end], jax.numpy.concatenate([vector[:a], vector[end:]])]
        first, second, rest = self.sums.operation(pieces, places, NUMBER)
        return jax.numpy.concatenate([rest[:a], first, second, rest[a:]])

    def attach(self) -> None:
        jax.eval_shape(self.in_program_of, jax.numpy.zeros(8))  # nothing can be attached before there is a program
        self.sums.attach(NUMBER, self.collective.shared_buffers)

    def detach(self) -> None:
        self.sums.attach(NUMBER, None)

    def total(self, size: int, rounds: int, how: str = "program") -> tuple[list[torch.Tensor], int]:
        """The sums of some rounds, and how many of them were left to Python."""
        reduce: Reduce = self.in_program if how == "program" else self.collective.all_reduce_
        before = self.left_to_python
        totals = [reduce(drawn(size, self.context.rank, number)) for number in range(rounds)]
        return totals, self.left_to_python - before


def drawn(size: int, rank: int, number: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(100 * number + rank))


def expected(size: int, ranks: int, rounds: int) -> list[torch.Tensor]:
    """Added in order of rank."""
    totals: list[torch.Tensor] = []
    for number in range(rounds):
        total = drawn(size, 0, number)
        for rank in range(1, ranks):
            total = total + drawn(size, rank, number)
        totals.append(total)
    return totals


def ask(world: ProcessTransport, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
    return world.gather(world.call(method, *arguments, **keywords))


def gets_into_programs(world: ProcessTransport, size: int, ranks: int, tries: int = 20) -> bool:
    """Whether sums, which must be right, are made without Python.

    A rank that has waited for two milliseconds asks Python: where the machine is busy that may be many in a row.
    """
    for _ in range(tries):
        found = ask(world, "total", size, 6)
        for totals, _ in found:
            assert all(map(torch.equal, totals, expected(size, ranks, 6)))
        if all(left_to_python < 6 for _, left_to_python in found):
            return True
    return False


@pytest.fixture(scope="module", params=[2, 3])
def world(request: pytest.FixtureRequest) -> Iterator[ProcessTransport]:
    transport = ProcessTransport(timeout_s=60.0)
    transport.start(Summing, request.param)
    ask(transport, "attach")
    yield transport
    transport.stop()


@pytest.mark.parametrize("size", [8, 1000, 65_535])
def test_the_same_bits_as_in_python_once_the_buffers_are_there(world: ProcessTransport, size: int) -> None:
    ranks = world.num_workers
    ask(world, "total", 65_535, 2, "python")  # both buffers of each rank are long enough from here on
    assert gets_into_programs(world, size, ranks)


def test_more_than_the_buffers_hold_is_left_to_python_which_makes_room(world: ProcessTransport) -> None:
    size, ranks = 300_000, world.num_workers
    for totals, left_to_python in ask(world, "total", size, 3):
        assert all(map(torch.equal, totals, expected(size, ranks, 3)))
        assert left_to_python >= 2
    # Three ranks and more add so much in slices, which is Python's part.
    if ranks == 2:
        assert gets_into_programs(world, size, ranks)
    else:
        assert not gets_into_programs(world, size, ranks, tries=1)


def test_some_in_a_program_and_some_in_python(world: ProcessTransport) -> None:
    ranks = world.num_workers
    asked = [world.call("total", 1000, 8, "python" if rank == 1 else "program", ranks=[rank]) for rank in range(ranks)]
    for answers in map(world.gather, asked):
        assert all(map(torch.equal, answers[0][0], expected(1000, ranks, 8)))


def test_a_late_rank_is_waited_for(world: ProcessTransport) -> None:
    def late(hosted: Summing) -> torch.Tensor:
        vector = drawn(1000, hosted.context.rank, 0)
        if hosted.context.rank == 1:
            time.sleep(0.3)
        return hosted.in_program(vector)

    for found in ask(world, "apply", late):
        assert torch.equal(found, *expected(1000, world.num_workers, 1))


def test_who_comes_for_something_else_is_named() -> None:
    def differ(hosted: Summing) -> str:
        if hosted.context.rank == 1:
            try:
                hosted.collective.all_reduce_(torch.zeros(1))
            except Exception as error:
                return str(error)
        hosted.in_program(torch.zeros(100))
        return str(hosted.error)

    transport = ProcessTransport(timeout_s=60.0)
    try:
        transport.start(Summing, 2)
        ask(transport, "attach")
        ask(transport, "total", 1000, 2, "python")
        said = ask(transport, "apply", differ)
    finally:
        transport.stop()
    assert "came to sum 400 bytes while rank 1 came to sum 4" in said[0]
    assert "came to sum 4 bytes while rank 0 came to sum 400" in said[1]


def test_detached_sums_are_all_left_to_python(world: ProcessTransport) -> None:
    ask(world, "detach")
    found = ask(world, "total", 1000, 4)
    ask(world, "attach")
    assert all(left_to_python == 4 for _, left_to_python in found)


@pytest.mark.parametrize(("ranks", "is_closed"), [(1, False), (2, True)])
def test_who_is_alone_or_has_closed_leaves_sums_to_python(ranks: int, is_closed: bool) -> None:
    def sum_alone(hosted: Summing) -> tuple[torch.Tensor, int, str]:
        if is_closed:
            hosted.collective.close()
        return hosted.in_program(torch.ones(8)), hosted.left_to_python, str(hosted.error)

    transport = ProcessTransport(timeout_s=60.0)
    try:
        transport.start(Summing, ranks)
        ask(transport, "attach")
        ask(transport, "total", 8, 2, "python")
        answers = ask(transport, "apply", sum_alone)
    finally:
        transport.stop()
    for total, left_to_python, error in answers:
        assert torch.equal(total, torch.ones(8))
        assert left_to_python == 1
        assert ("Bad file descriptor" in error) is is_closed
