"""The operator's settings: environment variables, or lines of a file `.env`.

Knows their names, defaults, ranges and descriptions, and turns an invalid value into one sentence
that says what it must be.
"""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from data.formats.encodings import utf16_encoding
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import language_of_locale, terminal_language
from model.errors import UnknownModel
from model.registry import (
    ModelOption,
    default_name,
    find_option,
    is_embedded,
    with_custom_models,
)
from model.sampling import USUAL_TEMPERATURE, SamplingParams
from model.settings import WorkerSettings

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""This machine's names for itself, as they stand in an address."""
MOST_REPLICAS = 512
"""Far above what one bot's process can feed; it catches a mistyped number."""
ENV_FILE = ".env"
"""UTF-8, with or without the byte order mark that Notepad puts first, or UTF-16."""
NO_TOKEN = phrase(
    "DISCORD_TOKEN is not set: copy your bot's token from the Bot page of your application at "
    "https://discord.com/developers/applications, and run `gpt2bot setup`, which asks for it and "
    "writes it into the file .env (without a token you can try `gpt2bot demo` or `gpt2bot chat`)."
)
NOT_UNICODE = phrase(
    "The file .env is neither UTF-8 nor UTF-16 text: save it as UTF-8 (in Notepad: Save as, then "
    "choose the encoding below)."
)


@dataclass(frozen=True, slots=True)
class Paths:
    """What the bot keeps in its home, GPT2BOT_HOME."""

    home: Path

    @property
    def database(self) -> Path:
        """Conversations, examples, jobs, consents."""
        return self.home / "gpt2bot.sqlite3"

    @property
    def checkpoints(self) -> Path:
        """Trained models, each in SCOPE/NAME."""
        return self.home / "checkpoints"

    @property
    def last_connected(self) -> Path:
        """An empty file; its time says when the bot was last connected to Discord."""
        return self.home / "last_connected"

    @property
    def commands_digest(self) -> Path:
        """A hash of the commands that Discord was last sent."""
        return self.home / "commands.sha256"

    @property
    def jobs(self) -> Path:
        """Working folders of training jobs."""
        return self.home / "jobs"

    @property
    def built_models(self) -> Path:
        """Models converted for the runner: a cache, which may be deleted at any time."""
        return self.home / "built"

    @property
    def transfers(self) -> Path:
        """Uploads and exports under way; emptied at each start."""
        return self.home / "transfers"

    @property
    def tombstones(self) -> Path:
        """Members who asked to be forgotten, in case a backup brings their data back."""
        return self.home / "forgotten.json"

    @property
    def lock(self) -> Path:
        """Locked while a bot runs on this home."""
        return self.home / "gpt2bot.lock"


class Replicas(NamedTuple):
    """How many replicas of the models a cluster runs: `least` when idle, `most` under load."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}:{self.most}"


class SettingsError(Exception):
    """A setting is missing or invalid; the message is one sentence that says what to do."""


class TransientError(SettingsError):
    """Something external is unavailable: the same command may work later."""


def _split(text: str) -> tuple[str, ...]:
    """The items of a comma-separated list."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _parse_models(text: str) -> dict[str, str]:
    models: dict[str, str] = {}
    for entry in _split(text):
        name, _, source = map(str.strip, entry.partition("="))
        if not name or not source:
            raise ValueError(phrase("“{entry}” should be name=folder-or-hub-id.", entry=entry))
        if name in models or is_embedded(name):
            raise ValueError(phrase("the name “{name}” is taken, choose another one.", name=name))
        models[name] = str(absolute_path(Path(source))) if source.startswith("~") else source
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


def absolute_path(path: Path) -> Path:
    """The path from the root, with `~` resolved.

    Raises:
        ValueError: nobody has that home folder.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError as e:
        raise ValueError(
            phrase("{path} begins with a person’s home folder that cannot be found.", path=path)
        ) from e


def _web_address(address: str | None) -> str | None:
    """An address without a path; with TLS, unless it leads to this machine."""
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    secure = named and (parts.scheme == "https" or parts.hostname in LOCAL_NAMES)
    if not secure or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
        raise ValueError(
            phrase(
                "“{address}” should be https:// and a name, without a path, such as "
                "https://growth.example.org.",
                address=address,
            )
        )
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _cluster_address(address: str | None) -> str | None:
    """`local`, `auto`, or where a cluster's head listens."""
    if address is None or address in ("auto", "local"):
        return address
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        named = bool(parts.hostname and parts.port)
    except ValueError:
        named = False
    if not named or parts.scheme not in ("", "ray") or parts.path.strip("/"):
        raise ValueError(
            phrase(
                "“{address}” should be local, auto, or where a cluster's head listens, such as "
                "10.0.0.5:6379.",
                address=address,
            )
        )
    return address


def _parse_replicas(text: str) -> Replicas:
    least, colon, most = map(str.strip, text.partition(":"))
    bounds = (least, most if colon else least)
    if all(one.isascii() and one.isdigit() for one in bounds):
        replicas = Replicas(*map(int, bounds))
        if 1 <= replicas.least <= replicas.most <= MOST_REPLICAS:
            return replicas
    raise ValueError(
        phrase(
            "“{text}” should be the least and the most replicas, such as 1:8; both are from 1 to "
            "{limit}.",
            text=text,
            limit=MOST_REPLICAS,
        )
    )


def _existing_file(path: Path) -> Path:
    file = absolute_path(path)
    if not file.is_file():
        raise ValueError(
            phrase("there is no file {file}; `accelerate config` writes one.", file=file)
        )
    return file


def _from_text(parse: Callable[[str], object]) -> BeforeValidator:
    """Parse text, as the environment has it; `load_settings(...)` may pass the value itself."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


class Settings(BaseSettings):
    """The settings of one run. Each field is read from the variable of its name in capitals.

    The docstring of a field is its description for operators: `python -m scripts.reference`
    generates `.env.example` and `docs/settings.md` from it.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    discord_token: SecretStr | None = None
    """The bot's secret token, from https://discord.com/developers/applications: your application,
    “Bot”, “Reset Token”. Only `gpt2bot run` needs it; the demo and the terminal chat do not."""
    gpt2bot_home: Annotated[Path, AfterValidator(absolute_path)] = Field(
        Path("var"), validate_default=True
    )
    """The folder for all data: the database and the trained models."""
    database_key: SecretStr | None = None
    """A secret that encrypts the database and its backups (SQLCipher; needs the extra
    `encryption`). Without it they cannot be opened again, so keep a copy elsewhere. Empty: they are
    not encrypted. See docs/security.md."""

    default_model: str | None = None
    """The model for servers that have not chosen one with `/model use`: `tiny`, `tiny-ja`, `gpt2`,
    `gpt2-medium`, or a name from MODELS. Empty: `gpt2` where the language is English, which is
    downloaded once from the Hugging Face Hub (about 550 MB), and `tiny-ja` where it is Japanese,
    which is part of the bot."""
    models: Annotated[dict[str, str], NoDecode, _from_text(_parse_models)] = {}
    """More models of the GPT-2 architecture, as name=folder-or-hub-id separated by commas, such as
    `MODELS=distil=distilbert/distilgpt2,mine=/srv/models/mine,ja=rinna/japanese-gpt2-medium`
    (for Japanese models see docs/japanese.md)."""
    precision: Literal["int8", "fp32"] = "int8"
    """The number format of the weights on a CPU. int8 is several times as fast, needs a quarter of
    the memory, and gives nearly the same replies. A GPU always uses bf16 or fp16."""
    memory_mb: int = Field(2048, ge=64)
    """MB for the weights of all loaded models; the least recently used model is unloaded first."""
    cache_mb: int = Field(320, ge=16)
    """MB for the KV cache, which saves the models from reading the same text twice. A token takes
    0.07 MB with gpt2 and 0.2 MB with gpt2-medium. Replies that do not fit wait for others to
    finish."""
    threads: int | None = Field(None, ge=1)
    """CPU threads for inference. Empty: one per core. With RAY_ADDRESS: of each replica, which
    takes as many CPUs of the cluster; empty: one."""

    bot_language: Literal["en", "ja"] | None = None
    """`en` or `ja`. Members are answered in the language of their Discord, and messages for
    everyone are in the language of the server, if it is a Community. This setting is for the rest:
    other servers, direct messages, the doctor and the terminal. Empty: the language of the terminal
    (LC_ALL, LC_MESSAGES, LANG)."""

    context_messages: int = Field(5, ge=1, le=50)
    """How many of a channel's last messages the model sees, including the newest."""
    max_new_tokens: int = Field(60, ge=1, le=400)
    """The maximum length of a reply in tokens; an English word has about 1.3. For Japanese the
    limit is raised where a model needs more tokens to say the same."""
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    """How varied the replies are; 0 always picks the most likely word. Empty: what makes most sense
    with the model: 0.2 for `tiny`, 0.4 for `tiny-ja`, the same for what is trained from them, 0.7
    for all others."""
    top_k: int = Field(40, ge=0)
    """Sample only from this many of the most likely tokens; 0 disables this."""
    top_p: float = Field(0.9, gt=0, le=1, allow_inf_nan=False)
    """Sample only from the most likely tokens that together have this probability; 1 disables
    this."""
    repetition_penalty: float = Field(1.1, ge=1, le=2, allow_inf_nan=False)
    """How strongly words that already appeared are suppressed; 1 disables this."""
    banned_words: Annotated[tuple[str, ...], NoDecode, _from_text(_split)] = ()
    """Words that never appear in a reply, separated by commas. Whole words are matched, regardless
    of case."""
    known_at_once: bool = True
    """Give a taught answer from the moment it is taught, before a retrain, to its question and to
    many rewordings of it; and keep what was learned from answering other questions. See
    docs/knowing.md."""
    reply_buttons: bool = True
    """Show buttons under each reply: again, like, dislike, a better answer, and stop while it is
    being written."""
    seed: int | None = Field(None, ge=0, le=2**32 - 1)
    """Makes replies reproducible: the same conversation gives the same reply. Empty: random."""

    slow_reply_s: float = Field(3.0, ge=0, allow_inf_nan=False)
    """Training is paused for a while whenever a reply takes longer than this many seconds to begin;
    0 disables that."""
    training_threads: int | None = Field(None, ge=1)
    """Maximum CPU threads for training. Empty: all cores but one, which is left to chat. (`tiny`
    and `tiny-ja` always use one thread: more would mostly wait for each other.) With RAY_ADDRESS:
    of each training, which takes as many CPUs of the cluster; empty: one."""
    author_share: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    """The largest share of the training data that one member may contribute, once there are more
    than 100 examples: 0.5 is half, 1 disables the limit."""
    review_new_answers: bool = True
    """A member's new answer to a question that others have taught waits for a manager
    (`/dataset review`). Answers of managers never wait."""
    learn_from_votes: bool = True
    """Learn from likes, dislikes and better answers in a second stage of each retrain, as far as
    the words of whoever asked may be learned (`LEARN_FROM_CHAT`, their consent and a review; a
    better answer needs none of these). False: votes only weigh the examples they belong to."""
    checkpoints_mb: int = Field(20000, ge=100)
    """MB for the checkpoints of all servers together, and the bases that they share. To make room
    for a new one, the oldest unused ones are deleted. What is taught to gpt2 has 7 MB of weights
    on a base of 500 MB, which all servers share; with `method: full`, 500 MB each time."""
    accelerate_config: Annotated[Path, AfterValidator(_existing_file)] | None = None
    """A file written by `accelerate config`, to train on several devices. Empty: one device. With
    RAY_ADDRESS only the number in it counts (`num_processes`)."""

    learn_from_chat: bool = False
    """True: messages that members who opted in (`/privacy opt-in`) write in enabled channels become
    training examples, once they are reviewed. Discord's terms forbid training on message content
    without Discord's permission: enable this only if you have it. See docs/privacy.md."""
    retention_days: int = Field(30, ge=1, le=36500)
    """Days after which messages, and the records of how replies were made and of introductions in
    servers, are deleted."""

    member_per_minute: int = Field(15, ge=0)
    """Maximum replies to one member per minute; 0 disables the limit."""
    server_per_minute: int = Field(120, ge=0)
    """Maximum replies in one server per minute; 0 disables the limit."""
    longest_message: int = Field(2000, ge=1, le=4000)
    """Maximum length of a message in characters; a longer one is not answered, and its author is
    told why."""
    stale_s: float = Field(120.0, gt=0, allow_inf_nan=False)
    """Seconds after which a message that is still waiting for its turn is dropped."""

    ray_address: Annotated[str | None, AfterValidator(_cluster_address)] = None
    """Run the models and the training on a Ray cluster (needs the extra `cluster`): `auto` is the
    cluster of the Ray node on this machine, `HOST:6379` the one with that head, of which this
    machine has to be a node too; `local` is one that starts and ends with the bot, for trying.
    Empty: the bot's own worker process runs the models. See docs/cluster.md."""
    cluster_replicas: Annotated[Replicas, NoDecode, _from_text(_parse_replicas)] = Replicas(1, 8)
    """With RAY_ADDRESS: how many replicas of the models the cluster runs, at least and at most; it
    adds some when replies wait, and takes them away later. One number is both."""
    cluster_trainings: int = Field(1, ge=1, le=64)
    """With RAY_ADDRESS: how many training jobs run at the same time, each of another server."""
    cluster_fallback: bool = True
    """With RAY_ADDRESS: while the cluster is away, the embedded model answers, in a worker process
    on this machine. False: people are told that the model cannot be reached."""

    operator_ids: Annotated[frozenset[int], NoDecode, _from_text(_parse_ids)] = frozenset()
    """Discord user ids, separated by commas, of people who may do everything in every server, in
    addition to the application's owner."""
    health_port: int | None = Field(None, ge=1, le=65535)
    """A port for `/healthz` and `/metrics`, reachable from this machine only. Empty: none."""
    web_port: int | None = Field(None, ge=1, le=65535)
    """A port for the page of growth, which `/growth` opens (see docs/growth.md). Empty: no page."""
    web_host: str = "127.0.0.1"
    """The address that the page listens on. 127.0.0.1 is this machine alone; in a container use
    0.0.0.0, and let nothing but a reverse proxy reach the port."""
    web_url: Annotated[str | None, AfterValidator(_web_address)] = None
    """The public address of the page, such as `https://growth.example.org`: that of a reverse proxy
    with TLS which leads to WEB_PORT. Empty: `http://127.0.0.1:` and the port, which only browsers
    on this machine reach."""
    discord_client_secret: SecretStr | None = None
    """The client secret of your application, from “OAuth2” in Discord's developer portal. With it
    and WEB_URL, everybody can sign in to the page with their Discord account; without it, managers
    sign in with the link of `/growth`."""
    log_format: Literal["text", "json"] = "text"
    """The log format: `text` for people, `json` for programs."""
    log_content: bool = False
    """True: log what people say and what is answered. Only for debugging on a test server."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _from_text(str.upper)] = (
        "INFO"
    )
    """The least severe messages that are logged."""

    @property
    def token(self) -> str:
        """The token without spaces around it; empty if there is none."""
        return self.discord_token.get_secret_value().strip() if self.discord_token else ""

    @property
    def key(self) -> str | None:
        """The key of the database; None if it is not encrypted."""
        value = self.database_key.get_secret_value().strip() if self.database_key else ""
        return value or None

    @property
    def web_address(self) -> str:
        """Where people find the page of growth, without a slash at the end."""
        return self.web_url or f"http://127.0.0.1:{self.web_port}"

    @property
    def client_secret(self) -> str:
        """The application's secret without spaces around it; empty if there is none."""
        secret = self.discord_client_secret
        return secret.get_secret_value().strip() if secret else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no log."""
        return tuple(filter(None, (self.token, self.key, self.client_secret)))

    @property
    def paths(self) -> Paths:
        """Where everything in the home is."""
        return Paths(self.gpt2bot_home)

    @property
    def language(self) -> str:
        """`bot_language`, else the language of the terminal."""
        return self.bot_language or terminal_language()

    @property
    def own_default_model(self) -> str:
        """The default model in the operator's language."""
        return self.default_model or default_name(self.language)


def load_settings(**overrides: Any) -> Settings:
    """The settings of this machine; `overrides` take precedence over the environment and `.env`.

    Raises:
        SettingsError: a value is invalid.
    """
    try:
        settings = Settings(**{"_env_file_encoding": _env_file_encoding(), **overrides})
        find_option(with_custom_models(settings.models).values(), settings.own_default_model)
    except ValidationError as e:
        raise SettingsError(_sentence(e)) from e
    except UnknownModel as e:
        raise SettingsError(_wrong("DEFAULT_MODEL", e)) from e
    except (UnicodeDecodeError, OSError) as e:
        raise SettingsError(_why_unreadable(e)) from e
    return settings


def read_env_file() -> str:
    """The text of `.env`, its ends of lines as they are; empty if there is no such file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        with Path(ENV_FILE).open(encoding=_env_file_encoding(), newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (UnicodeError, OSError) as e:
        raise SettingsError(_why_unreadable(e)) from e


def _why_unreadable(error: UnicodeError | OSError) -> Phrase:
    if isinstance(error, UnicodeError):
        return NOT_UNICODE
    return phrase("The file .env cannot be read: {why}.", why=error)


def _env_file_encoding() -> str:
    """UTF-8, or the UTF-16 that Windows' PowerShell and Notepad write."""
    try:
        start = Path(ENV_FILE).read_bytes()
    except OSError:  # there is none, or reading it says why
        return "utf-8-sig"
    encoding = utf16_encoding(start) or "utf-8-sig"
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else encoding


def _sentence(error: ValidationError) -> Phrase:
    """What is wrong with the first invalid value."""
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
    """What a validator of ours says about a setting."""
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
    """Create the home and its folders.

    Raises:
        SettingsError: it is not a folder, or not writable.
    """
    home = settings.gpt2bot_home
    try:
        if not home.exists():
            home.mkdir(mode=0o700, parents=True)  # it holds private messages
        for folder in (settings.paths.checkpoints, settings.paths.built_models):
            folder.mkdir(exist_ok=True)
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


def sampling_params(settings: Settings, option: ModelOption | None = None) -> SamplingParams:
    """The settings of a reply, by a model if one is given."""
    usual = option.temperature if option else USUAL_TEMPERATURE
    return SamplingParams(
        max_new_tokens=settings.max_new_tokens,
        temperature=usual if settings.temperature is None else settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        repetition_penalty=settings.repetition_penalty,
        seed=settings.seed,
        banned_words=settings.banned_words,
    )


def worker_settings(settings: Settings, *, drain_s: float, log_level: str) -> WorkerSettings:
    """The settings of the worker process."""
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
        file = dotenv_values(ENV_FILE, encoding=_env_file_encoding())
    except (OSError, UnicodeDecodeError):
        file = {}
    values = {name.upper(): value for name, value in (file | dict(os.environ)).items() if value}
    return language_of_locale(values.get("BOT_LANGUAGE") or "") or terminal_language()
