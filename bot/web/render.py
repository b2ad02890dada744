"""Templates become pages: Jinja with everything escaped, in the reader's language."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from babel.dates import format_date, format_datetime
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bot.discord_ui.embeds.style import status_text
from bot.web.words import LANGUAGE_NAMES, STATE_LABELS, Words
from core.records import JobState
from i18n.reader import current_language, say

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
TYPED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
"""What sentences for Discord mark: something to be typed, and what matters."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, compressed once; the `url` changes with its content."""

    url: str
    content_type: str
    plain: bytes
    packed: bytes


def read_static() -> dict[str, StaticFile]:
    """The files that browsers may ask for, by their path below `static`."""
    files = [one for one in sorted(STATIC.rglob("*")) if one.is_file()]
    return {name: _static(file, name) for file in files if (name := _name(file))}


def _name(file: Path) -> str:
    return file.relative_to(STATIC).as_posix()


def _static(file: Path, name: str) -> StaticFile:
    content = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    version = hashlib.sha256(content).hexdigest()[:12]
    return StaticFile(f"/static/{version}/{name}", kind, content, gzip.compress(content, mtime=0))


class Pages:
    """Renders the templates of this package."""

    def __init__(self, static: Mapping[str, StaticFile]) -> None:
        self._static = static

    def render(self, template: str, **values: Any) -> str:
        """A template with its values. Everything in them is text, never markup."""
        return self._environment.get_template(template).render(**values)

    @cached_property
    def _environment(self) -> Environment:
        made = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        made.globals.update(
            w=Words(),
            lang=current_language,
            language_names=LANGUAGE_NAMES,
            static=lambda name: self._static[name].url,
            status_text=status_text,
        )
        made.filters.update(
            typed=typed, moment=moment, day=day, loss=loss, state=state, said=_said, number=number
        )
        return made


def typed(sentence: str) -> Markup:
    """A sentence with `commands` and **names** as markup; all the rest of it is escaped."""
    parts, end = [], 0
    for found in TYPED.finditer(sentence):
        parts.append(escape(sentence[end : found.start()]))
        tag = "code" if found[1] else "strong"
        parts.append(Markup(f"<{tag}>{{}}</{tag}>").format(found[1] or found[2]))
        end = found.end()
    return Markup("").join([*parts, escape(sentence[end:])])


def _said(sentence: str) -> str:
    """A stored sentence in the reader's language."""
    return say(sentence)


def moment(at: datetime | str) -> Markup:
    """A time; browsers show it in their own zone."""
    try:
        when = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        return escape(Words().not_known)
    shown = _format_moment(
        when.astimezone(UTC).replace(second=0, microsecond=0), current_language()
    )
    return Markup('<time datetime="{}" data-local>{}</time>').format(when.isoformat(), shown)


def day(when: date) -> Markup:
    """A day in UTC."""
    return _day(when, current_language())


@functools.lru_cache(maxsize=4096)
def _format_moment(when: datetime, language: str) -> str:
    return f"{format_datetime(when, 'medium', locale=language)} UTC".replace("\u202f", " ")


def day_text(when: date) -> str:
    """A day in the reader's language."""
    return format_date(when, "long", locale=current_language())


@functools.lru_cache(maxsize=4096)
def _day(when: date, language: str) -> Markup:
    shown = format_date(when, "long", locale=language)
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(), shown)


def loss(value: float | None) -> str:
    return Words().not_known if value is None else f"{value:.2f}"


def number(value: int) -> str:
    return f"{value:,}"


def state(value: JobState) -> str:
    return say(STATE_LABELS[value])
