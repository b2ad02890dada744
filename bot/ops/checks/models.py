"""The models: the embedded one, the operator's own, the checkpoints, and those of the Hub.

Reads files and their checksums; loads nothing, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import aiohttp

from bot.ops.checks.finding import Finding
from bot.ops.checks.runner import run_in_daemon_thread
from bot.settings import Settings
from i18n.phrase import Phrase, join_phrases, message_of, phrase
from model.convert.validation import resolve_source, validate_folder
from model.errors import LoadFailed
from model.registry import EMBEDDED_FOLDER, EMBEDDED_NAME, with_custom_models
from training.checkpoints import MANIFEST_FILE, Manifest, verify
from training.errors import CorruptCheckpoint

EMBEDDED_CHECK, EXTRA_MODELS_CHECK, CHECKPOINTS_CHECK = (
    phrase("embedded model"),
    "MODELS",
    phrase("checkpoints"),
)
DEFAULT, HUB = HUB_NAMES = (phrase("default model"), phrase("hub"))
MAX_DAMAGED_NAMED = 5
"""Damaged checkpoints that are named."""
HUB_TIMEOUT_S = 10.0
"""Seconds that the Hub has to answer."""


def check_embedded_model() -> list[Finding]:
    """Whether `tiny` is as it was shipped."""
    try:
        verify(EMBEDDED_FOLDER)
        validate_folder(EMBEDDED_FOLDER, EMBEDDED_NAME)
    except (CorruptCheckpoint, LoadFailed) as e:
        advice = phrase("Install the bot again: the files of the package were changed.")
        return [Finding(EMBEDDED_CHECK, False, message_of(e), advice)]
    return [
        Finding(EMBEDDED_CHECK, True, phrase("{model} is as it was shipped.", model=EMBEDDED_NAME))
    ]


def check_extra_models(settings: Settings) -> list[Finding]:
    """Whether the folders of MODELS hold models; for its Hub ids see `check_hub`."""
    folders = {name: Path(source) for name, source in settings.models.items() if is_folder(source)}
    if not folders:
        return [Finding(EXTRA_MODELS_CHECK, True, phrase("No folders are named."))]
    wrong = [sentence for name, one in folders.items() if (sentence := _wrong(name, one))]
    if wrong:
        advice = phrase("Mend the folder, or take its name out of MODELS.")
        return [Finding(EXTRA_MODELS_CHECK, False, join_phrases(wrong), advice)]
    return [
        Finding(
            EXTRA_MODELS_CHECK, True, phrase("Whole: {names}.", names=join_phrases(folders, ", "))
        )
    ]


def is_folder(source: str) -> bool:
    """Whether a source of a model is a folder, and not a Hub id."""
    return Path(source).is_absolute() or Path(source).is_dir()


def _wrong(name: str, folder: Path) -> str | None:
    try:
        validate_folder(folder, name)
    except LoadFailed as e:
        return message_of(e)
    except (OSError, RuntimeError) as e:
        kind = type(e).__name__
        return phrase("{model} cannot be read ({kind}: {error}).", model=name, kind=kind, error=e)
    return None


def check_checkpoints(
    settings: Settings, test: Callable[[Path], Manifest] = verify
) -> list[Finding]:
    """Whether every finished checkpoint of every server is as it was sealed."""
    count, wrong = 0, []
    for folder in _finished_checkpoints(settings.paths.checkpoints):
        count += 1
        try:
            test(folder)
        except CorruptCheckpoint as e:
            wrong.append(join_phrases([folder.parent.name, message_of(e)], ": "))
    if wrong:
        advice = phrase(
            "Choose another model there (`/model use`), then remove the folder below {folder}, or "
            "put back a copy of it.",
            folder=settings.paths.checkpoints,
        )
        return [Finding(CHECKPOINTS_CHECK, False, _damaged(wrong, count), advice)]
    if not count:
        return [Finding(CHECKPOINTS_CHECK, True, phrase("There are none yet."))]
    return [Finding(CHECKPOINTS_CHECK, True, phrase("Whole: {count}.", count=count))]


def _damaged(wrong: Sequence[Phrase], count: int) -> Phrase:
    parts = [
        phrase("{wrong} of {count} are damaged.", wrong=len(wrong), count=count),
        *wrong[:MAX_DAMAGED_NAMED],
    ]
    if more := max(0, len(wrong) - MAX_DAMAGED_NAMED):
        parts.append(phrase("… and {count} more", count=more))
    return join_phrases(parts)


def _finished_checkpoints(root: Path) -> Iterator[Path]:
    """Every folder that was finished, of every server; without a manifest nobody uses it."""
    return (path.parent for path in sorted(root.glob(f"*/*/{MANIFEST_FILE}")))


async def check_hub(settings: Settings) -> list[Finding]:
    """Whether what comes from the Hub is here, or can be had."""
    from huggingface_hub import constants

    options = with_custom_models(settings.models)
    wanted = {settings.default_model, *settings.models}
    sources = {name: options[name].source for name in sorted(wanted)}
    ids = {name: source for name, source in sources.items() if not is_folder(source)}
    absent = [
        name for name, one in ids.items() if not await run_in_daemon_thread(partial(_is_here, one))
    ]
    offline = constants.is_offline_mode()
    trouble = None if offline else await _hub_problem(constants.ENDPOINT)
    return [
        _default(settings.default_model, ids, absent, reachable=not offline and trouble is None),
        _hub(constants.ENDPOINT, absent, trouble, offline=offline),
    ]


def _is_here(hub_id: str) -> bool:
    try:
        validate_folder(resolve_source(hub_id, download=False), hub_id)
    except (LoadFailed, OSError, ValueError, RuntimeError):
        return False
    return True


async def _hub_problem(address: str) -> str | None:
    """Why the Hub does not answer; None if it does."""
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=HUB_TIMEOUT_S), trust_env=True
            ) as session,
            session.head(address, allow_redirects=True) as response,
        ):
            if response.status < 500:
                return None
            return phrase("status {status}", status=response.status)
    except TimeoutError:
        return phrase("no answer within {seconds:g} seconds", seconds=HUB_TIMEOUT_S)
    except (OSError, aiohttp.ClientError, ValueError) as e:
        return str(e) or type(e).__name__


def _default(name: str, ids: dict[str, str], absent: list[str], *, reachable: bool) -> Finding:
    if name not in ids:
        return Finding(DEFAULT, True, phrase("{model} is a folder of this machine.", model=name))
    if name not in absent:
        return Finding(DEFAULT, True, phrase("{model} was downloaded.", model=name))
    if reachable:
        later = phrase("{model} was not downloaded yet; the first start does that.", model=name)
        return Finding(DEFAULT, True, later)
    return Finding(
        DEFAULT,
        False,
        phrase("{model} was not downloaded yet, and the Hub cannot be asked for it.", model=name),
        phrase(
            "Start the bot once where the Hub can be reached, or name a folder in MODELS and "
            "DEFAULT_MODEL; until then {model} answers.",
            model=EMBEDDED_NAME,
        ),
    )


def _hub(address: str, absent: list[str], trouble: str | None, *, offline: bool) -> Finding:
    if offline:
        offline_on_purpose = phrase("It was not asked, because HF_HUB_OFFLINE is set.")
        return Finding(HUB, True, offline_on_purpose)
    if trouble is None:
        return Finding(HUB, True, phrase("{address} answers.", address=address))
    if not absent:
        detail = phrase(
            "{address} cannot be reached ({why}); nothing is needed from there.",
            address=address,
            why=trouble,
        )
        return Finding(HUB, True, detail)
    return Finding(
        HUB,
        False,
        phrase(
            "{address} cannot be reached ({why}), and has to be asked for {names}.",
            address=address,
            why=trouble,
            names=join_phrases(absent, ", "),
        ),
        phrase("Check this machine's connection and firewall, or download the models elsewhere."),
    )
