"""When a silence counts as a hang: on a clock of the test's own."""

from __future__ import annotations

import asyncio

from model.worker.watchdog import Watchdog

PING_S, HANG_S = 5.0, 30.0


class Rounds:
    """A watchdog whose pauses take no time; in each of them `script` says what happens.

    It is the seconds that the pause took (0: as long as it was to take), and whether the worker
    spoke in it. The script's end ends the watch.
    """

    def __init__(self, *script: tuple[float, bool]) -> None:
        self._script = list(script)
        self.now = 0.0
        self.asked = 0
        self.hung_after: int | None = None
        self._dog = Watchdog(
            self._ask,
            self._hang,
            ping_s=PING_S,
            hang_s=HANG_S,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _ask(self) -> None:
        self.asked += 1

    def _hang(self) -> None:
        self.hung_after = self.asked

    async def _sleep(self, seconds: float) -> None:
        if not self._script:
            raise asyncio.CancelledError
        took, spoke = self._script.pop(0)
        self.now += took or seconds
        if spoke:
            self._dog.saw_event = True

    def run(self) -> int | None:
        """After how many questions it is taken to hang; None: never."""
        try:
            asyncio.run(self._dog.watch())
        except asyncio.CancelledError:
            return None
        return self.hung_after


SILENCE, ANSWER = (0.0, False), (0.0, True)


def test_a_worker_that_answers_is_left_alone_for_ever() -> None:
    assert Rounds(*100 * [ANSWER]).run() is None


def test_a_silent_worker_hangs_after_its_time_and_no_earlier() -> None:
    assert Rounds(*100 * [SILENCE]).run() == HANG_S / PING_S
    assert Rounds(ANSWER, *5 * [SILENCE]).run() is None


def test_a_slow_worker_that_answers_now_and_then_lives() -> None:
    assert Rounds(*50 * [*4 * [SILENCE], ANSWER]).run() is None


def test_a_bot_that_was_stopped_itself_does_not_kill_a_healthy_worker() -> None:
    """However long it was stopped, and however often: what the worker said is not read yet."""
    assert Rounds(*3 * [SILENCE], (86_400.0, False), ANSWER, *5 * [SILENCE]).run() is None
    assert Rounds(*50 * [(3600.0, False)]).run() is None


def test_a_worker_that_hung_before_the_bot_was_stopped_is_found_after_it() -> None:
    script = [*3 * [SILENCE], (86_400.0, False), *3 * [SILENCE]]
    assert Rounds(*script).run() == len(script)
