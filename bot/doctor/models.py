"""The models: the embedded one, the operator's own, the checkpoints, and those of the Hub.

Reads files and their checksums; loads nothing, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import aiohttp

from bot.doctor.checks import in_thread
from bot.doctor.report import Finding
from bot.settings import CHECKPOINTS as FOLDER
from bot.settings import Settings
from model.errors import LoadFailed
from model.folder import check, find
from model.registry import EMBEDDED, TINY, from_settings
from training.checkpoints import MANIFEST, Manifest, verify
from training.errors import CorruptCheckpoint

TINY_NAME, OWN, CHECKPOINTS = "embedded model", "MODELS", "checkpoints"
DEFAULT, HUB = HUB_NAMES = ("default model", "hub")
SHOWN = 5
"""Damaged checkpoints that are named."""
HEAD_S = 10.0
"""Seconds that the Hub has to answer."""


def embedded() -> list[Finding]:
    """Whether `tiny` is as it was shipped."""
    try:
        verify(TINY)
        check(TINY, EMBEDDED)
    except (CorruptCheckpoint, LoadFailed) as e:
        advice = "Install the bot again: the files of the package were changed."
        return [Finding(TINY_NAME, False, str(e), advice)]
    return [Finding(TINY_NAME, True, f"{EMBEDDED} is as it was shipped.")]


def own(settings: Settings) -> list[Finding]:
    """Whether the folders of MODELS hold models; for its Hub ids see `hub`."""
    folders = {
        name: Path(source) for name, source in settings.extra_models.items() if is_folder(source)
    }
    if not folders:
        return [Finding(OWN, True, "No folders are named.")]
    wrong = [sentence for name, one in folders.items() if (sentence := _wrong(name, one))]
    if wrong:
        advice = "Mend the folder, or take its name out of MODELS."
        return [Finding(OWN, False, " ".join(wrong), advice)]
    return [Finding(OWN, True, f"Whole: {', '.join(folders)}.")]


def is_folder(source: str) -> bool:
    """Whether a source of a model is a folder, and not a Hub id."""
    return Path(source).is_absolute() or Path(source).is_dir()


def _wrong(name: str, folder: Path) -> str | None:
    try:
        check(folder, name)
    except LoadFailed as e:
        return str(e)
    except (OSError, RuntimeError) as e:
        return f"{name} cannot be read ({type(e).__name__}: {e})."
    return None


def checkpoints(settings: Settings, test: Callable[[Path], Manifest] = verify) -> list[Finding]:
    """Whether every finished checkpoint of every server is as it was sealed."""
    count, wrong = 0, []
    for folder in _sealed(settings.gpt2bot_home / FOLDER):
        count += 1
        try:
            test(folder)
        except CorruptCheckpoint as e:
            wrong.append(f"{folder.parent.name}: {e}")
    if wrong:
        more = f" … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        detail = f"{len(wrong)} of {count} are damaged. {' '.join(wrong[:SHOWN])}{more}"
        advice = (
            f"Choose another model there (`/model use`), then remove the folder below "
            f"{settings.gpt2bot_home / FOLDER}, or put back a copy of it."
        )
        return [Finding(CHECKPOINTS, False, detail, advice)]
    return [Finding(CHECKPOINTS, True, f"Whole: {count}." if count else "There are none yet.")]


def _sealed(root: Path) -> Iterator[Path]:
    """Every folder that was finished, of every server; without a manifest nobody uses it."""
    return (path.parent for path in sorted(root.glob(f"*/*/{MANIFEST}")))


async def hub(settings: Settings) -> list[Finding]:
    """Whether what comes from the Hub is here, or can be had."""
    from huggingface_hub import constants

    options = from_settings(settings.extra_models)
    wanted = {settings.default_model, *settings.extra_models}
    sources = {name: options[name].source for name in sorted(wanted)}
    ids = {name: source for name, source in sources.items() if not is_folder(source)}
    absent = [name for name, one in ids.items() if not await in_thread(partial(_is_here, one))]
    offline = constants.is_offline_mode()
    trouble = None if offline else await _trouble(constants.ENDPOINT)
    return [
        _default(settings.default_model, ids, absent, reachable=not offline and trouble is None),
        _hub(constants.ENDPOINT, absent, trouble, offline=offline),
    ]


def _is_here(hub_id: str) -> bool:
    try:
        check(find(hub_id, download=False), hub_id)
    except (LoadFailed, OSError, ValueError, RuntimeError):
        return False
    return True


async def _trouble(address: str) -> str | None:
    """Why the Hub does not answer; None if it does."""
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=HEAD_S), trust_env=True
            ) as session,
            session.head(address, allow_redirects=True) as response,
        ):
            return None if response.status < 500 else f"status {response.status}"
    except TimeoutError:
        return f"no answer within {HEAD_S:g} seconds"
    except (OSError, aiohttp.ClientError, ValueError) as e:
        return str(e) or type(e).__name__


def _default(name: str, ids: dict[str, str], absent: list[str], *, reachable: bool) -> Finding:
    if name not in ids:
        return Finding(DEFAULT, True, f"{name} is a folder of this machine.")
    if name not in absent:
        return Finding(DEFAULT, True, f"{name} was downloaded.")
    detail = f"{name} was not downloaded yet"
    if reachable:
        return Finding(DEFAULT, True, f"{detail}; the first start does that.")
    advice = (
        f"Start the bot once where the Hub can be reached, or name a folder in MODELS and "
        f"DEFAULT_MODEL; until then {EMBEDDED} answers."
    )
    return Finding(DEFAULT, False, f"{detail}, and the Hub cannot be asked for it.", advice)


def _hub(address: str, absent: list[str], trouble: str | None, *, offline: bool) -> Finding:
    if offline:
        return Finding(HUB, True, "It was not asked, because HF_HUB_OFFLINE is set.")
    if trouble is None:
        return Finding(HUB, True, f"{address} answers.")
    detail = f"{address} cannot be reached ({trouble})"
    if not absent:
        return Finding(HUB, True, f"{detail}; nothing is needed from there.")
    advice = "Check this machine's connection and firewall, or download the models elsewhere."
    return Finding(HUB, False, f"{detail}, and has to be asked for {', '.join(absent)}.", advice)
