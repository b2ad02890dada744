"""The operator's settings: environment variables, or the same names in a file `.env`.

Knows their names, defaults, ranges and what they are for, and says in one sentence what is wrong
with a value.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import language_of_locale, terminal_language
from model.errors import UnknownModel
from model.registry import EMBEDDED_NAME, find_option, with_custom_models
from model.sampling import SamplingParams
from model.settings import WorkerSettings

ENV_FILE = ".env"
ENV_FILE_ENCODING = "utf-8-sig"
"""UTF-8, with or without the byte order mark that Notepad puts first."""
NO_TOKEN = phrase(
    "DISCORD_TOKEN is not set: copy your bot's token from the Bot page of your application at "
    "https://discord.com/developers/applications, and put it into the file .env as "
    "DISCORD_TOKEN=… (without a token you can try `gpt2bot demo` or `gpt2bot chat`)."
)


@dataclass(frozen=True, slots=True)
class Paths:
    """What the bot keeps in its home, GPT2BOT_HOME."""

    home: Path

    @property
    def database(self) -> Path:
        """What was said and taught."""
        return self.home / "gpt2bot.sqlite3"

    @property
    def checkpoints(self) -> Path:
        """What was learned: SCOPE/NAME."""
        return self.home / "checkpoints"

    @property
    def jobs(self) -> Path:
        """The folders of training jobs that have not ended."""
        return self.home / "jobs"

    @property
    def built_models(self) -> Path:
        """Models made ready to run, a cache; it may be removed any time."""
        return self.home / "built"

    @property
    def tombstones(self) -> Path:
        """Who asked to be forgotten, for the case that a backup brings them back."""
        return self.home / "forgotten.json"

    @property
    def lock(self) -> Path:
        """Locked while a bot runs here."""
        return self.home / "gpt2bot.lock"


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one sentence that says what to do."""


class TransientError(SettingsError):
    """Something that is needed is out of order: the same may work later."""


def _split(text: str) -> tuple[str, ...]:
    """The words of a list with commas between."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _parse_models(text: str) -> dict[str, str]:
    models: dict[str, str] = {}
    for entry in _split(text):
        name, _, source = map(str.strip, entry.partition("="))
        if not name or not source:
            raise ValueError(phrase("“{entry}” should be name=folder-or-hub-id.", entry=entry))
        if name in models or name == EMBEDDED_NAME:
            raise ValueError(phrase("the name “{name}” is taken, choose another one.", name=name))
        models[name] = str(_absolute(Path(source))) if source.startswith("~") else source
    return models


def _parse_ids(text: str) -> frozenset[int]:
    ids = _split(text)
    if wrong := [one for one in ids if not (one.isascii() and one.isdigit())]:
        raise ValueError(
            phrase(
                "“{word}” is no id: in Discord's settings switch on Developer Mode, then "
                "right-click the person and choose Copy User ID.",
                word=wrong[0],
            )
        )
    return frozenset(map(int, ids))


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as e:
        raise ValueError(
            phrase("{path} begins with a person’s home folder that cannot be found.", path=path)
        ) from e


def _existing_file(path: Path) -> Path:
    file = _absolute(path)
    if not file.is_file():
        raise ValueError(
            phrase("there is no file {file}; `accelerate config` writes one.", file=file)
        )
    return file


def _from_text(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse what the environment says; values of a program's own are taken as they are."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


class Settings(BaseSettings):
    """The values to run with. Each field is read from the variable of its name in capitals.

    What stands below a field explains it to operators: `python -m scripts.reference` makes
    `.env.example` and `docs/settings.md` of it.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_file_encoding=ENV_FILE_ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    discord_token: SecretStr | None = None
    """The bot's token, a secret: https://discord.com/developers/applications, your application,
    “Bot”, “Reset Token”. Needed by `gpt2bot run` only; the demo and the chat in the terminal go
    without."""
    gpt2bot_home: Annotated[Path, AfterValidator(_absolute)] = Field(
        Path("var"), validate_default=True
    )
    """The folder for everything that is kept: the database and the models that were taught."""

    default_model: str = "gpt2"
    """The model of a server that has not chosen one with `/model use`: `tiny`, `gpt2`,
    `gpt2-medium`, or a name of MODELS. `gpt2` is downloaded once from the Hugging Face Hub (about
    550 MB)."""
    models: Annotated[dict[str, str], NoDecode, _from_text(_parse_models)] = {}
    """More models of the GPT-2 architecture: name=folder-or-hub-id, with commas between, such as
    `MODELS=distil=distilbert/distilgpt2,mine=/srv/models/mine,ja=rinna/japanese-gpt2-medium`
    (docs/japanese.md says what to know of Japanese ones)."""
    precision: Literal["int8", "fp32"] = "int8"
    """The number format of the weights on a CPU. int8 is some times as fast, needs a quarter of the
    memory, and says nearly the same. On a GPU it is always bf16 or fp16."""
    memory_mb: int = Field(2048, ge=64)
    """MB for the weights of all loaded models; what was not used for longest makes room."""
    cache_mb: int = Field(320, ge=16)
    """MB for what the models have read, so that nothing is read twice. A token takes 0.07 MB in
    gpt2 and 0.2 MB in gpt2-medium. Replies that do not fit wait for others to end."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the model. Empty: as many as the machine has cores."""

    bot_language: Literal["en", "ja"] | None = None
    """`en` or `ja`. Members read the language of their Discord, and all together that of the
    server, if it is a Community. This one is for everything else: other servers, direct messages,
    the doctor and the terminal. Empty: as the terminal (LC_ALL, LC_MESSAGES, LANG)."""

    context_messages: int = Field(5, ge=1, le=50)
    """How many messages of a channel the model sees, the newest included."""
    max_new_tokens: int = Field(60, ge=1, le=400)
    """The longest reply, in tokens; a word has about 1.3. To Japanese it is that of the same
    meaning, in more tokens where the model needs more for it."""
    temperature: float = Field(0.7, ge=0, le=2, allow_inf_nan=False)
    """How lively the replies are; 0 always takes the likeliest word."""
    top_k: int = Field(40, ge=0)
    """Choose among so many of the likeliest tokens; 0 switches this off."""
    top_p: float = Field(0.9, gt=0, le=1, allow_inf_nan=False)
    """Choose among the likeliest tokens that together have this share of the likelihood; 1 switches
    this off."""
    repetition_penalty: float = Field(1.1, ge=1, le=2, allow_inf_nan=False)
    """How much a word that was said already is held back; 1 switches this off."""
    banned_words: Annotated[tuple[str, ...], NoDecode, _from_text(_split)] = ()
    """Words that a reply never says, whole ones in upper or lower case, with commas between."""
    reply_buttons: bool = True
    """Small buttons under each reply: again, like, dislike, a better answer; stop while it is
    written."""
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    """Makes replies repeatable: the same conversation gives the same reply. Empty: each reply is
    drawn anew."""

    slow_reply_s: float = Field(3.0, ge=0, allow_inf_nan=False)
    """Training waits a while whenever a reply takes longer than this to begin, in seconds; 0
    switches that off."""
    training_threads: int | None = Field(None, ge=1)
    """CPU threads of training, at most. Empty: one core less than there are, so that chat has one.
    (`tiny` takes one in any case: more would mostly wait for each other.)"""
    author_share: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    """The most that one member may contribute to what is learned, once it is more than 100
    examples: 0.5 is half of everything, 1 switches this off."""
    checkpoints_mb: int = Field(20000, ge=100)
    """MB for the checkpoints of all servers together. When a new one does not fit, the oldest that
    nobody uses are removed. One of gpt2 takes about 500 MB."""
    accelerate_config: Annotated[Path, AfterValidator(_existing_file)] | None = None
    """A file that `accelerate config` wrote: training is launched with it, on several devices.
    Empty: on one device."""

    learn_from_chat: bool = False
    """True: what members who agreed (`/privacy opt-in`) say in enabled channels is kept as examples
    that wait for review. Discord's terms forbid to train on message content without its permission:
    switch this on only if you hold it. docs/privacy.md says more."""
    retention_days: int = Field(30, ge=1, le=36500)
    """Days after which messages, and what replies were made from, are erased."""

    member_per_minute: int = Field(15, ge=0)
    """Replies that one member gets in a minute; 0 switches the limit off."""
    server_per_minute: int = Field(120, ge=0)
    """Replies that one server gets in a minute; 0 switches the limit off."""
    longest_message: int = Field(2000, ge=1, le=4000)
    """Characters of a message that is answered; longer ones get a sentence instead."""
    stale_s: float = Field(120.0, gt=0, allow_inf_nan=False)
    """Seconds after which a message that still waits for its turn is let go."""

    operator_ids: Annotated[frozenset[int], NoDecode, _from_text(_parse_ids)] = frozenset()
    """Discord ids of people who may do everything in every server, beside the application's owner,
    with commas between."""
    health_port: int | None = Field(None, ge=1, le=65535)
    """A port of this machine, for `/healthz` and `/metrics`; it cannot be reached from outside.
    Empty: none."""
    log_format: Literal["text", "json"] = "text"
    """How the log is written: `text` for people, or `json` for programs."""
    log_content: bool = False
    """True: the log has what people say and what is answered. Only for finding a fault on a test
    server."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _from_text(str.upper)] = (
        "INFO"
    )
    """How much is written to the log."""

    @property
    def paths(self) -> Paths:
        """Where everything in the home is."""
        return Paths(self.gpt2bot_home)

    @property
    def language(self) -> str:
        """`bot_language`, else that of the terminal."""
        return self.bot_language or terminal_language()


def load_settings(**overrides: Any) -> Settings:
    """The settings of this machine; `overrides` go before the environment and `.env`.

    Raises:
        SettingsError: a value is wrong.
    """
    try:
        settings = Settings(**overrides)
        find_option(with_custom_models(settings.models).values(), settings.default_model)
    except ValidationError as e:
        raise SettingsError(_sentence(e)) from e
    except UnknownModel as e:
        raise SettingsError(_wrong("DEFAULT_MODEL", e)) from e
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsError(
            phrase("The file .env cannot be read as UTF-8 text: {why}.", why=e)
        ) from e
    return settings


def _sentence(error: ValidationError) -> Phrase:
    """What is wrong with the first of the wrong values."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "value_error":
        return _wrong(name.upper(), first["ctx"]["error"])
    return phrase(
        "{name} is “{value}”, but it must be {wanted}.",
        name=name.upper(),
        value=first["input"],
        wanted=describe_constraint(name),
    )


def _wrong(name: str, error: Exception) -> Phrase:
    """What an error of ours says of a setting."""
    return phrase("{name} is wrong: {why}", name=name, why=error.args[0])


def describe_constraint(name: str) -> Phrase:
    """What a setting must be, in words."""
    field = Settings.model_fields[name]
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        return phrase("one of {names}", names=join_phrases(get_args(kind), ", "))
    if kind is Path:
        return phrase("a path")
    if kind is bool:
        return phrase("true or false")
    if kind not in (int, float):
        return phrase("text")
    number = phrase("a whole number") if kind is int else phrase("a number")
    limits = {
        limit: getattr(one, limit)
        for one in field.metadata
        for limit in ("ge", "gt", "le")
        if hasattr(one, limit)
    }
    match limits:
        case {"ge": low, "le": high}:
            return phrase("{kind} from {low} to {high}", kind=number, low=low, high=high)
        case {"gt": low, "le": high}:
            return phrase("{kind} above {low} and up to {high}", kind=number, low=low, high=high)
        case {"gt": low}:
            return phrase("{kind} above {low}", kind=number, low=low)
        case _:
            return phrase("{kind} of at least {low}", kind=number, low=limits["ge"])


def _without_none(annotation: Any) -> Any:
    """The type of a value that is set: `int` of `int | None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    [kind] = (one for one in get_args(annotation) if one is not NoneType)
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def prepare_home(settings: Settings) -> None:
    """Make the home and its folders.

    Raises:
        SettingsError: it is no folder, or cannot be written.
    """
    home = settings.gpt2bot_home
    try:
        if not home.exists():
            home.mkdir(mode=0o700, parents=True)  # what people say is in there
        settings.paths.checkpoints.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as e:
        raise SettingsError(
            phrase(
                "GPT2BOT_HOME is {home}, but the bot cannot write there ({why}): "
                "choose another folder, or give it permission.",
                home=home,
                why=e.strerror,
            )
        ) from e


def sampling_params(settings: Settings) -> SamplingParams:
    """The part of the settings that a reply needs."""
    return SamplingParams(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        repetition_penalty=settings.repetition_penalty,
        seed=settings.seed,
        banned_words=settings.banned_words,
    )


def worker_settings(settings: Settings, *, drain_s: float, log_level: str) -> WorkerSettings:
    """The part of the settings that the worker needs."""
    return WorkerSettings(
        threads=settings.threads,
        precision=settings.precision,
        build_cache=settings.paths.built_models,
        memory_mb=settings.memory_mb,
        cache_mb=settings.cache_mb,
        drain_s=drain_s,
        log_level=log_level,
        log_format=settings.log_format,
    )


def operator_language() -> str:
    """The operator's language: BOT_LANGUAGE, else that of the terminal.

    Read without `Settings`: what is wrong with another setting is to be said in this language.
    """
    try:
        file = dotenv_values(ENV_FILE, encoding=ENV_FILE_ENCODING)
    except (OSError, UnicodeDecodeError):
        file = {}
    values = {name.upper(): value for name, value in (file | dict(os.environ)).items() if value}
    return language_of_locale(values.get("BOT_LANGUAGE") or "") or terminal_language()
