"""The chat templates of this project, for models that it trains and base models without one.

Knows the tokenizer. `model.chat_template` renders these templates and others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.japanese import has_japanese_letter, has_kana

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from model.tokenizer import AnyTokenizer

USER_TOKEN = "<|user|>"
BOT_TOKEN = "<|bot|>"

CONTROL_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<|bot|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
"""For models trained by this project: each turn starts with a control token and ends with EOS."""

_ONE_LINE = "message['content'].splitlines() | join(' ')"
"""Without any of Unicode's line breaks, so that no text can begin a line of another speaker."""
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}User: {{{{ {_ONE_LINE} }}}}\n"
    f"{{% else %}}Bot:{{% generation %}} {{{{ {_ONE_LINE} }}}}\n"
    "{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Bot:{% endif %}"
)
"""For a base GPT-2, which has never seen control tokens: a transcript, one line per turn."""

_QUOTES = {"「": "『", "」": "』", "｢": "『", "｣": "』", "﹁": "『", "﹂": "』"}
_CONTENT = f"({_ONE_LINE})" + "".join(f" | replace({a!r}, {b!r})" for a, b in _QUOTES.items())
JAPANESE_TEMPLATE = (
    "{% for message in messages %}"
    f"{{% if message['role'] == 'user' %}}ユーザー「{{{{ {_CONTENT} }}}}」"
    f"{{% else %}}ボット「{{% generation %}}{{{{ {_CONTENT} }}}}」"
    "{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ボット「{% endif %}"
)
"""For a Japanese base model: turns in quotation marks, as dialogue in a novel.

Many of these models have no token for a newline. Quotes within a turn become 『』, as is customary.
"""

OWN_TEMPLATES = (CONTROL_TEMPLATE, PLAIN_TEMPLATE, JAPANESE_TEMPLATE)
"""They take any conversation, and end."""

MIN_JAPANESE_SHARE, MIN_KANA_SHARE = 0.1, 0.02
"""Shares of tokens with a Japanese letter, and a kana, in a Japanese vocabulary. GPT-2's own has
0.4% and 0.3%."""


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a chat template a plain one, and EOS as its PAD token."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = plain_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def stop_strings(tokenizer: AnyTokenizer) -> tuple[str, ...]:
    """What ends a turn of the plain templates: a newline or a closing quote. Others have EOS."""
    return {PLAIN_TEMPLATE: ("\n",), JAPANESE_TEMPLATE: ("」",)}.get(tokenizer.chat_template, ())


def plain_template(tokenizer: AnyTokenizer) -> str:
    """The template for a base model without one."""
    return JAPANESE_TEMPLATE if is_japanese(tokenizer) else PLAIN_TEMPLATE


def is_japanese(tokenizer: AnyTokenizer) -> bool:
    """Whether the vocabulary was made for Japanese, and so the model trained on it."""
    fast: Any = tokenizer.backend_tokenizer
    texts = fast.decode_batch([[n] for n in range(fast.get_vocab_size())])
    kana, letters = (sum(map(has, texts)) for has in (has_kana, has_japanese_letter))
    return bool(kana >= MIN_KANA_SHARE * len(texts) and letters >= MIN_JAPANESE_SHARE * len(texts))


def add_control_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Add the control tokens and their template to a base tokenizer; how many tokens were new."""
    added = tokenizer.add_special_tokens({"additional_special_tokens": [USER_TOKEN, BOT_TOKEN]})
    tokenizer.chat_template = CONTROL_TEMPLATE
    return int(added)
