"""Running checks: all at once, each with its time, and none that hides the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

from bot.ops.checks.finding import Finding
from i18n.phrase import phrase

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at. `names` are those of its findings, `timeout_s` what it may take."""

    names: tuple[str, ...]
    run: Callable[[], Awaitable[Sequence[Finding]]]
    timeout_s: float


async def run_all(checks: Sequence[Check]) -> list[Finding]:
    """What all checks find, in their order."""
    found = await asyncio.gather(*map(_run, checks))
    return [finding for findings in found for finding in findings]


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.timeout_s):
            return await check.run()
    except TimeoutError:
        detail = phrase("There was no answer within {seconds:g} seconds.", seconds=check.timeout_s)
        advice = phrase(
            "See what keeps this machine, its disk or its network busy, then try again."
        )
    except Exception as e:  # whatever it is: the other findings are worth having
        log.debug("the check of %s failed", check.names, exc_info=e)
        detail = phrase(
            "It could not be checked ({kind}: {error}).", kind=type(e).__name__, error=e
        )
        advice = phrase("This should not happen: please report it.")
    return [Finding(name, False, detail, advice) for name in check.names]


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
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
