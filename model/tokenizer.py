"""A tokenizer that opens in a moment: the file `tokenizer.json` and a chat template.

The worker answers with this one, so it need not import transformers (and torch with it). It has
the methods of a transformers tokenizer that `model.chat` uses, and gives the same ids.
"""

from __future__ import annotations

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

JSON: dict[str, Any] = {"ensure_ascii": False}


class _Generation(Extension):
    """`{% generation %}` marks what the bot says. To training it means something; not here."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 reads it from the class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Tokenizer:
    """Text to ids and back. `chat_template` is Jinja, in the form that Hugging Face gave it.

    Raises:
        ValueError: the file is no tokenizer.
    """

    def __init__(self, file: Path, *, eos_token: str, chat_template: str) -> None:
        try:
            self._fast = FastTokenizer.from_file(str(file))
        except Exception as e:  # the library has no class of its own for a file that is damaged
            raise ValueError(f"{file} is no tokenizer: {e}") from e
        self._fast.no_padding()
        self._fast.no_truncation()
        self.eos_token = eos_token
        self.chat_template = chat_template
        self._added = {
            token.content: number for number, token in self._fast.get_added_tokens_decoder().items()
        }

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text; nothing is added before or after it."""
        return self._fast.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, control tokens shown."""
        return self._fast.decode(list(ids), skip_special_tokens=False)

    def decode_each(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself."""
        return self._fast.decode_batch([[one] for one in ids], skip_special_tokens=False)

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self._fast.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """The control tokens and their ids."""
        return self._added

    def render(self, messages: Sequence[dict[str, str]], *, add_generation_prompt: bool) -> str:
        """The chat template, filled in.

        Raises:
            jinja2.TemplateError: the template does not work, or refuses the conversation.
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
        except Exception as e:  # a template is a program, and may fail in any way
            raise TemplateError(f"{type(e).__name__}: {e}") from e

    @cached_property
    def _template(self) -> Template:
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        sandbox.globals["raise_exception"] = _refuse
        sandbox.filters["tojson"] = lambda value, **how: json.dumps(value, **JSON | how)
        return sandbox.from_string(self.chat_template)

    def apply_chat_template(
        self, conversations: Sequence[Sequence[dict[str, str]]], **how: Any
    ) -> list[list[int]]:
        """The ids of conversations."""
        cue = bool(how.get("add_generation_prompt"))
        return [self.encode(self.render(one, add_generation_prompt=cue)) for one in conversations]


def _refuse(why: str) -> NoReturn:
    raise TemplateError(why)
