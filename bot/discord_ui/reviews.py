"""A manager's decision about an example: the same for `/dataset review` and for the page."""

from __future__ import annotations

from bot.discord_ui.audit import write_audit_entry
from core.records import Example, ReviewStatus
from data.storage.storage import Storage
from i18n.phrase import phrase

REVIEW_AUDIT_ACTIONS = {
    ReviewStatus.APPROVED: phrase("dataset approve"),
    ReviewStatus.REJECTED: phrase("dataset reject"),
}


async def review_example(
    storage: Storage,
    scope: int,
    actor_id: int,
    example_id: int,
    review: ReviewStatus,
    *,
    seen: Example | None = None,
) -> bool:
    """Approve or reject an example, and record who did; False if there is none. With `seen`, also
    if it is not as it was seen any more."""
    done = await storage.examples.set_review(scope, example_id, review, seen)
    if done:
        await write_audit_entry(
            storage.audit, scope, actor_id, REVIEW_AUDIT_ACTIONS[review], str(example_id)
        )
    return done
