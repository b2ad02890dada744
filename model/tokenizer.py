"""The worker's tokenizer: `tokenizer.json` and a chat template, without importing transformers.

Has the methods of a transformers tokenizer that `model.chat_template` uses, and gives the same ids.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as FastTokenizer

SENTENCEPIECE_SPACE = "▁"
"""The space in sentencepiece pieces."""
JSON_OPTIONS: dict[str, Any] = {"ensure_ascii": False}


class _GenerationTag(Extension):
    """Accepts `{% generation %}`, which marks the bot's turns for the loss mask of training."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Tokenizer:
    """Encodes and decodes text. `chat_template` is Hugging Face's Jinja; `unk_token` is empty if
    every text has tokens.

    Raises:
        ValueError: the file is not a tokenizer.
    """

    def __init__(
        self, file: Path, *, eos_token: str, chat_template: str, unk_token: str = ""
    ) -> None:
        try:
            self._fast = FastTokenizer.from_file(str(file))
        except Exception as e:  # the library raises plain Exception for a damaged file
            raise ValueError(f"{file} is no tokenizer: {e}") from e
        self._fast.no_padding()
        self._fast.no_truncation()
        self.eos_token = eos_token
        self.unk_token = unk_token
        self.chat_template = chat_template
        self._added = {
            token.content: number for number, token in self._fast.get_added_tokens_decoder().items()
        }
        self._byte_by_piece = _byte_pieces(self._fast)

    @property
    def backend_tokenizer(self) -> FastTokenizer:
        """The fast tokenizer, by the name that transformers has for it."""
        return self._fast

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text, by default without special tokens around it."""
        return self._fast.encode(text, add_special_tokens=add_special_tokens).ids

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
        """The control tokens and their ids."""
        return self._added

    def render(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
        """Render the chat template.

        Raises:
            jinja2.TemplateError: the template is broken or rejects the conversation.
        """
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                eos_token=self.eos_token,
                bos_token=self.eos_token,
            )
        except TemplateError:
            raise
        except Exception as e:  # a template is a program: anything may fail
            raise TemplateError(f"{type(e).__name__}: {e}") from e

    @cached_property
    def _template(self) -> Template:
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        sandbox.globals["raise_exception"] = _raise_exception
        sandbox.filters["tojson"] = lambda value, **how: json.dumps(value, **JSON_OPTIONS | how)
        return sandbox.from_string(self.chat_template)

    def apply_chat_template(
        self, conversations: Sequence[Sequence[dict[str, str]]], **how: Any
    ) -> list[list[int]]:
        """The ids of conversations."""
        cue = bool(how.get("add_generation_prompt"))
        return [self.encode(self.render(one, add_generation_prompt=cue)) for one in conversations]


def _byte_pieces(fast: FastTokenizer) -> dict[int, int]:
    """Piece id to byte; sentencepiece models have pieces for all bytes or for none."""
    ids = [fast.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
    known = [one for one in ids if one is not None]
    if len(known) < len(ids) or fast.decode(known[:1]) != "\0":
        return {}
    return {one: byte for byte, one in enumerate(known)}


def _raise_exception(why: str) -> NoReturn:
    raise TemplateError(why)
