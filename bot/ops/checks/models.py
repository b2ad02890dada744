"""Checks of the models: the embedded one, the folders of MODELS, the checkpoints, the Hub.

They read files and verify checksums; nothing is loaded or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp

from bot.ops.checks.check import Finding, run_in_daemon_thread
from bot.settings import Settings
from i18n.phrase import join_phrases, message_of, phrase, phrases
from model.convert.adapter_folder import validate_model
from model.convert.artifact import ModelMetadata, read_built_models
from model.convert.int8.quality import int8_message
from model.convert.validation import is_downloaded, is_folder, validate_folder
from model.errors import LoadFailed
from model.registry import embedded_name, is_embedded, model_options, with_custom_models
from training.checkpoints import MANIFEST_FILE, Manifest, verify
from training.errors import CorruptCheckpoint
from training.shared_bases import check_adapter

EMBEDDED, MODELS, CHECKPOINTS = phrase("embedded models"), "MODELS", phrase("checkpoints")
INT8 = "int8"
DEFAULT, HUB = HUB_NAMES = (phrase("default model"), phrase("hub"))
MAX_DAMAGED_NAMED = MAX_MIXED_NAMED = 5
HUB_TIMEOUT_S = 10.0


def check_embedded_models() -> Finding:
    """Whether the files of the embedded models are unchanged."""
    names = {name: Path(one.source) for name, one in model_options.items() if is_embedded(name)}
    try:
        for name, folder in names.items():
            verify(folder)
            validate_folder(folder, name)
    except (CorruptCheckpoint, LoadFailed) as e:
        advice = phrase("Reinstall the bot: files of the package were changed.")
        return Finding(EMBEDDED, message_of(e), advice)
    return Finding(EMBEDDED, phrase("Intact: {names}.", names=join_phrases(names, ", ")))


def check_extra_models(settings: Settings) -> Finding:
    """Whether the folders of MODELS contain models; `check_hub` checks its Hub ids."""
    folders = {name: Path(source) for name, source in settings.models.items() if is_folder(source)}
    if not folders:
        return Finding(MODELS, phrase("It names no folders."))
    if wrong := [problem for name, one in folders.items() if (problem := _problem(name, one))]:
        advice = phrase("Repair the folder, or remove its name from MODELS.")
        return Finding(MODELS, join_phrases(wrong), advice)
    return Finding(MODELS, phrase("Intact: {names}.", names=join_phrases(folders, ", ")))


def _problem(name: str, folder: Path) -> str | None:
    try:
        validate_model(folder, name)
    except LoadFailed as e:
        return message_of(e)
    except (OSError, RuntimeError) as e:
        kind = type(e).__name__
        return phrase("{model} cannot be read ({kind}: {error}).", model=name, kind=kind, error=e)
    return None


def check_checkpoints(settings: Settings, verify: Callable[[Path], Manifest] = verify) -> Finding:
    """Whether the finished checkpoints of all servers are unchanged, and the bases of adapters
    there; those have a manifest."""
    root = settings.paths.checkpoints
    finished = [path.parent for path in sorted(root.glob(f"*/*/{MANIFEST_FILE}"))]
    wrong = []
    for folder in finished:
        try:
            verify(folder)
            check_adapter(folder)
        except (CorruptCheckpoint, LoadFailed) as e:
            wrong.append(join_phrases([folder.parent.name, message_of(e)], ": "))
    if not finished:
        return Finding(CHECKPOINTS, phrase("There are none yet."))
    if not wrong:
        return Finding(CHECKPOINTS, phrase("Intact: {count}.", count=len(finished)))
    count = phrase("{wrong} of {count} are damaged.", wrong=len(wrong), count=len(finished))
    parts = [count, *wrong[:MAX_DAMAGED_NAMED]]
    if (more := len(wrong) - MAX_DAMAGED_NAMED) > 0:
        parts.append(phrase("… and {count} more", count=more))
    advice = phrase(
        "Choose another model there (`/model use`), then delete the folder below {folder}, or "
        "restore a copy of it.",
        folder=root,
    )
    return Finding(CHECKPOINTS, join_phrases(parts), advice)


def check_int8(settings: Settings) -> Finding:
    """How near the models that were built in int8 are to fp32."""
    found = {
        _built_from(meta): meta.int8
        for meta in read_built_models(settings.paths.built_models)
        if meta.int8 is not None
    }
    if not found:
        return Finding(INT8, phrase("No model was built yet; each is checked then."))
    worst = max(one.percent for one in found.values())
    near = phrases(
        "{count} model was built; its perplexity is at most {percent:.1f} % above that in fp32.",
        "{count} models were built; their perplexity is at most {percent:.1f} % above that in "
        "fp32.",
        len(found),
        percent=worst,
    )
    mixed = [
        join_phrases([name, int8_message(one)], ": ") for name, one in found.items() if one.fp32
    ]
    return Finding(INT8, join_phrases([near, *mixed[:MAX_MIXED_NAMED]]))


def _built_from(meta: ModelMetadata) -> str:
    """What people call the model; the Hub's folders are named after their commit."""
    folder = Path(meta.checkpoint)
    if folder.parent.name == "snapshots":
        return folder.parents[1].name.removeprefix("models--").replace("--", "/")
    return folder.name


async def check_hub(settings: Settings) -> list[Finding]:
    """Whether the Hub models of the settings are in the cache, or can be downloaded."""
    from huggingface_hub import constants

    options = with_custom_models(settings.models)
    sources = {
        name: options[name].source
        for name in sorted({settings.own_default_model, *settings.models})
    }
    ids = {name: source for name, source in sources.items() if not is_folder(source)}
    missing = [
        name
        for name, one in ids.items()
        if not await run_in_daemon_thread(partial(is_downloaded, one))
    ]
    offline, address = constants.is_offline_mode(), constants.ENDPOINT
    problem = None if offline else await _hub_problem(address)
    if offline:
        hub = Finding(HUB, phrase("It was not contacted, because HF_HUB_OFFLINE is set."))
    elif problem is None:
        hub = Finding(HUB, phrase("{address} answers.", address=address))
    else:
        hub = _unreachable(address, problem, missing)
    reachable = not offline and problem is None
    return [
        _default(settings.own_default_model, ids, settings.language, missing, reachable=reachable),
        hub,
    ]


async def _hub_problem(address: str) -> str | None:
    """Why the Hub does not answer; None if it does."""
    timeout = aiohttp.ClientTimeout(total=HUB_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.head(address, allow_redirects=True) as response,
        ):
            if response.status < 500:
                return None
            return phrase("status {status}", status=response.status)
    except TimeoutError:
        return phrase("no answer within {seconds:g} seconds", seconds=HUB_TIMEOUT_S)
    except (OSError, aiohttp.ClientError, ValueError) as e:
        return str(e) or type(e).__name__


def _default(
    name: str, ids: dict[str, str], language: str, missing: list[str], *, reachable: bool
) -> Finding:
    if name not in ids:
        return Finding(DEFAULT, phrase("{model} is a folder on this machine.", model=name))
    if name not in missing:
        return Finding(DEFAULT, phrase("{model} is downloaded.", model=name))
    if reachable:
        later = phrase("{model} is not downloaded yet; the first start does that.", model=name)
        return Finding(DEFAULT, later)
    return Finding(
        DEFAULT,
        phrase("{model} is not downloaded yet, and the Hub cannot be reached.", model=name),
        phrase(
            "Start the bot once where the Hub can be reached, or name a folder in MODELS and "
            "DEFAULT_MODEL; until then {model} answers.",
            model=embedded_name(language),
        ),
    )


def _unreachable(address: str, problem: str, missing: list[str]) -> Finding:
    if not missing:
        detail = phrase(
            "{address} cannot be reached ({why}); nothing is needed from there.",
            address=address,
            why=problem,
        )
        return Finding(HUB, detail)
    return Finding(
        HUB,
        phrase(
            "{address} cannot be reached ({why}), but {names} must be downloaded from there.",
            address=address,
            why=problem,
            names=join_phrases(missing, ", "),
        ),
        phrase("Check this machine's connection and firewall, or download the models elsewhere."),
    )
