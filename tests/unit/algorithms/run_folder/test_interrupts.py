import os
import signal
import threading

import pytest

from unison.algorithms.run_folder.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_an_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    asked: list[bool] = []
    with Interrupts(lambda: asked.append(True)) as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), number)
        assert interrupts.requested
        assert asked == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_hold() -> tuple[int, int]:
    """A child that runs and exits with 7 when the write end that is returned is closed."""
    read, write = os.pipe()
    is_ready, says_ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.write(says_ready, b".")
        os.read(read, 1)
        os._exit(7)
    os.read(is_ready, 1)
    for descriptor in (read, is_ready, says_ready):
        os.close(descriptor)
    return child, write


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_ignores_the_terminals_ctrl_c() -> None:
    with Interrupts():
        child, pipe = fork_and_hold()
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGINT)
        os.close(pipe)
        assert wait_for(child) == 7


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_can_still_be_terminated() -> None:
    with Interrupts():
        child, pipe = fork_and_hold()
        os.kill(child, signal.SIGTERM)
        assert wait_for(child) == -signal.SIGTERM
        os.close(pipe)


def test_outside_the_main_thread_it_does_nothing() -> None:
    found: list[bool] = []

    def enter() -> None:
        with Interrupts() as interrupts:
            found.append(interrupts.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]
