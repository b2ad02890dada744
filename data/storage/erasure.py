"""Forgetting a member, and what is too old: in small batches, so that chat goes on between them.

Knows the order of the steps. Does not know SQL, Discord, or files outside the database: the
snapshots of jobs (`Storage.jobs_with_member`) are the caller's to remove, in `ExternalErasure`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from core.records import ErasureResult
from data.storage.storage import Storage

ERASURE_BATCH_ROWS = 100
"""Rows that one statement erases: a moment for which whoever else needs the database waits."""

ExternalErasure = Callable[[int], Awaitable[None]]
"""Removes what is outside the database of a member; it may be called more than once."""


async def erase_member(
    storage: Storage,
    user_id: int,
    batch: int = ERASURE_BATCH_ROWS,
    *,
    erase_external: ExternalErasure | None = None,
) -> ErasureResult:
    """Erase what holds words of a member in every scope, and withdraw their consents.

    Gone are: what they wrote, the bot's replies to them and what those were made from, the examples
    that hold their words or that they taught, and their ratings. Of their consents the ledger keeps
    versions and dates. Which jobs learned their words stays known until `remove_sources_of_member`,
    so that checkpoints can be named.

    It may be called again at any time, and goes on where it was interrupted: as long as it has not
    ended, the member is among `unfinished_erasures`. That is so too if another program kept the
    database open for so long that its log could not be emptied. `erase_external` is called when
    nothing is left in the database that a job could learn, and before the end.

    Raises:
        StoreError: what was erased until then is gone; call it again.
    """
    await storage.erasures.begin(user_id)
    gone = ErasureResult(consents=await storage.erasures.withdraw_consents(user_id))
    while erased := await storage.erasures.erase_batch(user_id, batch):
        gone += erased
    if erase_external is not None:
        await erase_external(user_id)
    if await storage.erasures.truncate_wal():
        await storage.erasures.end(user_id)
    return gone


async def resume_erasures(
    storage: Storage, *, erase_external: ExternalErasure | None = None
) -> None:
    """Go on with every forgetting that was interrupted, when the bot starts."""
    for user_id in await storage.erasures.unfinished():
        await erase_member(storage, user_id, erase_external=erase_external)


async def purge_older_than(
    storage: Storage, before: datetime, batch: int = ERASURE_BATCH_ROWS
) -> int:
    """Erase all messages and records of replies that are older; how many there were."""
    erased = 0
    while count := await storage.erasures.purge_batch(before, batch):
        erased += count
    return erased
