"""Running checks: all at once, each with its time, and none that hides the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

from bot.doctor.report import Finding

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at. `names` are those of its findings, `seconds` what it may take."""

    names: tuple[str, ...]
    look: Callable[[], Awaitable[Sequence[Finding]]]
    seconds: float


async def run_all(checks: Sequence[Check]) -> list[Finding]:
    """What all checks find, in their order."""
    found = await asyncio.gather(*map(_run, checks))
    return [finding for findings in found for finding in findings]


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        detail = f"There was no answer within {check.seconds:g} seconds."
        advice = "See what keeps this machine, its disk or its network busy, then try again."
    except Exception as e:  # whatever it is: the other findings are worth having
        log.debug("the check of %s failed", check.names, exc_info=e)
        detail = f"It could not be checked ({type(e).__name__}: {e})."
        advice = "This should not happen: please report it."
    return [Finding(name, False, detail, advice) for name in check.names]


async def in_thread(work: Callable[[], T]) -> T:
    """Run it in a thread that nobody waits for at the end: a disk, say, may never answer."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as e:
            outcome.set_exception(e)

    Thread(target=run, name="gpt2bot-check", daemon=True).start()
    return await asyncio.wrap_future(outcome)
