"""Chat templates in Jinja, rendered as transformers renders them, without importing transformers.

Knows templates and messages. Does not know tokens. A template is a stranger's program:
`model.isolation` bounds its time and memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _GenerationTag(Extension):
    """Accepts `{% generation %}`, which marks the bot's turns for the loss mask of training."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 reads it from the class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Macro) -> str:
        return caller()


def render_template(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    special_tokens: Mapping[str, str],
) -> str:
    """The text of a conversation; `special_tokens` such as `bos_token` are variables of it.

    Raises:
        jinja2.TemplateError: the template is broken or rejects the conversation.
    """
    try:
        return _compile(template).render(
            **special_tokens,
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
        )
    except TemplateError:
        raise
    except Exception as e:  # a template is a program: anything may fail
        raise TemplateError(f"{type(e).__name__}: {e}") from e


@lru_cache(maxsize=16)
def literal_text(template: str) -> str:
    """What a template writes itself: its text and its strings, but not those that it compares
    with or looks up."""
    return "\0".join(_literals(_sandbox().parse(template)))


def _literals(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.TemplateData):
        yield node.data
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, nodes.Getitem):
        yield from _literals(node.node)
    elif not isinstance(node, nodes.Compare):
        for child in node.iter_child_nodes():
            yield from _literals(child)


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    return _sandbox().from_string(template)


def _sandbox() -> ImmutableSandboxedEnvironment:
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    sandbox.filters["tojson"] = _to_json
    return sandbox


def _raise_exception(why: str) -> NoReturn:
    raise TemplateError(why)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
