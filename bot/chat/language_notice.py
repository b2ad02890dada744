"""What a channel is told of its model's Japanese: once, in one line under a reply.

Knows the loaded models' facts. Does not know Discord; what it says is no part of a conversation.
"""

from __future__ import annotations

from bot.chat.request import ReplyRequest
from core.japanese import is_japanese
from core.once import Once
from i18n.catalogue import JAPANESE
from i18n.phrase import phrase
from model.backend import GenerationBackend


class JapaneseNotice:
    """Tells each channel once, until the bot starts again."""

    def __init__(self, worker: GenerationBackend) -> None:
        self._worker = worker
        self._notified: Once[int] = Once()

    def notice_for(self, request: ReplyRequest) -> str | None:
        """What to say, in Japanese, under the reply to who writes it; it counts as said.

        A model that stands in for another one is not spoken of: it goes soon.
        """
        facts = self._worker.models.get(request.serving.option.source)
        if facts is None or facts.japanese or request.serving.note:
            return None
        if not is_japanese(request.asked_text) or not self._notified.first(request.channel_id):
            return None
        weak = phrase(
            "{name} knows little Japanese. Whoever runs me can add a model that speaks it: "
            "`docs/japanese.md` says how.",
            name=request.serving.option.name,
        )
        return weak.translate_to(JAPANESE)
