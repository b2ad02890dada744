"""What the bot needs of whatever generates text: the worker process here, a fake in the tests.

Knows the values that cross the boundary, not how or where the models run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from core.records import Message
from model.sampling import SamplingParams
from model.worker.messages import Finished, ModelInfo, Queued, Ready, Rendered, TextDelta


class GenerationBackend(Protocol):
    """Generates replies with the models in its memory; never blocks the event loop."""

    @property
    def ready(self) -> Ready | None:
        """The latest handshake; None before the first."""

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """The models in memory, by source."""

    @property
    def quarantined(self) -> Mapping[str, str]:
        """The models that are refused until `load` tries them again, and why."""

    @property
    def pid(self) -> int | None:
        """The process that holds the models; None while there is none."""

    @property
    def restarts(self) -> int:
        """How often that process died and was replaced."""

    @property
    def num_pending(self) -> int:
        """Requests that have not ended."""

    async def load(self, source: str) -> ModelInfo:
        """Load a model beside the others; again, if it is loaded already or was quarantined.

        Raises:
            LoadFailed: the message says why; the models loaded before keep answering.
            WorkerDied: the backend stopped while loading.
        """

    def generate(
        self,
        source: str,
        messages: Sequence[Message],
        params: SamplingParams,
        *,
        channel: int = 0,
        scope: int = 0,
    ) -> AsyncGenerator[Queued | TextDelta | Finished, None]:
        """Stream the reply to the last of `messages`; the last item is Finished.

        The first may be Queued, if others are served before. See `Generate` for `channel` and
        `scope`. Closing the iterator early aborts the request.

        Raises:
            GenerationFailed, LoadFailed, WorkerDied: there is no (more) reply.
        """

    async def render(
        self, source: str, messages: Sequence[Message], max_new_tokens: int
    ) -> Rendered:
        """The prompt that the model would see.

        Raises:
            LoadFailed, WorkerDied: there is no model to ask.
        """

    def abort(self, request_id: int) -> None:
        """End a reply early: its stream still ends with Finished, holding the text so far."""

    def prefetch(self, source: str, messages: Sequence[Message], channel: int) -> None:
        """Hint how the channel's next prompt will begin, to be prefilled when idle."""

    def drop_caches(self) -> None:
        """Drop what is cached of all conversations; replies in progress leave nothing."""

    async def ping(self, timeout_s: float = 5.0) -> float:
        """The round trip in seconds.

        Raises:
            WorkerDied: no answer in time.
        """
