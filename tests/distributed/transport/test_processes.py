import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.hosted import Hosted, children, is_alive, limit
from unison.errors import LearnerGroupError
from unison.learner_group.failures import WorkerError
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.shared_memory import SharedMemoryError
from unison.learner_group.transport import Call

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def ask(transport: ProcessTransport, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
    return transport.gather(transport.call(method, *arguments, **keywords))


def test_each_rank_knows_who_it_is(pair: ProcessTransport) -> None:
    about = ask(pair, "about")
    assert [a["rank"] for a in about] == [0, 1]
    assert [a["world_size"] for a in about] == [2, 2]
    assert [a["threads"] for a in about] == [1, 1]
    assert [a["stdin"] for a in about] == ["", ""]
    assert tuple(a["pid"] for a in about) == pair.pids
    assert os.getpid() not in pair.pids
    assert (pair.num_workers, pair.lost) == (2, ())


@pytest.mark.parametrize("rows", [3, 100_000])
def test_arrays_and_tensors_go_there_and_come_back(pair: ProcessTransport, rows: int) -> None:
    value = {"a": np.random.randn(rows, 2), "b": (torch.randn(rows), torch.arange(rows)), "c": "text"}
    for back in ask(pair, "echo", value):
        assert np.array_equal(back["a"], value["a"])
        assert torch.equal(back["b"][0], value["b"][0])
        assert torch.equal(back["b"][1], value["b"][1])
        assert back["c"] == "text"
        back["a"][0] = 7  # results belong to the driver
    ask(pair, "echo", None)


def test_calls_go_to_the_ranks_named_in_their_order(pair: ProcessTransport) -> None:
    assert [a["rank"] for a in ask(pair, "about", ranks=[1, 0])] == [1, 0]
    assert [a["rank"] for a in ask(pair, "about", ranks=[1])] == [1]


def test_functions_of_any_kind_can_be_called(pair: ProcessTransport) -> None:
    offset = 10
    assert ask(pair, "apply", lambda hosted, x: hosted.context.rank + offset + x, 5) == [15, 16]


def test_several_calls_run_in_order_and_can_be_gathered_in_any(pair: ProcessTransport) -> None:
    ask(pair, "apply", lambda hosted: hosted.calls.clear())
    arrays = [np.full(50_000, number) for number in range(12)]
    calls = [pair.call("echo", array) for array in arrays]
    for number in reversed(range(12)):
        assert all(np.array_equal(result, arrays[number]) for result in pair.gather(calls[number]))
    assert [array[0] for array in ask(pair, "history", ranks=[1])[0]] == list(range(12))
    ask(pair, "apply", lambda hosted: hosted.calls.clear())


def test_ready_waits_no_longer_than_it_is_told(pair: ProcessTransport) -> None:
    call = pair.call("apply", lambda _: time.sleep(0.4))
    start = time.monotonic()
    assert not pair.ready(call)
    assert not pair.ready(call, timeout=0.05)
    assert time.monotonic() - start < 0.4
    assert pair.ready(call, timeout=60.0)
    assert pair.gather(call) == [None, None]
    assert pair.gather(call) == [None, None]


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_arrays_stay_valid_for_as_long_as_a_worker_keeps_them(pair: ProcessTransport, rows: int) -> None:
    ask(pair, "apply", lambda hosted: hosted.kept.clear())
    for number in range(1, 4):
        ask(pair, "keep", np.full(rows, number))
        ask(pair, "echo", np.zeros(rows))
    assert ask(pair, "sums_of_kept") == [[rows * 1.0, rows * 2.0, rows * 3.0]] * 2
    ask(pair, "apply", lambda hosted: hosted.kept.clear())


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_what_a_worker_writes_to_an_array_stays_with_it(pair: ProcessTransport, rows: int) -> None:
    array = np.zeros(rows)
    assert ask(pair, "write", array) == [1.0, 2.0]
    assert ask(pair, "write", array) == [1.0, 2.0]
    assert array[0] == 0


def test_a_batch_is_written_once_for_all_and_its_memory_is_used_again_unless_kept(pair: ProcessTransport) -> None:
    def inode_of(hosted: Hosted, array: np.ndarray[Any, Any], keep: bool) -> str:
        address = array.__array_interface__["data"][0]
        if keep and hosted.context.rank == 1:
            hosted.kept.append(array)
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return line.split()[4]
        raise AssertionError

    first, second = ask(pair, "apply", inode_of, np.zeros(100_000), False)
    assert first == second
    assert ask(pair, "apply", inode_of, np.zeros(100_000), True) == [first, first]
    after_keeping = ask(pair, "apply", inode_of, np.zeros(100_000), False)
    assert after_keeping[0] == after_keeping[1] != first
    ask(pair, "apply", lambda hosted: hosted.kept.clear())


def test_sums_agree_with_one_process_to_the_bit(pair: ProcessTransport) -> None:
    for size in (1, 9_000, 142_000):
        first, second = ask(pair, "reduce", size, rounds=20)
        generators = [torch.Generator().manual_seed(rank) for rank in range(2)]
        expected = torch.zeros(size)
        for _ in range(20):
            expected += torch.randn(size, generator=generators[0]) + torch.randn(size, generator=generators[1])
        assert torch.equal(first, second)
        assert torch.equal(first, expected)


def test_an_exception_arrives_with_type_traceback_and_rank_and_all_stay_usable(pair: ProcessTransport) -> None:
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 raised in 'misbehave': BatchError: column 'obs'") as caught:
        ask(pair, "misbehave", "raise", 1, "between")
    error = caught.value
    assert type(error.__cause__).__name__ == "BatchError"
    assert 'raise BatchError("column' in error.cause.traceback
    assert error.failures[0].kind == "aborted"
    assert (error.lost, pair.lost) == ((), ())
    assert torch.equal(*ask(pair, "reduce", 5000))


def test_results_of_ranks_that_finished_come_with_the_error(pair: ProcessTransport) -> None:
    def fail_on_one(hosted: Hosted) -> str:
        if hosted.context.rank == 1:
            time.sleep(0.1)
            raise ValueError("no")
        return "fine"

    with pytest.raises(WorkerError) as caught:
        ask(pair, "apply", fail_on_one)
    assert caught.value.results == {0: "fine"}


@pytest.mark.parametrize("has_failed_already", [False, True])
def test_calls_behind_a_failed_one_do_nothing_and_say_so(pair: ProcessTransport, has_failed_already: bool) -> None:
    ask(pair, "apply", lambda hosted: hosted.calls.clear())
    calls = [pair.call("misbehave", "raise", 0, "before")]
    assert pair.ready(calls[0], timeout=60.0 * has_failed_already) or not has_failed_already
    calls += [pair.call("echo", 1), pair.call("echo", 2)]
    for index, call in enumerate(calls):
        with pytest.raises(WorkerError) as caught:
            pair.gather(call)
        assert caught.value.cause.kind == ("aborted" if index else "raised")
    assert ask(pair, "history") == [[], []]
    assert ask(pair, "echo", 3) == [3, 3]


def test_exceptions_that_cannot_travel_are_told_in_words(pair: ProcessTransport) -> None:
    def fail(_: Hosted) -> None:
        class Awkward(Exception):
            def __init__(self, first: int, second: int) -> None:
                super().__init__(f"{first} and {second}")

        raise Awkward(1, 2)

    with pytest.raises(WorkerError, match=r"Awkward: 1 and 2") as caught:
        ask(pair, "apply", fail)
    assert caught.value.__cause__ is None
    assert "in fail" in caught.value.cause.traceback


def test_a_message_of_any_length_arrives_shortened(pair: ProcessTransport) -> None:
    def fail(_: Hosted) -> None:
        raise ValueError("x" * 1_000_000 + "the end")

    with pytest.raises(WorkerError, match="the end") as caught:
        ask(pair, "apply", fail)
    assert len(str(caught.value)) < 100_000


def test_results_that_cannot_be_pickled_are_an_error_of_the_call(pair: ProcessTransport) -> None:
    with pytest.raises(WorkerError, match="cannot pickle 'generator'"):
        ask(pair, "apply", lambda _: (x for x in range(3)))
    assert ask(pair, "echo", 1) == [1, 1]


def test_arguments_that_cannot_be_pickled_are_refused_before_anything_is_sent(pair: ProcessTransport) -> None:
    with pytest.raises(LearnerGroupError, match="The arguments of 'echo' can't be sent"):
        pair.call("echo", (x for x in range(3)))
    assert ask(pair, "echo", 1) == [1, 1]


def test_a_method_that_is_not_there_is_an_error(pair: ProcessTransport) -> None:
    with pytest.raises(WorkerError, match="no attribute 'nonsense'"):
        ask(pair, "nonsense")


def test_leaving_the_interpreter_does_not_end_a_worker(pair: ProcessTransport) -> None:
    with pytest.raises(WorkerError, match="Rank 0 of 2 raised in 'misbehave': SystemExit: enough"):
        ask(pair, "misbehave", "SystemExit", 0, "before")
    assert pair.lost == ()


def test_no_room_for_a_request_is_an_error_in_the_driver(pair: ProcessTransport) -> None:
    with limit(resource.RLIMIT_FSIZE, 1 << 20), pytest.raises(SharedMemoryError, match="No room for"):
        pair.call("echo", np.zeros(1 << 20))
    assert ask(pair, "echo", 1) == [1, 1]


def test_no_room_for_a_result_or_a_sum_is_an_error_of_that_rank(pair: ProcessTransport) -> None:
    def with_limit(hosted: Hosted, what: str) -> Any:
        if hosted.context.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        return np.zeros(1 << 20) if what == "result" else hosted.reduce(1 << 20)

    for what in ("result", "sum"):
        with pytest.raises(WorkerError, match=r"Rank 1 of 2 raised .*SharedMemoryError: No room for"):
            ask(pair, "apply", with_limit, what)
        ask(pair, "apply", lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED))
    assert torch.equal(*ask(pair, "reduce", 1 << 20))


def test_memory_that_runs_out_in_a_rank_is_an_error_of_that_rank(pair: ProcessTransport) -> None:
    with pytest.raises(WorkerError, match=r"Rank 1 of 2 raised .*MemoryError"):
        ask(pair, "misbehave", "memory", 1, "between")
    assert torch.equal(*ask(pair, "reduce", 5000))


def test_tickets_of_another_transport_are_refused(pair: ProcessTransport) -> None:
    with pytest.raises(LearnerGroupError, match="another transport"):
        pair.gather(Call("echo", [0]))


def test_a_second_group_lives_beside_the_first_can_start_again_and_leaves_nothing(pair: ProcessTransport) -> None:
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    transport = ProcessTransport(num_threads=2)
    transport.start(partial(Hosted, tag="first"), 2)
    mine, theirs = pair.call("reduce", 50_000, rounds=10), transport.call("reduce", 50_000, rounds=10)
    assert torch.equal(pair.gather(mine)[0], transport.gather(theirs)[1])
    del mine, theirs

    first = transport.pids
    pending = transport.call("apply", lambda _: time.sleep(60))
    transport.start(partial(Hosted, tag="second"), 3)
    about = ask(transport, "about")
    assert [(a["tag"], a["world_size"], a["threads"]) for a in about] == [("second", 3, 2)] * 3
    assert not any(is_alive(pid) for pid in first)
    with pytest.raises(WorkerError, match="the transport was stopped"):
        transport.gather(pending)
    del pending  # holds the memory of its call

    assert len(children() - before) == 3  # both share the process that makes workers
    transport.stop()
    transport.stop()
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert transport.num_workers == 0
    with pytest.raises(LearnerGroupError, match=r"call start\(\) first"):
        transport.call("echo", 1)
    assert ask(pair, "echo", 1) == [1, 1]


def test_a_factory_that_fails_is_named_and_leaves_nothing_behind() -> None:
    before = children()

    def factory(context: Any) -> Hosted:
        if context.rank == 1:
            raise RuntimeError("no such device")
        return Hosted(context)

    transport = ProcessTransport()
    with pytest.raises(WorkerError, match="Rank 1 of 2 raised in 'start': RuntimeError: no such device"):
        transport.start(factory, 2)
    assert children() == before
    with pytest.raises(LearnerGroupError, match="1 worker or more, not 0"):
        transport.start(Hosted, 0)


def test_idle_workers_use_no_processor_time(pair: ProcessTransport) -> None:
    def used() -> list[float]:
        return ask(pair, "apply", lambda _: time.process_time())

    before = used()
    time.sleep(1.0)
    assert all(after - start < 0.05 for start, after in zip(before, used(), strict=True))
