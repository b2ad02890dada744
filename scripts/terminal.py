"""What can be typed after `gpt2bot`, as Markdown.

Knows how our own commands are written down (typer's annotations), and nothing of what typer makes
of them, which differs from release to release.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from bot.cli.main import app, gpt2bot
from scripts.translated import words

TABLE = """
| | what it may be | default | what it is |
|---|---|---|---|
"""


def terminal_commands(language: str) -> Iterator[str]:
    """A heading, the words, the usage and a table for each command."""
    yield f"\n{table(gpt2bot, language)}"
    for name, call in sorted(walk(app, "gpt2bot")):
        usage = " ".join([name, *_usage(call)])
        does = words(inspect.getdoc(call) or "", language)
        yield f"\n### `{name}`\n\n{does}\n\n```\n{usage}\n```\n{table(call, language)}"


def walk(there: typer.Typer, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each command by what is typed, with the function that it calls."""
    for one in there.registered_commands:
        assert one.callback is not None
        yield f"{name} {one.name or one.callback.__name__}", one.callback
    for group in there.registered_groups:
        assert group.typer_instance is not None
        yield from walk(group.typer_instance, f"{name} {group.typer_instance.info.name}")


def _usage(call: Callable[..., Any]) -> Iterator[str]:
    """The placeholders after the name of a command."""
    found = list(_parameters(call))
    if any(isinstance(info, OptionInfo) for _, _, info in found):
        yield "[OPTIONS]"
    for one, _, info in found:
        if isinstance(info, ArgumentInfo):
            yield str(info.metavar) if one.default is one.empty else f"[{info.metavar}]"


def table(call: Callable[..., Any], language: str) -> str:
    """The arguments and options of a command."""
    lines = [
        markdown_row(
            _typed(one, kind, info),
            _allowed(kind, info, language),
            _default(one, kind, language),
            words(info.help or "", language),
        )
        for one, kind, info in _parameters(call)
    ]
    return "".join([words(TABLE, language), *lines]) if lines else ""


Parameter = tuple[inspect.Parameter, Any, OptionInfo | ArgumentInfo]


def _parameters(call: Callable[..., Any]) -> Iterator[Parameter]:
    """Each parameter of a command, its type, and what typer is told of it."""
    hints = get_type_hints(call, include_extras=True)
    for one in inspect.signature(call).parameters.values():
        kind, info = get_args(hints[one.name])
        kinds = [each for each in get_args(kind) if each is not type(None)]
        yield one, kinds[0] if kinds else kind, info


def _typed(one: inspect.Parameter, kind: type, info: OptionInfo | ArgumentInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar}`"
    given = info.default if isinstance(info.default, str) else f"--{one.name.replace('_', '-')}"
    value = f" {info.metavar or 'N'}" if kind is not bool and not issubclass(kind, Enum) else ""
    return ", ".join(f"`{name}{value}`" for name in given.split("/"))


def _allowed(kind: type, info: OptionInfo | ArgumentInfo, language: str) -> str:
    if issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    if info.min is None:
        return ""
    whole = words("a whole number" if kind is int else "a number", language)
    return f"{whole}{words(', ', language)}{format_range(info.min, info.max, language)}"


def _default(one: inspect.Parameter, kind: type, language: str) -> str:
    if one.default is one.empty:
        return words("must be given", language)
    return "" if kind is bool or one.default is None else f"`{one.default}`"


def format_range(low: float, high: float | None, language: str) -> str:
    if high is None:
        return words("{low} or more", language).format(low=number(low))
    return words("{low} to {high}", language).format(low=number(low), high=number(high))


def number(value: float) -> str:
    """A limit as people write it: no exponents, no empty decimals."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def markdown_row(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"
