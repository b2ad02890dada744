"""The sentences in the code beside the catalogues of `i18n`: `python -m scripts.messages`.

Says what is missing, unused, or put together wrongly, and which sentences cannot be said in other
languages because nothing marks them. `--update` writes what is missing into the catalogues, with
empty translations to be filled in. The names of commands are looked at by tests/i18n, which has
the command tree.
"""

from __future__ import annotations

import argparse
import ast
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

from i18n.catalogue import CATALOGUES_FOLDER as CATALOGUES
from i18n.catalogue import ENGLISH, LANGUAGES

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "data", "model", "training", "bot")
MARKER_FUNCTIONS = {"phrase": 1, "say": 1, "phrases": 2}
"""The functions whose first arguments are sentences, and how many of these are."""
TRANSLATED_LANGUAGES = tuple(language for language in LANGUAGES if language != ENGLISH)

Key = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where a sentence stands in the code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def source_files() -> Iterator[Path]:
    """The code whose sentences people read."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def extract_messages() -> dict[Key, list[SourceLocation]]:
    """Each sentence that is marked to be said, and where."""
    found: dict[Key, list[SourceLocation]] = {}
    for file in source_files():
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (key := _marked(node)):
                found.setdefault(key, []).append(SourceLocation(name, node.lineno))
    return found


def _marked(call: ast.Call) -> Key | None:
    """The sentence that a call marks. (Babel's own extraction misses those inside f-strings.)"""
    wanted = MARKER_FUNCTIONS.get(_called(call), 0)
    words = [one.value for one in call.args[:wanted] if isinstance(one, ast.Constant)]
    if not wanted or len(words) < wanted:
        return None  # `say` of a phrase that was made elsewhere
    return _key([str(word) for word in words])


def _called(call: ast.Call) -> str:
    called = call.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _key(message: str | Sequence[str]) -> Key:
    if isinstance(message, str):
        return message
    return message[0] if len(message) == 1 else (message[0], message[1])


def load_catalogues(language: str) -> dict[Path, Catalog]:
    """The catalogues of a language, by file."""
    catalogues = {}
    for file in sorted((CATALOGUES / language).glob("*.po")):
        with file.open("rb") as lines:
            catalogues[file] = read_po(lines, locale=language)
    return catalogues


def sentences(catalogues: dict[Path, Catalog]) -> list[tuple[Path, Message]]:
    """All but the names of commands, which have a context."""
    return [
        (file, message)
        for file, catalogue in catalogues.items()
        for message in catalogue
        if message.id and message.context is None
    ]


def problems(language: str) -> list[str]:
    """What is wrong with the catalogues of a language, a line each."""
    code, told = extract_messages(), []
    seen: dict[Key, Path] = {}
    for file, message in sentences(load_catalogues(language)):
        key, where = _key(message.id), f"{file.name}: {_short(message)}"
        if key in seen:
            told.append(f"{where} is in {seen[key].name} as well")
        seen[key] = file
        if key not in code:
            told.append(f"{where} is not in the code any more")
        elif not _forms(message) or not all(_forms(message)) or message.fuzzy:
            told.append(f"{where} is not translated")
        else:
            told += [f"{where}: {one}" for one in _differences(message)]
    missing = [key for key in code if key not in seen]
    return told + [f"{code[key][0]}: not in i18n/{language}: {_short(key)}" for key in missing]


def _forms(message: Message) -> list[str]:
    string = message.string
    return [string] if isinstance(string, str) else list(string or ())


def _short(key: Message | Key) -> str:
    words = key.id if isinstance(key, Message) else key
    first = words if isinstance(words, str) else words[0]
    return repr(first if len(first) < 60 else f"{first[:57]}…")


def _differences(message: Message) -> Iterator[str]:
    """Values or Markdown that a translation has lost or made up."""
    ids = [message.id] if isinstance(message.id, str) else list(message.id)
    wanted = _fields(ids[-1])
    for form in _forms(message):
        if _fields(form) != wanted:
            yield f"has the values {sorted(_fields(form))}, not {sorted(wanted)}"
        if form.count("`") != ids[-1].count("`"):
            yield "has other `marks`"
        plain = LITERAL.sub("`", VALUE.sub("0", form))
        for fault, pattern in JAPANESE_TYPOGRAPHY.items():
            if found := pattern.search(plain):
                yield f"has {fault}: {found[0]!r}"


VALUE, LITERAL = re.compile(r"\{[^{}]*\}"), re.compile("`[^`]*`|[A-Z]+_[A-Z_]+")
_JAPANESE, _NAME = "[ぁ-ヿ一-鿿々]", "(?<![A-Za-z/.])[A-Z][a-z]+(?![A-Za-z.])"
JAPANESE_TYPOGRAPHY = {
    "a space after full-width punctuation": re.compile("[。、？！：；（「] "),
    "half-width punctuation": re.compile(f"[{_JAPANESE[1:-1]}」）][,.!?:;()]|[()!?:;,]{_JAPANESE}"),
    "no space around what is typed": re.compile(f"{_JAPANESE}`|`{_JAPANESE}"),
    "a space around a name": re.compile(f"{_JAPANESE} {_NAME}|{_NAME} {_JAPANESE}"),
}
"""What is typed (`LITERAL`) stands apart from Japanese letters; names such as Discord do not."""


def _fields(template: str) -> set[str]:
    try:
        fields = string.Formatter().parse(template)
        return {f"{name}:{form}" if form else name for _, name, form, _ in fields if name}
    except ValueError:
        return set()  # no template: it has braces of its own


# --- sentences that nothing marks ----------------------------------------------------------------

WORDS = re.compile(r"[A-Za-z]{2,} [A-Za-z{(]")
CODE = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|VACUUM|BEGIN|WITH|AND|CASE)\b"
    r"|IS NOT NULL|\bSELECT\b|\(\?|^<\{|PRIVATE|^\s*(import |from [a-z.]+ import |\{%)"
)
"""SQL, XML, regular expressions, Python and chat templates."""
IGNORED_CALLS = {
    *("debug", "info", "warning", "error", "exception", "critical", "log"),  # the log is English
    *("command", "Group", "describe", "ContextMenu"),  # bot.discord_ui.translator: by their names
    *("Hint", "menu_entry"),  # the same names; the text of a Hint is a Phrase by its type
    *("Field", "Option", "Argument", "Typer", "add_parser", "add_argument", "ArgumentParser"),
    *("Counter", "Gauge", "Histogram", "GaugeMetricFamily", "CounterMetricFamily"),
    *(
        "RuntimeError",
        "ValueError",
        "AssertionError",
        "TypeError",
        "KeyError",
        "NotImplementedError",
    ),
    *("compile", "split", "spawn", "create_task", "ContextVar", "execute", "executescript"),
    *("record_audit", "run_periodically", "slash"),  # the audit is kept in English; chores; SimCord
}
"""What is called with words that nobody reads in Discord, or that are translated elsewhere."""
VISIBLE_ARGUMENTS = {"label", "title", "placeholder", "content", "description"}
"""Arguments in which one word is a text already."""
IGNORED_FILES = {
    "bot/chat/help.py": "what people ask, in both languages",
    "bot/ops/vitals.py": "Prometheus reads it",
    "core/metrics.py": "Prometheus reads it",
    "data/storage/migrations.py": "SQL",
    "data/formats/chat_exports.py": "how exports look",
    "data/formats/headings.py": "what heads a column, in both languages",
    "data/formats/xlsx/template.py": "a workbook in both languages at once",
    "data/questions/likeness.py": "words of a language",
    "data/questions/words.py": "words of a language",
    "training/plots/fonts.py": "names of fonts",
    "training/tools/paraphrases.py": "a developer's tool",
    "training/tools/tiny.py": "a developer's tool",
}
IGNORED_STRINGS = {
    "better answer",  # in the database; bot.discord_ui.embeds.style says it
    "integrity check of the database",  # a task
    "ended {}\n",  # the last word of a driver to its supervisor
    "gpt2bot {}",
    "not imported",  # in the name of a sheet
    "reply to {}",
    "To restore the newest backup, stop the bot, then run `gpt2bot restore {}`.",
    "There is no backup of it.",  # the log
    "too large",  # RE2
    *("upper right", "upper left", "lower right"),  # places in a plot
    "identify guilds",  # scopes of OAuth2
    "Bearer {}",
    "Discord's answer cannot be read: {}",  # in the log
    *('<time datetime="{}" data-local>{}</time>', '<time datetime="{}">{}</time>'),
    *("How are you?", "What do you like to do?"),  # asked of models
    *("I am fine, thank you.", "I like to read."),  # said by models in what precedes a question
    "gpt2-discord-bot {}",
    "bold red",  # how a text looks
    *("out of memory", "can't allocate memory"),  # what torch says
    "a line of {}:{} cannot be written",  # in the log
    *("ersion mismatch", "to be scheduled", "of the cluster has gpt2-discord-bot"),  # looked for
    *("drop of caches", "request {}"),  # names of tasks
    *("it is silent", "it was ended", "its answer had no end"),  # in the log
}
"""What looks like a sentence and is none, word for word."""


def unmarked_strings(file: Path) -> list[str]:
    """The sentences in a file that cannot be said in another language."""
    name = file.relative_to(ROOT).as_posix()
    if name in IGNORED_FILES:
        return []
    finder = _Finder()
    finder.visit(ast.parse(file.read_text(encoding="utf-8")))
    return [f"{name}:{line}: not marked: {text!r}" for line, text in finder.found]


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # else it is a docstring
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name in IGNORED_CALLS:
            return
        marked = node.args[: MARKER_FUNCTIONS.get(name, 0)]
        for argument in node.args:
            if argument not in marked or not isinstance(argument, ast.Constant):
                self.visit(argument)
        for keyword in node.keywords:
            word = isinstance(keyword.value, ast.Constant) and keyword.arg in VISIBLE_ARGUMENTS
            self._look(keyword.value, one_word=True) if word else self.visit(keyword.value)
        self.visit(node.func)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pieces = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
        self._note(node.lineno, "".join(map(str, pieces)))
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                self.visit(one.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        self._look(node)

    def _look(self, node: ast.expr, *, one_word: bool = False) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = re.compile(r"[A-Za-z]{2,}") if one_word else WORDS
            self._note(node.lineno, node.value, words)

    def _note(self, line: int, words: str, pattern: re.Pattern[str] = WORDS) -> None:
        if pattern.search(words) and not CODE.search(words) and words not in IGNORED_STRINGS:
            self.found.append((line, words))


# --- the command line ----------------------------------------------------------------------------


def update(language: str) -> int:
    """Put what is missing into the catalogue of its package, drop what is unused; how many."""
    code, catalogues = extract_messages(), load_catalogues(language)
    known = {_key(message.id) for _, message in sentences(catalogues)}
    for key, places in code.items():
        if key not in known:
            file = CATALOGUES / language / f"{places[0].file.partition('/')[0]}.po"
            catalogues.setdefault(file, Catalog(locale=language)).add(key)
    for file, catalogue in catalogues.items():
        write(file, catalogue, code)
    return len(code.keys() - known)


def write(file: Path, catalogue: Catalog, code: dict[Key, list[SourceLocation]]) -> None:
    """Write a catalogue: the sentences in the order of the code, with where they are."""
    fresh = Catalog(locale=catalogue.locale, charset="utf-8", fuzzy=False)
    for message in catalogue:
        if not message.id:
            continue
        if message.context is not None:
            fresh.add(message.id, message.string, context=message.context)
        elif (key := _key(message.id)) in code:
            at = [(file, 1) for file in sorted({place.file for place in code[key]})]
            fresh.add(message.id, message.string, locations=at)
    with file.open("wb") as lines:
        write_po(lines, fresh, width=100, omit_header=True, sort_by_file=True, include_lineno=False)


def main() -> None:
    """Print what is wrong; the exit status is 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write what is missing")
    parser.add_argument("only", nargs="*", help="tell of files that begin like this only")
    options = parser.parse_args()
    if options.update:
        for language in TRANSLATED_LANGUAGES:
            print(f"{language}: {update(language)} new")
    told = [one for language in TRANSLATED_LANGUAGES for one in problems(language)]
    told += [one for file in source_files() for one in unmarked_strings(file)]
    shown = [one for one in told if not options.only or one.startswith(tuple(options.only))]
    print("\n".join(shown) or "Every sentence has its translation.")
    raise SystemExit(bool(shown))


if __name__ == "__main__":
    main()
