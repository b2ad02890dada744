"""Chat templates in Jinja, rendered as transformers renders them, without importing transformers.

Knows templates and messages. Does not know tokens. A template is a stranger's program:
`model.isolation` bounds its time and memory.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.records import Role

Turns = list[dict[str, Any]]
"""Messages in Hugging Face's chat format."""


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


def fit_form(turns: Turns, template: str, render: Callable[[Turns], str]) -> Turns:
    """The turns in the first form that the template takes, if possible one that shows the last.

    Whether it is shown is tried with a number in its place: a word such as “a” would be found in
    what the template writes.

    Raises:
        jinja2.TemplateError: it takes no form.
    """
    number = absent_number(f"{template}{turns}")
    taken, refusal = None, None
    for form in _forms(turns):
        try:
            rendered = render([*form[:-1], form[-1] | {"content": _like(form, number)}])
        except TemplateError as e:
            refusal = refusal or e
            continue
        if number in rendered and f"'text': '{number}'" not in rendered:  # a list, printed
            return form
        if isinstance(form[-1]["content"], str):
            taken = taken or form
    if taken is None:
        assert refusal is not None  # a form was either taken or refused
        raise refusal
    return taken


def absent_number(text: str) -> str:
    """A number that the text does not have; no template changes the case of one."""
    return next(number for n in itertools.count(7310495862) if (number := str(n)) not in text)


def _like(form: Turns, text: str) -> Any:
    """Content as that of a form's last turn."""
    return text if isinstance(form[-1]["content"], str) else _listed(text)


def _listed(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _forms(turns: Turns) -> Iterator[Turns]:
    """The turns as they are; those in a row by one speaker joined, for templates that want the
    roles to alternate; without an answer at the beginning; and each with a list as its content."""
    forms = [turns]
    joined = [
        {"role": role, "content": "\n".join(one["content"] for one in some)}
        for role, some in itertools.groupby(turns, lambda one: one["role"])
    ]
    forms += [joined] if joined != turns else []
    if joined[0]["role"] == Role.ASSISTANT.value and len(joined) > 1:
        forms.append(joined[1:])
    yield from forms
    for form in forms:
        yield [one | {"content": _listed(one["content"])} for one in form]


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
