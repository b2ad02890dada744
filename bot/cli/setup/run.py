"""The questions of `gpt2bot setup` in their order, and what becomes of the answers.

`.env` is written once that is confirmed; the questions after it are optional.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bot.cli.chat import DOWNLOAD_SIZES
from bot.cli.doctor.account import (
    PORTAL,
    TOKEN,
    LoginFailed,
    TokenRefused,
    account_findings,
    application_id,
    logged_in,
)
from bot.cli.doctor.command import diagnose, findings_table, read_settings
from bot.cli.questions import ask, ask_secret, at_terminal, confirm
from bot.cli.setup.env_file import Change, set_values, values_in
from bot.cli.setup.service import offer_service
from bot.cli.voice import silence_voice_warnings
from bot.discord_ui.bot_permissions import invite_url
from bot.ops.checks.check import Finding
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
LOGIN_TIMEOUT_S = 40.0
AROUND_TOKEN = re.compile(
    r"""^\s*(?:DISCORD_TOKEN\s*=)?[\s"'`“”]*(?:Bot\s+)?|[\s"'`“”]+$""", re.IGNORECASE
)
"""What people copy along with a token."""
TOKEN_LETTERS = re.compile(r"[A-Za-z0-9._-]+")
NO_TERMINAL = phrase(
    "There is no terminal to ask at: give --yes, and the token in DISCORD_TOKEN or with "
    "--token-file FILE."
)
NO_TOKEN_GIVEN = phrase(
    "There is no token yet: copy it from the Bot page of your application at {portal}, and paste "
    "it here, or give it in DISCORD_TOKEN or with --token-file FILE.",
    portal=PORTAL,
)
HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Flags:
    """The answers that were given with the command; `yes` answers the rest with the defaults."""

    token_file: Path | None = None
    language: str | None = None
    model: str | None = None
    home: str | None = None
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
    token, invite = _token(flags, present)
    values = {
        "DISCORD_TOKEN": token,
        "BOT_LANGUAGE": "" if language == AUTO else language,
        "DEFAULT_MODEL": _model(flags, present, spoken),
        "GPT2BOT_HOME": _home(flags, present),
    }
    if not _write(present.text, values, interactive=not flags.yes):
        return False
    settings = read_settings()[0]
    prepare_home(settings)
    _finish(invite, settings.gpt2bot_home, interactive=not flags.yes)
    return True


def say_how_to_start() -> None:
    """Name the command that starts the bot, as it has to be typed here."""
    by_uv = "UV" in os.environ  # `uv run` sets it
    start = phrase("Start the bot with `uv run gpt2bot run`.")
    print(say(start if by_uv else phrase("Start the bot with `gpt2bot run`.")))


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


def _token(flags: Flags, present: Present) -> tuple[str, str | None]:
    """A token that Discord accepts, or could not be asked about; and the invite link, if known."""
    if flags.token_file or flags.yes:
        given = _read_token(flags.token_file) if flags.token_file else present.settings.token
        return _checked(_bare_token(given))
    kept = phrase("; Enter keeps the present one")
    question = phrase(
        "Bot token, from the Bot page of your application at {portal} (it is not shown{kept}):",
        portal=PORTAL,
        kept=kept if present.settings.token else "",
    )
    while True:
        answer = ask_secret(question) or present.settings.token
        try:
            return _checked(_bare_token(answer))
        except SettingsError as e:
            print(say(message_of(e)))


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as e:
        raise SettingsError(
            phrase("The file {file} cannot be read ({why}): give another one.", file=file, why=e)
        ) from e


def _bare_token(given: str) -> str:
    """The token alone.

    Raises:
        SettingsError: there is none, or something else.
    """
    token = AROUND_TOKEN.sub("", given)
    if not token:
        raise SettingsError(NO_TOKEN_GIVEN)
    if not TOKEN_LETTERS.fullmatch(token):
        raise SettingsError(
            phrase(
                "This is no token, which has only letters, digits, dots, - and _: copy it alone, "
                "without quotation marks, spaces or the word Bot."
            )
        )
    return token


def _checked(token: str) -> tuple[str, str | None]:
    console = Console(markup=False, highlight=False, emoji=False)
    try:
        with console.status(say("Checking…")):
            findings, invite = asyncio.run(_ask_discord(token))
    except TokenRefused as e:
        raise SettingsError(
            phrase(
                "Discord does not accept this token: press Reset Token on the Bot page of your "
                "application ({portal}), and copy the new one.",
                portal=PORTAL,
            )
        ) from e
    console.print(findings_table(findings, console.width))
    return token, invite


async def _ask_discord(token: str) -> tuple[Sequence[Finding], str | None]:
    """Whose the token is, and the invite link; or why that could not be asked.

    Raises:
        TokenRefused: Discord does not know it.
    """
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_S), logged_in(token) as client:
            return account_findings(client), invite_url(application_id(client))
    except TokenRefused:
        raise
    except LoginFailed as e:
        goes_on = phrase("The token is written without a check.")
        return [Finding(TOKEN, join_phrases([message_of(e), goes_on]), e.advice)], None
    except TimeoutError:
        late = phrase("Discord did not answer. The token is written without a check.")
        return [Finding(TOKEN, late, phrase("Run `gpt2bot doctor` later."))], None


# --- model ---------------------------------------------------------------------------------------


def _model(flags: Flags, present: Present, language: str) -> str:
    options = list(with_custom_models(present.settings.models).values())
    default = present.settings.default_model or default_name(language)
    if flags.model or flags.yes:
        return find_option(options, flags.model or default).name
    for number, option in enumerate(options, start=1):
        print(f"  {number}  {option.name}: {say(_needs(option))}")
    question = phrase("Model for servers that chose none, a name or number")
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
        SettingsError: nothing can be written there.
    """
    if not answer.isprintable():
        raise SettingsError(phrase("The folder's name has odd characters: choose another one."))
    try:
        home = absolute_path(Path(answer))
        if home.exists() and not home.is_dir():
            raise NotADirectoryError(0, say("it is a file"))
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


def _finish(invite: str | None, home: Path, *, interactive: bool) -> None:
    if invite:
        print(say("Invite the bot to your server with this link: {link}", link=invite))
        if interactive:
            ask(phrase("Press Enter once it is there, or to do that later:"), optional=True)
    offer_service(home, interactive=interactive)
    asyncio.run(diagnose(as_json=False))
