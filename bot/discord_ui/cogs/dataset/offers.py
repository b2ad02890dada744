"""The imports that wait for their confirmation, and how many files are read at a time.

Each offer keeps a folder on the disk until it is answered. A newer import of the same member takes
the place of the older one; if a server, or all servers together, have too many, the oldest goes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

from bot.discord_ui.client import BotInteraction
from bot.discord_ui.views.confirm import ConfirmView
from data.formats.sandbox.staged import StagedImport
from i18n.phrase import phrase
from i18n.reader import say

MAX_OFFERS_PER_SERVER = 3
MAX_OFFERS = 12
"""In all servers together; each may keep some 200 MB on the disk, and seldom keeps one."""
MAX_CONCURRENT_READS = 2
"""Files read at a time, in all servers together; each may take a gigabyte of memory."""
REPLACED = phrase("Nothing was imported: a newer import took the place of this one.")


@dataclass(slots=True, eq=False)
class Offer:
    """A member's import, from the upload to the answer."""

    scope: int
    member: int
    shown: BotInteraction
    folder: Path
    replaced_text: str
    """In the member's language."""
    reading: asyncio.Task[StagedImport] | None = None
    view: ConfirmView | None = None


@dataclass(slots=True)
class Offers:
    """The open offers, oldest first; their folders are in `folder`."""

    folder: Path
    _open: list[Offer] = field(default_factory=list)

    async def begin(self, shown: BotInteraction, scope: int) -> Offer:
        """A new offer, with an empty folder; one that it replaces is withdrawn."""
        member = shown.user.id
        older = [one for one in self._open if (one.scope, one.member) == (scope, member)]
        offer = Offer(scope, member, shown, self.folder / uuid4().hex, say(REPLACED))
        self._open.append(offer)  # before anything is awaited: the next one must find it
        await asyncio.to_thread(offer.folder.mkdir, mode=0o700)
        for one in older:
            await self._withdraw(one)
        return offer

    async def present(self, offer: Offer, view: ConfirmView) -> bool:
        """Let an offer wait for an answer, and withdraw the oldest if they are too many.

        False if it was withdrawn itself while it was read."""
        if view.is_finished():  # it is answered already
            return True
        if offer not in self._open:
            await self._show_replaced(offer, view)
            return False
        offer.view = view
        waiting = [one for one in self._open if one.view]
        of_server = [one for one in waiting if one.scope == offer.scope]
        for one in {*of_server[:-MAX_OFFERS_PER_SERVER], *waiting[:-MAX_OFFERS]}:
            await self._withdraw(one)
        return True

    def claim(self, offer: Offer) -> None:
        """Keep an offer that is being imported from being withdrawn."""
        with suppress(ValueError):
            self._open.remove(offer)

    def close(self, offer: Offer) -> None:
        """Forget an offer and remove its folder, if that was not done yet."""
        self.claim(offer)
        shutil.rmtree(offer.folder, ignore_errors=True)

    async def _withdraw(self, offer: Offer) -> None:
        if offer not in self._open:  # it was answered while others were withdrawn
            return
        if offer.view:
            self.close(offer)
            await self._show_replaced(offer, offer.view)
            return
        self.claim(offer)  # whoever reads its file still needs the folder, and closes it
        if offer.reading:
            offer.reading.cancel()

    async def _show_replaced(self, offer: Offer, view: ConfirmView) -> None:
        view.stop()
        await view.show_end(offer.replaced_text)


class ReadSlots:
    """Lets a few files be read at a time, and only one of each server."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._servers: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, scope: int) -> AsyncIterator[None]:
        """Wait for a slot, and keep it in the block."""
        server = self._servers.setdefault(scope, asyncio.Lock())
        async with server, self._all:
            yield
