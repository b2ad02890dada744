"""Forgetting a member, and what is too old: in small batches, so that chat goes on between them.

Knows the order of the steps. Does not know SQL, Discord, or files outside the database: the
snapshots of jobs (`Store.jobs_with`) are the caller's to remove, in `Outside`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from core.records import Forgotten
from data.storage.store import Store

BATCH = 100
"""Rows that one statement erases: a moment for which whoever else needs the database waits."""

Outside = Callable[[int], Awaitable[None]]
"""Removes what is outside the database of a member; it may be called more than once."""


async def forget(
    store: Store, user_id: int, batch: int = BATCH, *, outside: Outside | None = None
) -> Forgotten:
    """Erase what holds words of a member in every scope, and withdraw their consents.

    Gone are: what they wrote, the bot's replies to them and what those were made from, the examples
    that hold their words or that they taught, and their ratings. Of their consents the ledger keeps
    versions and dates. Which jobs learned their words stays known until `remove_job_sources`, so
    that checkpoints can be named.

    It may be called again at any time, and goes on where it was interrupted: as long as it has not
    ended, the member is among `unfinished_forgettings`. That is so too if another program kept the
    database open for so long that its log could not be emptied. `outside` is called when nothing is
    left in the database that a job could learn, and before the end.

    Raises:
        StoreError: what was erased until then is gone; call it again.
    """
    await store.begin_forgetting(user_id)
    gone = Forgotten(consents=await store.withdraw_consents(user_id))
    while erased := await store.forget_batch(user_id, batch):
        gone += erased
    if outside is not None:
        await outside(user_id)
    if await store.empty_log():
        await store.end_forgetting(user_id)
    return gone


async def finish_forgettings(store: Store, *, outside: Outside | None = None) -> None:
    """Go on with every forgetting that was interrupted, when the bot starts."""
    for user_id in await store.unfinished_forgettings():
        await forget(store, user_id, outside=outside)


async def purge(store: Store, before: datetime, batch: int = BATCH) -> int:
    """Erase all messages and records of replies that are older; how many there were."""
    erased = 0
    while count := await store.purge(before, batch):
        erased += count
    return erased
