"""Ctrl-C waits for the end, or for where nothing is half changed; the program's own handler hears of it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from unison.learner_group import uninterrupted
from unison.learner_group.uninterrupted import Interruptible, Uninterrupted

Story = Callable[[list[str]], None]


@pytest.fixture(autouse=True)
def keeps_the_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def done_before_ctrl_c(story: Story) -> list[str]:
    """What a story has got done when KeyboardInterrupt ended it."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        story(done)
    return done


def in_a_thread(action: Callable[[], None]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_it_waits_for_the_end() -> None:
    def story(done: list[str]) -> None:
        with Uninterrupted():
            with Uninterrupted():
                ctrl_c()
                done.append("inner")
            done.append("outer")
        done.append("after")

    assert done_before_ctrl_c(story) == ["inner", "outer"]


def test_it_comes_where_it_may() -> None:
    def waits(done: list[str]) -> None:
        with Uninterrupted():
            ctrl_c()
            done.append("waited")
            with Interruptible():
                done.append("came late")
            done.append("came late")

    def comes(done: list[str]) -> None:
        with Uninterrupted(), Interruptible():
            ctrl_c()
            done.append("came late")

    assert done_before_ctrl_c(waits) == ["waited"]
    assert done_before_ctrl_c(comes) == []


def test_it_waits_while_the_first_one_is_dealt_with() -> None:
    def story(done: list[str]) -> None:
        with Uninterrupted():
            try:
                with Interruptible():
                    ctrl_c()
            except KeyboardInterrupt:
                ctrl_c()
                done.append("undone")

    assert done_before_ctrl_c(story) == ["undone"]


def test_it_waits_in_one_that_users_code_enters() -> None:
    def story(done: list[str]) -> None:
        with Uninterrupted(), Interruptible():
            with Uninterrupted():
                ctrl_c()
                done.append("inner")
            done.append("came late")

    assert done_before_ctrl_c(story) == ["inner"]


def test_one_that_follows_at_once_waits_too_and_later_ones_break_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def story(done: list[str]) -> None:
        with Uninterrupted(), Uninterrupted():
            ctrl_c()
            done.append("first")
            ctrl_c()
            done.append("second")

    assert done_before_ctrl_c(story) == ["first", "second"]
    monkeypatch.setattr(uninterrupted, "_PATIENCE_S", 0.0)
    assert done_before_ctrl_c(story) == ["first"]
    assert done_before_ctrl_c(story) == ["first"], "it holds anew after that"


def test_an_error_is_told_with_it() -> None:
    def story() -> None:
        with Uninterrupted():
            ctrl_c()
            raise ValueError("of the body")

    with pytest.raises(KeyboardInterrupt) as interrupt:
        story()
    assert isinstance(interrupt.value.__context__, ValueError)


def test_a_handler_that_does_not_raise_is_told_of_each_one_once() -> None:
    told: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = signal.signal(signal.SIGINT, handle)
    try:
        with Uninterrupted():
            ctrl_c()
            assert not told
            with Interruptible():
                assert told == [signal.SIGINT]
                ctrl_c()
                assert len(told) == 2
            ctrl_c()
            assert len(told) == 2
        assert len(told) == 3
        with Uninterrupted():
            ctrl_c()
            ctrl_c()
            assert len(told) == 3
        assert len(told) == 5
        assert signal.getsignal(signal.SIGINT) is handle
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_is_set_meanwhile_stays() -> None:
    told: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    try:
        with Uninterrupted(), Interruptible():
            signal.signal(signal.SIGINT, lambda number, _: told.append(number))
        ctrl_c()
        assert told == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_the_handler_meanwhile_passes_on_to_the_programs_own() -> None:
    before = signal.getsignal(signal.SIGINT)

    def waits(done: list[str]) -> None:
        with Uninterrupted():
            ctrl_c()
            done.append("waited")

    try:
        with Uninterrupted():
            found = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, found)  # as debuggers do, which put back what they have found
        assert done_before_ctrl_c(lambda _: ctrl_c()) == []
        assert done_before_ctrl_c(waits) == ["waited"]
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fork_of_another_thread_holds_nothing() -> None:
    codes: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            try:
                ctrl_c()
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    with Uninterrupted():
        in_a_thread(fork)
    assert codes == [7]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_nobody_handles_it_all_stays_as_it_is(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with Uninterrupted(), Interruptible():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_neither_hold_it_nor_let_it_through() -> None:
    def other() -> None:
        with Uninterrupted(), Interruptible():
            ctrl_c()  # which Python gives to the main thread

    def held_by_none(done: list[str]) -> None:
        in_a_thread(other)
        done.append("came late")

    def held_here(done: list[str]) -> None:
        with Uninterrupted():
            in_a_thread(other)
            done.append("waited")

    assert done_before_ctrl_c(held_by_none) == []
    assert done_before_ctrl_c(held_here) == ["waited"]
