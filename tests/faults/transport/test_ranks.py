"""A rank dies, hangs or raises at any moment of a call: the others come back, the error says what happened, and
once the lost rank is replaced all go on."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from support.hosted import Hosted, children, is_alive, wait_until
from unison.learner_group.failures import WorkerError
from unison.learner_group.processes import ProcessTransport
from unison.learner_group.processes.calls import WorkerProcess

BAD = 1
DIED = {"SIGKILL": "killed by SIGKILL", "SIGSEGV": "signal 11", "exit": "exited with code 3"}


def ask(transport: ProcessTransport, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
    return transport.gather(transport.call(method, *arguments, **keywords))


def check_that_all_go_on(transport: ProcessTransport) -> None:
    transport.restart(transport.lost)
    assert transport.lost == ()
    assert [about["rank"] for about in ask(transport, "about")] == [0, 1, 2]
    sums = ask(transport, "reduce", 3000, rounds=5)
    generators = [torch.Generator().manual_seed(rank) for rank in range(3)]
    expected = torch.zeros(3000)
    for _ in range(5):
        a, b, c = (torch.randn(3000, generator=generator) for generator in generators)
        expected += (a + b) + c
    assert all(torch.equal(result, expected) for result in sums)


@pytest.mark.parametrize("when", ["before", "between", "after"])
@pytest.mark.parametrize("how", DIED)
def test_a_rank_dies(trio: ProcessTransport, how: str, when: str) -> None:
    pids = trio.pids
    start = time.monotonic()
    with pytest.raises(WorkerError, match=f"Rank 1 of 3 died in 'misbehave': .*{DIED[how]}") as caught:
        ask(trio, "misbehave", how, BAD, when)
    assert time.monotonic() - start < 20.0
    error = caught.value
    assert (error.cause.kind, error.cause.rank, error.lost, trio.lost) == ("died", BAD, (BAD,), (BAD,))
    gave_up = {rank: failure.reason for rank, failure in error.failures.items() if failure.kind == "aborted"}
    assert set(error.results) | set(gave_up) == {0, 2}
    assert when == "after" or set(gave_up) == {0, 2}
    assert not any("Timeout" in reason for reason in gave_up.values())  # freed at once, not at the deadline
    assert not is_alive(pids[BAD])
    assert [a["pid"] for a in ask(trio, "about", ranks=[0, 2])] == [pids[0], pids[2]]
    check_that_all_go_on(trio)
    assert trio.pids[BAD] != pids[BAD]
    assert trio.pids[0] == pids[0]


@pytest.mark.parametrize(
    ("how", "when"), [("SIGSTOP", "before"), ("SIGSTOP", "between"), ("SIGSTOP", "after"), ("loop", "between")]
)
def test_a_rank_hangs(trio: ProcessTransport, how: str, when: str) -> None:
    pids = trio.pids
    start = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"Rank 1 of 3 hung in 'misbehave': it did not answer for .* killed .*raise learner_timeout_s"
    ) as caught:
        ask(trio, "misbehave", how, BAD, when)
    assert time.monotonic() - start < 20.0
    assert (caught.value.cause.kind, caught.value.lost) == ("hung", (BAD,))
    assert ("in misbehave" in str(caught.value)) == (how == "loop")
    assert ("the process was stopped" in str(caught.value)) == (how == "SIGSTOP")
    assert not is_alive(pids[BAD])
    check_that_all_go_on(trio)
    assert trio.pids[0] == pids[0]


@pytest.mark.parametrize("when", ["before", "between", "after"])
@pytest.mark.parametrize("how", ["raise", "memory"])
def test_a_rank_raises(trio: ProcessTransport, how: str, when: str) -> None:
    pids = trio.pids
    with pytest.raises(WorkerError, match=r"Rank 1 of 3 raised in 'misbehave'") as caught:
        ask(trio, "misbehave", how, BAD, when)
    assert "in misbehave" in caught.value.cause.traceback
    assert caught.value.lost == ()
    check_that_all_go_on(trio)
    assert trio.pids == pids


def test_several_ranks_die_at_once(trio: ProcessTransport) -> None:
    def die(hosted: Hosted) -> None:
        if hosted.context.rank != 2:
            os.kill(os.getpid(), signal.SIGKILL)
        hosted.collective.all_reduce_(torch.zeros(1))

    with pytest.raises(WorkerError) as caught:
        ask(trio, "apply", die)
    assert caught.value.lost == (0, 1)
    assert caught.value.failures[2].kind == "aborted"
    check_that_all_go_on(trio)


def test_a_rank_that_dies_idle_is_noticed_by_the_next_call_and_nothing_is_sent(trio: ProcessTransport) -> None:
    ask(trio, "apply", lambda hosted: hosted.calls.clear())
    os.kill(trio.pids[BAD], signal.SIGKILL)
    assert wait_until(lambda: not is_alive(trio.pids[BAD]))
    with pytest.raises(WorkerError, match="Rank 1 of 3 died in 'echo': it was killed by SIGKILL"):
        trio.call("echo", 5)
    with pytest.raises(WorkerError, match="Rank 1 of 3 died"):
        trio.call("echo", 6, ranks=[1, 2])
    assert ask(trio, "history", ranks=[0, 2]) == [[], []]
    check_that_all_go_on(trio)


def test_a_rank_that_dies_while_nobody_looks_ends_all_calls_under_way(trio: ProcessTransport) -> None:
    calls = [trio.call("misbehave", "SIGKILL", BAD, "between"), trio.call("reduce", 10), trio.call("echo", 1)]
    assert wait_until(lambda: not is_alive(trio.pids[BAD]))
    assert all(trio.ready(call, timeout=30.0) for call in calls)
    for call in calls:
        with pytest.raises(WorkerError) as caught:
            trio.gather(call)
        assert (caught.value.cause.kind, caught.value.cause.rank) == ("died", BAD)
    check_that_all_go_on(trio)


def test_ranks_that_are_only_late_say_so_and_live(trio: ProcessTransport) -> None:
    def be_late(hosted: Hosted) -> None:
        if hosted.context.rank == 0:
            time.sleep(2.5)  # longer than the deadline, less than that and the grace
        hosted.collective.all_reduce_(torch.zeros(1))

    with pytest.raises(WorkerError, match="Nobody hung: allow more time") as caught:
        ask(trio, "apply", be_late)
    assert caught.value.cause.kind == "raised"
    assert trio.lost == ()
    check_that_all_go_on(trio)


def test_more_time_can_be_given_to_a_call(trio: ProcessTransport) -> None:
    call = trio.call("apply", lambda hosted: time.sleep(3.5))
    assert trio.gather(call, timeout=60.0) == [None] * 3


def test_a_living_rank_can_be_replaced(trio: ProcessTransport) -> None:
    pids = trio.pids
    ask(trio, "reduce", 10, rounds=7)
    trio.restart([0, 2])
    assert trio.pids[1] == pids[1]
    assert not {trio.pids[0], trio.pids[2]} & set(pids)
    check_that_all_go_on(trio)


def test_the_same_rank_dies_again_and_again_and_nothing_piles_up(trio: ProcessTransport) -> None:
    check_that_all_go_on(trio)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        trio.restart(trio.lost)
        with pytest.raises(WorkerError, match="Rank 1 of 3 died"):
            ask(trio, "misbehave", "SIGKILL", BAD, "between")
        trio.restart([BAD])
    check_that_all_go_on(trio)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_a_rank_has_started_dies_with_it(trio: ProcessTransport) -> None:
    def start_a_child(hosted: Hosted) -> int:
        return subprocess.Popen(["sleep", "1000"]).pid

    pids = ask(trio, "apply", start_a_child)
    assert all(is_alive(pid) for pid in pids)
    with pytest.raises(WorkerError, match="Rank 1 of 3 died"):
        ask(trio, "misbehave", "SIGKILL", BAD, "before")
    assert wait_until(lambda: not is_alive(pids[BAD]))
    trio.restart([0, 1, 2])
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_restart_whose_factory_fails_leaves_the_rank_lost_until_the_next(trio: ProcessTransport, veto: Path) -> None:
    with pytest.raises(WorkerError, match="Rank 1 of 3 died"):
        ask(trio, "misbehave", "SIGKILL", BAD, "before")
    veto.touch()
    try:
        with pytest.raises(WorkerError, match="Rank 1 of 3 raised in 'start': RuntimeError: there is a veto"):
            trio.restart([BAD])
    finally:
        veto.unlink()
    assert trio.lost == (BAD,)
    with pytest.raises(WorkerError, match="Rank 1 of 3 died in 'echo': its object could not be made"):
        trio.call("echo")
    assert ask(trio, "echo", 1, ranks=[0, 2]) == [1, 1]
    check_that_all_go_on(trio)


def test_all_ranks_lost_and_their_nursery_too(trio: ProcessTransport) -> None:
    (nursery,) = {int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in trio.pids}
    family = {nursery, *trio.pids}
    assert nursery in children()
    os.kill(nursery, signal.SIGKILL)
    assert wait_until(lambda: not any(is_alive(pid) for pid in family))
    with pytest.raises(WorkerError, match="Rank 0 of 3 died in 'echo': the process that made it ended"):
        trio.call("echo")
    assert trio.lost == (0, 1, 2)
    check_that_all_go_on(trio)


def test_ctrl_c_while_an_answer_is_booked_loses_no_call(
    trio: ProcessTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WorkerProcess.answered
    interrupts = iter([KeyboardInterrupt])

    def answered(self: WorkerProcess) -> Any:
        call = real(self)
        for interrupt in interrupts:
            raise interrupt
        return call

    monkeypatch.setattr(WorkerProcess, "answered", answered)
    call = trio.call("about")
    with pytest.raises(KeyboardInterrupt):
        trio.gather(call)
    assert [about["rank"] for about in trio.gather(call)] == [0, 1, 2]
    check_that_all_go_on(trio)
