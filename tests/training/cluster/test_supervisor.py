"""The supervisor of a driver, which is a process here that does what the test says, without Ray."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from core.cluster.connection import NO_ANSWER
from training.cluster import supervisor
from training.cluster.supervisor import Supervisor, last_word
from training.jobs.events import Event, Failed, Lost, Paused, Saved, Waiting, to_line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send")
KILLED = "os.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RETRY_S", 0.0)


class Drivers:
    """Drivers that run a program, each counting those before it in `starts`; `told` is what the bot
    hears."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Event] = []
        self._starts = folder / "starts"
        self._starts.touch()

    def supervised(
        self,
        program: str,
        tell: Callable[[Event], None] | None = None,
        reach_s: float = 60.0,
    ) -> Supervisor:
        beginning = (
            "import os, signal, sys\n"
            f"file = open({str(self._starts)!r}, 'a+')\n"
            "starts = os.fstat(file.fileno()).st_size\n"
            "file.write('x')\nfile.flush()\n"
            "def say(text): print(text, flush=True)\n"
        )
        command = (sys.executable, "-c", beginning + program)
        return Supervisor(command, tell or self.told.append, reach_s)

    @property
    def num_started(self) -> int:
        return self._starts.stat().st_size


@pytest.fixture
def drivers(tmp_path: Path) -> Drivers:
    return Drivers(tmp_path)


def said(event: Event) -> str:
    return f"say({to_line(event)!r})\n"


def ended(status: int) -> str:
    return f"sys.stdout.write({last_word(status)!r})\n"


@pytest.mark.parametrize("status", [0, 1, 7, -9])
def test_a_run_ends_as_its_driver_says(drivers: Drivers, status: int) -> None:
    supervised = drivers.supervised(said(Saved(3)) + "say('a library')\n" + ended(status))
    assert supervised.run() == status
    assert drivers.told == [Saved(3)]
    assert drivers.num_started == 1


@pytest.mark.parametrize("end", [KILLED, "sys.exit(0)\n", "sys.exit(1)\n"])
def test_a_driver_that_ray_ends_has_lost_the_run(drivers: Drivers, end: str) -> None:
    assert drivers.supervised(said(Saved(3)) + end).run() == 1
    assert drivers.told == [Saved(3), Lost()]
    assert drivers.num_started == 1, "the bot resumes the job"


def test_another_one_tries_where_nothing_has_begun(drivers: Drivers) -> None:
    """As where the node that it joins only starts."""
    program = said(Waiting()) + "if starts < 2: " + KILLED + said(Paused(0)) + ended(0)
    assert drivers.supervised(program).run() == 0
    assert drivers.told == [*[Waiting()] * 3, Paused(0)]
    assert drivers.num_started == 3


def test_that_is_given_up_with_a_sentence(drivers: Drivers) -> None:
    assert drivers.supervised(KILLED, reach_s=0.0).run() == 1
    assert drivers.told == [Failed(NO_ANSWER, resumable=True)]


def test_the_wait_begins_anew_after_a_driver_that_had_a_cluster(
    drivers: Drivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STABLE_S", 0.0)
    program = f"if not starts: {KILLED}{ended(0)}"
    assert drivers.supervised(program, reach_s=0.0).run() == 0


def test_each_driver_hears_what_was_said(drivers: Drivers) -> None:
    """The end of stdin means that the bot is gone, and is a `pause`."""
    stdin, bot = os.pipe()
    program = (
        "first = sys.stdin.readline()\n"
        f"if not starts: {KILLED}"
        f"{said(Saved(1))}"
        "heard = [first, sys.stdin.readline(), sys.stdin.readline()]\n"
        "print('ended', int(heard != ['hold\\n', 'go\\n', 'pause\\n']), flush=True)\n"
    )

    def tell(event: Event) -> None:
        drivers.told.append(event)
        os.write(bot, b"go\n")
        os.close(bot)

    supervised = drivers.supervised(program, tell)
    os.write(bot, b"hold\n")
    listening = threading.Thread(target=supervised.listen, args=(stdin,))
    listening.start()
    assert supervised.run() == 0
    assert drivers.told == [Saved(1)]
    listening.join()
    os.close(stdin)


def test_it_is_stopped_with_its_driver(drivers: Drivers) -> None:
    """Which may have something to end first, and may be about to start."""
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('ended', 143, flush=True)))\n"
        f"{said(Saved(1))}"
        "signal.pause()\n"
    )
    supervised: Supervisor

    def tell(event: Event) -> None:
        drivers.told.append(event)
        supervised.stop()

    supervised = drivers.supervised(program, tell)
    assert supervised.run() == 128 + signal.SIGTERM
    assert drivers.told == [Saved(1)]
    late = drivers.supervised("signal.pause()\n")
    late.stop()
    assert late.run() == 128 + signal.SIGTERM
