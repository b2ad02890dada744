"""The questions of `gpt2bot setup` in their order, and what becomes of the answers.

`.env` is written once that is confirmed; the questions after it are optional.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.cli.chat import DOWNLOAD_SIZES
from bot.cli.doctor.command import diagnose, read_settings
from bot.cli.questions import ask, at_terminal, confirm
from bot.cli.setup.application import Application, offer_message_content
from bot.cli.setup.discord_token import ask_token, check_token, read_token
from bot.cli.setup.env_file import Change, set_values, values_in
from bot.cli.setup.invitation import invite
from bot.cli.setup.service import offer_service
from bot.cli.voice import silence_voice_warnings
from bot.ops.checks.machine import try_writing
from bot.settings import (
    ENV_FILE,
    Settings,
    SettingsError,
    absolute_path,
    prepare_home,
    read_env_file,
)
from core.errors import DiskFull, StoreError
from core.files import write_atomically
from i18n.catalogue import LANGUAGES
from i18n.phrase import join_phrases, message_of, phrase
from i18n.reader import say, set_language, terminal_language
from model.errors import UnknownModel
from model.registry import (
    CUSTOM_MODEL_LABELS,
    ModelOption,
    default_name,
    find_option,
    with_custom_models,
)

AUTO = "auto"
"""The language of the terminal: an empty BOT_LANGUAGE."""
NO_TERMINAL = phrase(
    "There is no terminal to ask at: give --yes, and the token in DISCORD_TOKEN or with "
    "--token-file FILE."
)
HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Flags:
    """The answers that were given with the command; `yes` answers the rest with the defaults."""

    token_file: Path | None = None
    language: str | None = None
    model: str | None = None
    home: str | None = None
    message_content: bool | None = None
    browser: bool | None = None
    start: bool | None = None
    yes: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """What is set already."""

    text: str
    settings: Settings

    @property
    def values(self) -> dict[str, str]:
        """The values by name: the environment goes before the file."""
        set_here = {name.upper(): value for name, value in os.environ.items() if value}
        return values_in(self.text) | set_here


def set_up(flags: Flags) -> bool:
    """Ask, write `.env`, and check everything; whether it was written.

    Raises:
        SettingsError, ModelError, StoreError: an answer cannot be used, or a file not be written.
    """
    if not flags.yes and not at_terminal():
        raise SettingsError(NO_TERMINAL)
    silence_voice_warnings()
    present = Present(read_env_file(), read_settings()[0])
    language = _language(flags, present)
    spoken = terminal_language() if language == AUTO else language
    if spoken != present.settings.language:  # else the terminal may have no letters for it
        set_language(spoken)
    token, application = _token(flags, present)
    values = {
        "DISCORD_TOKEN": token,
        "BOT_LANGUAGE": "" if language == AUTO else language,
        "DEFAULT_MODEL": _model(flags, present, spoken),
        "GPT2BOT_HOME": _home(flags, present),
    }
    interactive = not flags.yes
    if not _write(present.text, values, interactive=interactive):
        return False
    settings = read_settings()[0]
    prepare_home(settings)
    if application is not None:
        offer_message_content(
            token, application, wanted=flags.message_content, interactive=interactive
        )
        invite(token, application, browser=flags.browser, interactive=interactive)
    offer_service(settings.gpt2bot_home, interactive=interactive)
    asyncio.run(diagnose(as_json=False))
    return True


def wants_start(flags: Flags) -> bool:
    """Whether the bot is to be started now; how to start it later is printed."""
    by_uv = "UV" in os.environ  # `uv run` sets it
    start = phrase("Start the bot with `uv run gpt2bot run`.")
    print(say(start if by_uv else phrase("Start the bot with `gpt2bot run`.")))
    if flags.start is not None or flags.yes:
        return bool(flags.start)
    question = phrase("Start it now? Ctrl-C stops it.")
    return confirm(question, default=True, optional=True)


def offer_set_up() -> bool:
    """Set the bot up if somebody at the terminal wants that now; whether it was done."""
    question = phrase("There is no bot token yet. Start `gpt2bot setup` now?")
    return at_terminal() and confirm(question, default=True) and set_up(Flags())


def _ask_until_valid(question: str, default: str, check: Callable[[str], str]) -> str:
    """What `check` makes of the answer; asked again, with its sentence, while that raises."""
    while True:
        answer = ask(question, default)  # outside: it raises for good when the input has ended
        try:
            return check(answer)
        except (SettingsError, UnknownModel) as e:
            print(say(message_of(e)))


# --- language ------------------------------------------------------------------------------------


def _language(flags: Flags, present: Present) -> str:
    default = present.settings.bot_language or (
        AUTO if "BOT_LANGUAGE" in present.values else terminal_language()
    )
    if flags.language or flags.yes:
        return flags.language or default
    question = phrase("Language of the bot, en or ja (auto: that of the terminal)")
    return _ask_until_valid(question, default, _known_language)


def _known_language(answer: str) -> str:
    names = (*LANGUAGES, AUTO)
    if answer.lower() not in names:
        raise SettingsError(phrase("Please write one of {names}.", names=join_phrases(names, ", ")))
    return answer.lower()


# --- token ---------------------------------------------------------------------------------------


def _token(flags: Flags, present: Present) -> tuple[str, Application | None]:
    if flags.token_file:
        return check_token(read_token(flags.token_file))
    if flags.yes:
        return check_token(present.settings.token)
    return ask_token(present.settings.token, browser=flags.browser)


# --- model ---------------------------------------------------------------------------------------


def _model(flags: Flags, present: Present, language: str) -> str:
    options = list(with_custom_models(present.settings.models).values())
    default = present.settings.default_model or default_name(language)
    if flags.model or flags.yes:
        return find_option(options, flags.model or default).name
    for number, option in enumerate(options, start=1):
        print(f"  {number}  {option.name}: {say(_needs(option))}")
    question = phrase("Model to use until a server chooses another, a name or number")
    return _ask_until_valid(question, default, lambda answer: _option(options, answer).name)


def _option(options: Sequence[ModelOption], answer: str) -> ModelOption:
    numbers = {str(number): option for number, option in enumerate(options, start=1)}
    return numbers.get(answer) or find_option(options, answer)


def _needs(option: ModelOption) -> str:
    if option.memory_usage in CUSTOM_MODEL_LABELS:
        return option.quality
    size = DOWNLOAD_SIZES.get(option.name)
    return phrase(
        "{quality} ({memory} of memory, {speed}, {download})",
        quality=option.quality,
        memory=option.memory_usage,
        speed=option.inference_speed,
        download=phrase("a download of {size}", size=size) if size else phrase("no download"),
    )


# --- home ----------------------------------------------------------------------------------------


def _home(flags: Flags, present: Present) -> str:
    default = present.values.get("GPT2BOT_HOME") or str(
        Settings.model_fields["gpt2bot_home"].default
    )
    if flags.home or flags.yes:
        return _usable_home(flags.home or default)
    question = phrase("Folder for all data: conversations and trained models")
    return _ask_until_valid(question, default, _usable_home)


def _usable_home(answer: str) -> str:
    """The answer as it is: a relative folder is one below that of `.env`.

    Raises:
        SettingsError: nothing can be written there, or it is a folder with the program in it.
    """
    if not answer.isprintable():
        raise SettingsError(phrase("The folder's name has odd characters: choose another one."))
    try:
        home = absolute_path(Path(answer))
        if home.exists() and not home.is_dir():
            raise NotADirectoryError(0, say("it is a file"))
        if any((one / "__init__.py").is_file() for one in (home, *home.parents)):
            raise SettingsError(
                phrase("{home} is part of the program: choose another folder.", home=answer)
            )
        try_writing(home)
    except ValueError as e:
        raise SettingsError(message_of(e)) from e
    except OSError as e:
        raise SettingsError(
            phrase(
                "Nothing can be written to {home} ({why}): choose another folder, or give this "
                "user permission.",
                home=answer,
                why=e.strerror,
            )
        ) from e
    return answer


# --- writing -------------------------------------------------------------------------------------


def _write(text: str, values: Mapping[str, str], *, interactive: bool) -> bool:
    """Show what changes and write it, if that is wanted; whether it was written."""
    made, changes = set_values(text or _heading(), values)
    for change in changes:
        for mark, line in (("-", change.before), ("+", change.after)):
            if line is not None:
                print(f"  {mark} {_shown(change, line)}")
    question = phrase("Write this to {file}?", file=Path(ENV_FILE).absolute())
    if changes and interactive and not confirm(question, default=True):
        print(say("Nothing was written."))
        return False
    try:
        write_atomically(Path(ENV_FILE).resolve(), made.encode(), private=True)
    except DiskFull:
        raise
    except StoreError as e:
        raise SettingsError(
            phrase(
                "{why} Run `gpt2bot setup` in a folder that this user may write to.",
                why=message_of(e),
            )
        ) from e
    print(say("The settings are in {file}.", file=Path(ENV_FILE).absolute()))
    _warn_of_environment(values)
    return True


def _heading() -> str:
    comment = phrase("Settings of gpt2-discord-bot; docs/settings.md lists all of them.")
    return f"# {say(comment)}\n"


def _shown(change: Change, line: str) -> str:
    return f"{change.name}={HIDDEN}" if change.name == "DISCORD_TOKEN" else line


def _warn_of_environment(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if os.environ.get(name, value) not in ("", value):
            print(
                say(
                    "{name} has another value in the environment, which goes before .env: remove "
                    "it there.",
                    name=name,
                )
            )
