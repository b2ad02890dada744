"""Erases a member's data, and old data, in small batches: chat goes on between them.

Knows the order of the steps. Does not know SQL, Discord, or files outside the database: the caller
removes the snapshots of jobs (`Jobs.with_member`) in an `ExternalErasure`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from core.records import ErasureResult
from data.storage.storage import Storage

ERASURE_BATCH_ROWS = 100
"""Rows deleted by one statement, while which other users of the database wait."""

ExternalErasure = Callable[[int], Awaitable[object]]
"""Erases a member's data outside the database; may be called more than once."""


async def erase_member(
    storage: Storage,
    user_id: int,
    batch: int = ERASURE_BATCH_ROWS,
    *,
    erase_external: ExternalErasure | None = None,
) -> ErasureResult:
    """Erase what holds a member's words in every scope, and withdraw their consents.

    Erased are their messages, the bot's replies to them with their records, the examples that hold
    their words or that they taught, and their ratings. The consents keep their versions and dates.
    The jobs that learned their words stay known until `Jobs.remove_sources_of_member`: their
    checkpoints have to be named.

    An interrupted erasure is resumed by calling this again; until it has ended, the member is among
    `Erasures.unfinished`, also if another program kept the database open so that the WAL could not
    be truncated. `erase_external` runs once the database holds nothing that a job could learn.
    Raises StoreError: what was erased so far is gone; call this again."""
    await storage.erasures.begin(user_id)
    gone = ErasureResult(consents=await storage.consents.opt_out(None, user_id))
    while erased := await storage.erasures.erase_batch(user_id, batch):
        gone += erased
    await storage.erasures.anonymize(user_id)
    if erase_external is not None:
        await erase_external(user_id)
    if await storage.erasures.truncate_wal():
        await storage.erasures.end(user_id)
    return gone


async def resume_erasures(
    storage: Storage, *, erase_external: ExternalErasure | None = None
) -> None:
    """Resume all interrupted erasures, when the bot starts."""
    for user_id in await storage.erasures.unfinished():
        await erase_member(storage, user_id, erase_external=erase_external)


async def purge_older_than(
    storage: Storage, before: datetime, batch: int = ERASURE_BATCH_ROWS
) -> int:
    """Erase older messages and records of replies and introductions; return how many."""
    erased = 0
    while count := await storage.erasures.purge_batch(before, batch):
        erased += count
    return erased
