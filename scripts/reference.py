"""What is written of the code by the code: `.env.example`, `docs/settings.md`, `docs/commands.md`.

    python -m scripts.reference

makes them anew, and the Japanese pages; a test holds the files to it. Knows the settings; the page
of the commands is made in `scripts.commands`, and the Japanese is in `scripts/reference.ja.po`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from bot.settings import Settings, describe_constraint
from scripts import translated
from scripts.commands import commands_page
from scripts.translated import PAGE_LANGUAGES, words

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "discord_token": "The bot",
    "default_model": "Models",
    "bot_language": "Language",
    "context_messages": "Replies",
    "slow_reply_s": "Learning",
    "learn_from_chat": "Privacy",
    "member_per_minute": "Limits",
    "ray_address": "Cluster",
    "operator_ids": "Running",
}
"""The heading before a setting."""
MADE_BY = "<!-- Made by `uv run python -m scripts.reference`; change bot/settings.py instead. -->"
INTRODUCTION = """\
Each is an environment variable, or a line `NAME=value` of a file `.env` in the folder from which
the bot is started ([.env.example](../.env.example) is one with every default). The environment goes
before the file, and an empty value means the default. They are read at the start; with a wrong one
the bot does not start, and says which it is and what it must be.
"""
PER_SERVER = """
## What a server can choose

Managers choose with `/settings open` how the bot behaves in their server. Each choice counts from
the next message on, is in the audit (`/audit`), and is forgotten when the bot is removed from the
server. The settings above are the defaults and the bounds: a server can narrow them, never exceed
them, and the panel says in a sentence what is closed.

| in the panel | bounded by | a server can |
|---|---|---|
| language | `BOT_LANGUAGE` (default) | choose that of what all see, and of the model |
| model | `DEFAULT_MODEL` (default), `MODELS` | choose one, as with `/model use` |
| how freely I talk | `TEMPERATURE` (maximum, if set) | be calm (0.2), normal (0.7) or lively (1) |
| length of a reply | `MAX_NEW_TOKENS` (maximum) | choose a third, two thirds or all of it |
| buttons under replies | `REPLY_BUTTONS` | show them under the last reply only, or nowhere |
| where I answer everything | nothing | choose channels, as with `/channel enable` |
| who teaches me | `REVIEW_NEW_ANSWERS` | review all lessons, or let managers only teach |
| what was taught | `KNOWN_AT_ONCE` | wait for a retrain |
| a newly trained model | nothing | try it in half of the channels ([trial](duels.md#a-trial)) |
| who may retrain me | nothing | let managers or a role retrain too; administrators choose |
| when I retrain | nothing | retrain daily at an hour of its time zone; administrators choose |

`/settings export` gives all of this as a JSON file. `/settings import` reads it back after it has
shown what would change: in another server too, where it finds roles and channels by their names.
What the file does not mention stays as it is. If anything in it is wrong, nothing is changed, and
each mistake is told.
"""
HEADINGS = "| setting | default | what it may be | what it does |"
CATALOGUE_NAME = translated.CATALOGUE.relative_to(ROOT).as_posix()
HEAD = """\
# Settings of gpt2-discord-bot. Copy this file to `.env` and change what you like.
# Each value below is the default; an empty value means the default too. A variable of the same
# name in the environment goes before this file.
# (Made by `uv run python -m scripts.reference` from bot/settings.py.)
"""
PLAIN = ("text", "a path", "true or false")
"""What needs not be said of a value in a file that has one."""
COMMENT = textwrap.TextWrapper(
    100,
    initial_indent="# ",
    subsequent_indent="# ",
    break_long_words=False,
    break_on_hyphens=False,
)


def main() -> None:
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} is new.")
    translated.write_catalogue()
    if missing := translated.untranslated():
        print(f"{len(missing)} texts are not in Japanese: fill them in in {CATALOGUE_NAME}.")


def pages() -> dict[Path, str]:
    """Each file that is made, and what is in it."""
    made = {ROOT / ".env.example": example_file()}
    for language in PAGE_LANGUAGES:
        made[page("settings", language)] = settings_page(language)
        made[page("commands", language)] = commands_page(language)
    return made


def page(name: str, language: str) -> Path:
    """A page of `docs/` in a language, `NAME.md` or `NAME.ja.md`."""
    return ROOT / "docs" / translated.file_name(name, language)


# --- .env.example --------------------------------------------------------------------------------


def example_file() -> str:
    """Every setting with its default, explained in comments."""
    return HEAD + "".join(_example(name) for name in Settings.model_fields)


def _example(name: str) -> str:
    section = SECTIONS.get(name, "").lower()
    heading = f"\n# --- {section} ".ljust(100, "-") + "\n" if section else ""
    paragraphs = [described(name)]
    if describe_constraint(name) not in PLAIN:
        paragraphs.append(f"It is {describe_constraint(name)}.")
    comment = "\n".join(COMMENT.fill(one) for one in paragraphs)
    return f"{heading}\n{comment}\n{name.upper()}={default(name)}\n"


# --- docs/settings.md ----------------------------------------------------------------------------


def settings_page(language: str) -> str:
    """Every setting in a table, section by section."""
    title, introduction = words("Settings", language), words(INTRODUCTION, language)
    link = translated.link_to_other("settings", language)
    per_server = words(PER_SERVER, language)
    rows = "".join(_rows(language))
    return f"# {title}\n\n{link}\n\n{MADE_BY}\n\n{introduction}{rows}{per_server}"


def _rows(language: str) -> Iterator[str]:
    for name in Settings.model_fields:
        if name in SECTIONS:
            yield f"\n## {words(SECTIONS[name], language)}\n\n"
            yield f"{words(HEADINGS, language)}\n|---|---|---|---|\n"
        value = f"`{default(name)}`" if default(name) else words("empty", language)
        wanted = describe_constraint(name).translate_to(language)
        does = re.sub(
            r"\bdocs/([\w-]+)\.md",
            lambda link: "[{0}]({0})".format(nearest_page(link[1], language)),
            words(described(name), language),
        )
        yield f"| `{name.upper()}` | {value} | {wanted} | {does} |\n"


def nearest_page(name: str, language: str) -> str:
    """The file of a page in a language; in English if there is none."""
    there = page(name, language)
    return there.name if there.exists() else f"{name}.md"


def described(name: str) -> str:
    """What is said of a setting, as one line."""
    return " ".join((Settings.model_fields[name].description or "").split())


def default(name: str) -> str:
    """The value of a setting that nobody set, as it is written in `.env`."""
    value = Settings.model_fields[name].default
    return "" if value in (None, {}, (), frozenset()) else str(value)


if __name__ == "__main__":
    main()
