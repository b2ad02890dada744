"""Checks of what the bot needs: run concurrently, each with a timeout, reported as findings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

from i18n.phrase import Phrase, phrase

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `advice` says what to do about a problem, and is "" if there is none.

    The texts are Phrases: programs read them in English, people in their own language.
    """

    name: str
    detail: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        return not self.advice


@dataclass(frozen=True, slots=True)
class Check:
    """A check; `names` are those of its findings."""

    names: tuple[str, ...]
    run: Callable[[], Awaitable[Sequence[Finding]]]
    timeout_s: float


def thread_check(name: str, run: Callable[[], Finding], timeout_s: float) -> Check:
    """A check that blocks, in a thread of its own."""

    async def findings() -> Sequence[Finding]:
        return [await run_in_daemon_thread(run)]

    return Check((name,), findings, timeout_s)


async def run_all(checks: Sequence[Check]) -> list[Finding]:
    """The findings of all checks, in order."""
    found = await asyncio.gather(*map(_run, checks))
    return [finding for findings in found for finding in findings]


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.timeout_s):
            return await check.run()
    except TimeoutError:
        detail = phrase("There was no answer within {seconds:g} seconds.", seconds=check.timeout_s)
        advice = phrase(
            "Find out what keeps this machine, its disk or its network busy, then try again."
        )
    except Exception as e:  # a broken check must not hide the findings of the others
        log.debug("the check of %s failed", check.names, exc_info=e)
        kind = type(e).__name__
        detail = phrase("It could not be checked ({kind}: {error}).", kind=kind, error=e)
        advice = phrase("This should not happen: please report it.")
    return [Finding(name, detail, advice) for name in check.names]


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Run it in a thread that does not delay the end of the process: a disk may never answer."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as e:
            outcome.set_exception(e)

    Thread(target=run, name="gpt2bot-check", daemon=True).start()
    return await asyncio.wrap_future(outcome)


def refer_to(name: str) -> Phrase:
    """The advice of a check that depends on another one."""
    return phrase("See the line “{name}”.", name=name)
