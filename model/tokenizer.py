"""The worker's tokenizer: `tokenizer.json` and a chat template, without importing transformers.

Has the methods of a transformers tokenizer that rendering uses, and gives the same ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import Tokenizer as FastTokenizer

from model.jinja_template import render_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | Tokenizer"
    """The tokenizer of training and that of the worker; both give the same ids."""

SENTENCEPIECE_SPACE = "▁"
"""The space in sentencepiece pieces."""
OUTER_SPACES, INNER_SPACES = OWN_PATTERNS = (r"\A +| +\z", " {2,}")
"""The regular expressions of the tokenizers that `model.convert.sentencepiece` makes."""


class Tokenizer:
    """Encodes and decodes text. `chat_template` is Hugging Face's Jinja.

    `special_tokens` have transformers' names: `eos_token` is always there, `unk_token` if a text
    may have no tokens.

    Raises:
        ValueError: the file is not a tokenizer.
    """

    def __init__(
        self, file: Path, *, special_tokens: Mapping[str, str], chat_template: str
    ) -> None:
        self._fast = open_fast_tokenizer(file)
        self._fast.no_padding()
        self._fast.no_truncation()
        self.special_tokens_map = dict(special_tokens)
        self.chat_template = chat_template
        self._byte_by_piece = _byte_pieces(self._fast)

    @property
    def eos_token(self) -> str:
        """The token at the end of a text."""
        return self.special_tokens_map["eos_token"]

    @property
    def unk_token(self) -> str:
        """The token of what has no other; empty if every text has tokens."""
        return self.special_tokens_map.get("unk_token", "")

    @property
    def backend_tokenizer(self) -> Any:
        """The fast tokenizer, by the name that transformers has for it."""
        return self._fast

    def clear_cache(self) -> None:
        """Forget the words of earlier texts, whose tokens the library's models keep."""
        if (clear := getattr(self._fast.model, "_clear_cache", None)) is not None:
            clear()  # public only in Rust; word-level models have no cache

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text, by default without special tokens around it."""
        ids: list[int] = self.backend_tokenizer.encode(
            text, add_special_tokens=add_special_tokens
        ).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, with control tokens."""
        if self._byte_by_piece:
            return self._decode_byte_pieces(ids)
        return self._fast.decode(list(ids), skip_special_tokens=False)

    def _decode_byte_pieces(self, ids: Sequence[int]) -> str:
        """The same for a sentencepiece model that has a piece for each byte: of bytes in a row,
        what is a character stays one, whatever comes after it."""
        runs = (
            bytes(self._byte_by_piece[one] for one in run).decode(errors="replace")
            if in_bytes
            else "".join(self._fast.id_to_token(one) or "" for one in run).replace(
                SENTENCEPIECE_SPACE, " "
            )
            for in_bytes, run in itertools.groupby(ids, self._byte_by_piece.__contains__)
        )
        return "".join(runs).removeprefix(" ")

    def decode_each(self, ids: Sequence[int]) -> list[str]:
        """The text of each single token."""
        return self._fast.decode_batch([[one] for one in ids], skip_special_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        """All tokens and their ids."""
        return self._fast.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens that were added to the vocabulary, and their ids."""
        added = self._fast.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items()}

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
    ) -> str:
        """Render the chat template.

        Raises:
            jinja2.TemplateError: the template is broken or rejects the conversation.
        """
        return render_template(
            self.chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            special_tokens=self.special_tokens_map,
        )

    def apply_chat_template(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        *,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        **_: Any,
    ) -> list[Any]:
        """The ids of conversations, or their texts."""
        texts = [
            self.render(one, add_generation_prompt=add_generation_prompt) for one in conversations
        ]
        return [self.encode(text) for text in texts] if tokenize else texts


def _byte_pieces(fast: FastTokenizer) -> dict[int, int]:
    """Piece id to byte; sentencepiece models have pieces for all bytes or for none."""
    ids = [fast.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
    known = [one for one in ids if one is not None]
    if len(known) < len(ids) or fast.decode(known[:1]) != "\0":
        return {}
    return {one: byte for byte, one in enumerate(known)}


def open_fast_tokenizer(file: Path) -> FastTokenizer:
    """The fast tokenizer of a tokenizer.json.

    Raises:
        ValueError: the file is not a tokenizer.
    """
    try:
        return FastTokenizer.from_file(str(file))
    except BaseException as e:  # plain Exception for a damaged file; a panic is no Exception
        if isinstance(e, KeyboardInterrupt):
            raise
        raise ValueError(f"{file} is no tokenizer: {e}") from e


def has_regex(part: object) -> bool:
    """Whether a part of a tokenizer.json has a regular expression of a stranger."""
    if isinstance(part, Mapping):
        pattern = part.get("Regex")
        if pattern is not None and pattern not in OWN_PATTERNS:
            return True
        return any(map(has_regex, part.values()))
    return isinstance(part, list) and any(map(has_regex, part))
