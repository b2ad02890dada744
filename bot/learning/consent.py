"""The consent text that a member accepts before their messages are learned.

A consent covers only what the member read: to change what is learned, or who sees it, change the
text in all languages and raise CONSENT_VERSION.
"""

from __future__ import annotations

from i18n.phrase import phrase

CONSENT_VERSION = 1

CONSENT_TEXT = phrase(
    """\
**May I learn from what you say to me in this server?**
- **What is learned:** what you say to me in the channels where I answer every message, together \
with what I answered; from now on, not from before. It waits until somebody who looks after the \
data set here has read and approved it. Only then is it learned, at the next retrain.
- **Who sees it:** those who look after the data set here, and whoever runs me. A model can repeat \
what it learned, so anybody who talks with me here may read some of it: please tell me nothing \
that they should not know.
- **How to withdraw:** `/privacy opt-out`, at any time. What still waits is erased, and nothing of \
it is learned from then on. `/privacy forget` erases everything that I keep about you.
- **What cannot be taken back at once:** what a checkpoint (a trained model) has learned stays in \
it until a new one is trained without it.

This is for this server only. You can chat with me just the same if you say no."""
)

CHAT_LEARNING_OFF = phrase(
    "I do not learn from conversations: the operator has not switched it on. "
    "There is nothing that you need to agree to."
)
