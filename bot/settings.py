"""The operator's settings: environment variables, or the same names in a file `.env`.

Knows their names, defaults and ranges, and says in one sentence what is wrong with a value.
`.env.example` explains each of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from i18n.phrase import Phrase, phrase
from i18n.reader import of_terminal
from model.errors import UnknownModel
from model.registry import EMBEDDED, find, from_settings
from model.sampling import SamplingParams
from model.settings import WorkerSettings

DATABASE = "gpt2bot.sqlite3"
"""The file in the home for what was said and taught."""
CHECKPOINTS = "checkpoints"
"""The folder below the home for what was learned."""
BUILT = "built"
"""The folder below the home for models that were made ready to run; it may be removed any time."""


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one sentence that says what to do."""


class Later(SettingsError):
    """Something that is needed is out of order: the same may work later."""


class Settings(BaseSettings):
    """The values to run with. Each field is read from the variable of its name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8-sig",  # Notepad begins a file with a byte order mark
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    discord_token: SecretStr | None = Field(
        None, description="The bot's token, from Discord's developer portal."
    )
    gpt2bot_home: Path = Field(
        Path("var"), validate_default=True, description="Folder for everything that is kept."
    )
    default_model: str = Field("gpt2", description="Model of a server that has not chosen one.")
    models: str = Field("", description="More models: name=folder-or-hub-id, with commas between.")
    context_messages: int = Field(
        5, ge=1, le=50, description="Messages of a channel that the model sees, the newest last."
    )
    max_new_tokens: int = Field(60, ge=1, le=400, description="Longest reply, in tokens.")
    temperature: float = Field(
        0.7, ge=0, le=2, allow_inf_nan=False, description="Liveliness; 0 takes the likeliest word."
    )
    top_k: int = Field(40, ge=0, description="Choose among this many likeliest tokens; 0 is off.")
    top_p: float = Field(
        0.9, gt=0, le=1, allow_inf_nan=False, description="Share of likelihood to choose from."
    )
    repetition_penalty: float = Field(
        1.1, ge=1, le=2, allow_inf_nan=False, description="Above 1, words repeat less."
    )
    seed: int | None = Field(
        None, ge=0, le=2**32 - 1, description="The same seed gives the same replies."
    )
    banned_words: str = Field("", description="Words that replies never have, commas between.")
    reply_buttons: bool = Field(True, description="Buttons for feedback under each reply.")
    threads: int | None = Field(None, ge=1, description="CPU threads of the model; empty: all.")
    precision: Literal["int8", "fp32"] = Field(
        "int8", description="Number format of the weights on a CPU."
    )
    memory_mb: int = Field(2048, ge=64, description="MB for the weights of all loaded models.")
    cache_mb: int = Field(320, ge=16, description="MB for what the models have read.")
    slow_reply_s: float = Field(
        3.0,
        ge=0,
        allow_inf_nan=False,
        description="Training waits while a reply takes longer to begin than this; 0 is off.",
    )
    training_threads: int | None = Field(
        None, ge=1, description="Most CPU threads of training; empty: one less than cores."
    )
    author_share: float = Field(
        0.5, gt=0, le=1, allow_inf_nan=False, description="Most that one member may contribute."
    )
    checkpoints_mb: int = Field(20000, ge=100, description="MB for the checkpoints of all servers.")
    accelerate_config: Path | None = Field(
        None, description="File of `accelerate config`, to train on several devices."
    )
    learn_from_chat: bool = Field(
        False, description="Whether conversations of members who agreed are kept to learn from."
    )
    retention_days: int = Field(
        30, ge=1, le=36500, description="Days after which what was said is erased."
    )
    member_per_minute: int = Field(
        15, ge=0, description="Replies that a member gets in a minute; 0 is off."
    )
    server_per_minute: int = Field(
        120, ge=0, description="Replies that a server gets in a minute; 0 is off."
    )
    longest_message: int = Field(
        2000, ge=1, le=4000, description="Characters of a message that is answered."
    )
    stale_s: float = Field(
        120.0, gt=0, allow_inf_nan=False, description="A message that waited longer is let go."
    )
    operator_ids: str = Field(
        "", description="Discord ids of who may do everything, beside the owner; commas between."
    )
    health_port: int | None = Field(
        None, ge=1, le=65535, description="Port of /healthz and /metrics on this machine."
    )
    bot_language: Literal["en", "ja"] | None = Field(
        None, description="Language where Discord says none, and of the terminal; empty: as it is."
    )
    log_format: Literal["text", "json"] = Field("text", description="How the log is written.")
    log_content: bool = Field(False, description="Whether the log has what people say.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="How much `gpt2bot run` writes to its log."
    )

    @property
    def language(self) -> str:
        """`bot_language`, else that of the terminal."""
        return self.bot_language or of_terminal()

    @property
    def extra_models(self) -> dict[str, str]:
        """`models` as name to folder or Hub id."""
        return _parse_models(self.models)

    @property
    def operators(self) -> frozenset[int]:
        """`operator_ids` as numbers."""
        return _parse_ids(self.operator_ids)

    @field_validator("operator_ids")
    @classmethod
    def _ids(cls, text: str) -> str:
        _parse_ids(text)
        return text

    @field_validator("gpt2bot_home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return _expand(home).absolute()

    @field_validator("accelerate_config")
    @classmethod
    def _there(cls, file: Path | None) -> Path | None:
        if file is None:
            return None
        file = _expand(file).absolute()
        if not file.is_file():
            raise ValueError(
                phrase("there is no file {file}; `accelerate config` writes one.", file=file)
            )
        return file

    @field_validator("models")
    @classmethod
    def _well_formed(cls, models: str) -> str:
        _parse_models(models)
        return models

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level


def _parse_models(text: str) -> dict[str, str]:
    models: dict[str, str] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        name, _, source = map(str.strip, entry.partition("="))
        if not name or not source:
            raise ValueError(phrase("“{entry}” should be name=folder-or-hub-id.", entry=entry))
        if name in models or name == EMBEDDED:
            raise ValueError(phrase("the name “{name}” is taken, choose another one.", name=name))
        models[name] = str(_expand(Path(source))) if source.startswith("~") else source
    return models


def _parse_ids(text: str) -> frozenset[int]:
    ids = [one for one in map(str.strip, text.split(",")) if one]
    if wrong := [one for one in ids if not (one.isascii() and one.isdigit())]:
        raise ValueError(
            phrase(
                "“{word}” is no id: in Discord's settings switch on Developer Mode, then "
                "right-click the person and choose Copy User ID.",
                word=wrong[0],
            )
        )
    return frozenset(map(int, ids))


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as e:
        raise ValueError(
            phrase("{path} begins with a person’s home folder that cannot be found.", path=path)
        ) from e


def load_settings(**overrides: Any) -> Settings:
    """The settings of this machine; `overrides` go before the environment and `.env`.

    Raises:
        SettingsError: a value is wrong.
    """
    try:
        settings = Settings(**overrides)
        find(from_settings(settings.extra_models).values(), settings.default_model)
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
        wanted=_wanted(name),
    )


def _wrong(name: str, error: Exception) -> Phrase:
    """What an error of ours says of a setting."""
    return phrase("{name} is wrong: {why}", name=name, why=error.args[0])


def _wanted(name: str) -> Phrase:
    """What a value should be, in words."""
    schema = Settings.model_json_schema()["properties"][name]
    schema = schema.get("anyOf", [schema])[0]
    match schema:
        case {"enum": names}:
            return phrase("one of {names}", names=", ".join(names))
        case {"type": "string"}:
            return phrase("text")
        case {"type": "boolean"}:
            return phrase("true or false")
    kind = phrase("a whole number") if schema["type"] == "integer" else phrase("a number")
    match schema:
        case {"minimum": low, "maximum": high}:
            return phrase("{kind} from {low} to {high}", kind=kind, low=low, high=high)
        case {"exclusiveMinimum": low, "maximum": high}:
            return phrase("{kind} above {low} and up to {high}", kind=kind, low=low, high=high)
        case _:
            return phrase("{kind} of at least {low}", kind=kind, low=schema["minimum"])


def prepare_home(settings: Settings) -> None:
    """Make the home and its folders.

    Raises:
        SettingsError: it is no folder, or cannot be written.
    """
    home = settings.gpt2bot_home
    try:
        if not home.exists():
            home.mkdir(mode=0o700, parents=True)  # what people say is in there
        (home / CHECKPOINTS).mkdir(exist_ok=True)
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


def sampling(settings: Settings) -> SamplingParams:
    """The part of the settings that a reply needs."""
    return SamplingParams(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        repetition_penalty=settings.repetition_penalty,
        seed=settings.seed,
        banned_words=tuple(filter(None, map(str.strip, settings.banned_words.split(",")))),
    )


def worker_settings(settings: Settings, *, drain_s: float, log_level: str) -> WorkerSettings:
    """The part of the settings that the worker needs."""
    return WorkerSettings(
        threads=settings.threads,
        precision=settings.precision,
        built=settings.gpt2bot_home / BUILT,
        memory_mb=settings.memory_mb,
        cache_mb=settings.cache_mb,
        drain_s=drain_s,
        log_level=log_level,
        log_format=settings.log_format,
    )
