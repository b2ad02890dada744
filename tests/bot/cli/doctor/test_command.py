"""`gpt2bot doctor`: each check on real things, and the command as people run it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from huggingface_hub import constants

from bot.cli.doctor.command import read_settings
from bot.cli.doctor.worker import check_worker
from bot.discord_ui.bot_permissions import INVITE_PERMISSIONS
from bot.ops.checks import models
from bot.ops.checks.check import Check, Finding, run_all, run_in_daemon_thread
from bot.ops.checks.machine import check_disk, check_memory
from bot.run import log_problems
from bot.settings import Settings, load_settings
from data.storage.storage import open_storage
from model.convert.artifact import GRAPH_FILE, read_metadata
from model.convert.build import build
from model.convert.int8.quality import Int8Quality
from model.registry import EMBEDDED_FOLDER
from tests.bot.cli.command import Command
from tests.bot.discord_api import TOKEN, Api, serve
from tests.bot.discord_ui.cogs.test_models import make_folder
from tests.builds import BUILT, put_built_tiny
from tests.model_folders import make_adapter_folder, make_model_folder
from training.checkpoints import MANIFEST_FILE, Manifest, seal, verify_sizes

NAMES = [
    "settings",
    "token",
    "intents",
    "permissions",
    "database",
    "disk",
    "memory",
    "embedded models",
    "default model",
    "hub",
    "MODELS",
    "checkpoints",
    "int8",
    "worker",
    "device",
]


@pytest.fixture
def gpt2bot(tmp_path: Path) -> Command:
    return Command(tmp_path)


def spoil(folder: Path) -> None:
    """Another file of the same size."""
    config = folder / "config.json"
    config.write_bytes(bytes(config.stat().st_size))


# --- running -------------------------------------------------------------------------------------


async def test_none_hides_the_others_whatever_it_does() -> None:
    async def fine() -> Sequence[Finding]:
        return [Finding("fine", "It is.")]

    async def breaks() -> Sequence[Finding]:
        raise LookupError("something odd")

    async def never() -> Sequence[Finding]:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    found = await run_all(
        [Check(("never", "device"), never, 0.01), Check(("odd",), breaks, 9), Check((), fine, 9)]
    )
    assert [(one.name, one.ok) for one in found] == [
        ("never", False),
        ("device", False),
        ("odd", False),
        ("fine", True),
    ]
    assert "no answer within 0.01 seconds" in found[0].detail
    assert "LookupError: something odd" in found[2].detail


async def test_an_error_in_a_thread_comes_back() -> None:
    def work() -> None:
        raise LookupError("there")

    assert await run_in_daemon_thread(lambda: 7) == 7
    with pytest.raises(LookupError, match="there"):
        await run_in_daemon_thread(work)


# --- settings ------------------------------------------------------------------------------------


def test_every_wrong_setting_is_told_and_the_rest_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("CACHE_MB=1\nLOG_LEVEL=loud\nDEFAULT_MODEL=gpt5\nSEED=7\n")
    settings, finding = read_settings()
    assert not finding.ok
    assert all(name in finding.detail for name in ("CACHE_MB", "LOG_LEVEL", "DEFAULT_MODEL"))
    assert (settings.cache_mb, settings.default_model, settings.seed) == (320, None, 7)
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")  # half a character
    settings, finding = read_settings()
    assert "neither UTF-8 nor UTF-16" in finding.detail
    assert settings.seed is None
    (tmp_path / ".env").write_text("SEED=7\n")
    assert read_settings()[1].ok


# --- the machine ---------------------------------------------------------------------------------


@pytest.fixture
def huge(tmp_path: Path, settings: Settings) -> Settings:
    """A default model that nobody has room for, as far as its config.json goes."""
    folder = tmp_path / "huge"
    folder.mkdir()
    sizes = {"n_layer": 1000, "n_embd": 10**6, "vocab_size": 10**6, "n_positions": 10, "n_head": 8}
    (folder / "config.json").write_text(json.dumps(sizes))
    return settings.model_copy(update={"models": {"huge": str(folder)}, "default_model": "huge"})


def test_room_on_the_disk(settings: Settings, huge: Settings) -> None:
    fits, does_not = check_disk(settings), check_disk(huge)
    assert fits.ok
    assert "a whole copy of tiny takes 21 MB" in fits.detail
    assert not does_not.ok
    assert "a whole copy of huge takes" in does_not.detail
    assert not settings.gpt2bot_home.exists()


@pytest.mark.parametrize("home", ["file", "file/below"])
def test_a_home_that_cannot_be_made(settings: Settings, tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    found = check_disk(settings.model_copy(update={"gpt2bot_home": tmp_path / home}))
    assert found.detail.startswith(f"GPT2BOT_HOME is {tmp_path / home}, and nothing can be written")
    assert "Not a directory" in found.detail


def test_memory(settings: Settings, huge: Settings) -> None:
    small = settings.model_copy(update={"memory_mb": 64, "cache_mb": 16})
    assert check_memory(small).ok
    greedy = check_memory(settings.model_copy(update={"memory_mb": 10**9}))
    assert "Lower MEMORY_MB" in greedy.advice
    found = check_memory(huge)
    assert "DEFAULT_MODEL" in found.advice
    unknown = small.model_copy(update={"models": {"far": "some/where"}, "default_model": "far"})
    assert check_memory(unknown).ok


# --- models --------------------------------------------------------------------------------------


def test_the_embedded_models_are_as_they_were_shipped() -> None:
    found = models.check_embedded_models()
    assert (found.ok, found.detail) == (True, "Intact: tiny, tiny-ja.")


def test_folders_of_the_operator(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "good")
    (tmp_path / "empty").mkdir()
    mute = shutil.copytree(EMBEDDED_FOLDER, tmp_path / "mute")
    (mute / "tokenizer.json").unlink()
    named = {"good": str(tmp_path / "good"), "far": "some/where"}
    assert models.check_extra_models(settings.model_copy(update={"models": named})).ok
    named |= {name: str(tmp_path / name) for name in ("empty", "gone", "mute")}
    found = models.check_extra_models(settings.model_copy(update={"models": named}))
    assert "empty is no model folder: it has no weights as safetensors." in found.detail
    assert "gone cannot be read" in found.detail
    assert "mute has no tokenizer: copy the tokenizer.json of its base into it." in found.detail
    assert "good" not in found.detail


def test_checkpoints_of_every_server(settings: Settings) -> None:
    assert models.check_checkpoints(settings).ok
    root = settings.gpt2bot_home / "checkpoints"
    make_folder(root / "1" / "tiny-1")
    make_folder(root / "2" / "tiny-1")
    (root / "2" / "unfinished").mkdir()
    assert models.check_checkpoints(settings).detail == "Intact: 2."
    spoil(root / "2" / "tiny-1")
    found = models.check_checkpoints(settings)
    assert "2: tiny-1 is damaged: config.json was changed." in found.detail
    assert not found.ok


def test_an_adapter_needs_its_base(settings: Settings) -> None:
    root = settings.gpt2bot_home / "checkpoints"
    base = make_model_folder(root / "bases" / "own-1a2b")
    nothing_learned = Manifest(
        name=base.name,
        base="own",
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="",
        parameters=1,
        settings={},
        scores={},
    )
    seal(base, nothing_learned)
    adapter = make_adapter_folder(root / "1" / "own-1", base)
    block = json.loads((adapter / MANIFEST_FILE).read_text())["adapter"]
    seal(adapter, replace(nothing_learned, name="own-1", adapter=block))
    assert models.check_checkpoints(settings).detail == "Intact: 2."
    assert models.check_checkpoints(settings, verify_sizes).ok
    shutil.rmtree(base)
    found = models.check_checkpoints(settings)
    assert "1: The base of own-1 is missing: own-1a2b is not on this machine" in found.detail
    make_model_folder(base, says="something else")
    seal(base, nothing_learned)
    found = models.check_checkpoints(settings)
    assert "1: own-1 belongs to other weights of own-1a2b" in found.detail


async def hub(settings: Settings) -> dict[str, Finding]:
    return {one.name: one for one in await models.check_hub(settings)}


@pytest.fixture
def far(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A default model of the Hub, an empty cache, and leave to go online."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return settings.model_copy(update={"models": {"far": "some/where"}, "default_model": "far"})


def download(tmp_path: Path) -> None:
    """What a download leaves in the cache."""
    stored = tmp_path / "hub" / "models--some--where"
    shutil.copytree(EMBEDDED_FOLDER, stored / "snapshots" / "abc")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("abc")


async def test_a_hub_that_cannot_be_reached(
    far: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    found = await hub(far)
    assert not found["hub"].ok
    assert "but far must be downloaded from there" in found["hub"].detail
    assert "tiny answers" in found["default model"].advice
    download(tmp_path)
    found = await hub(far)
    assert found["default model"].detail == "far is downloaded."
    assert "nothing is needed from there" in found["hub"].detail


@pytest.mark.parametrize("status", [200, 503])
async def test_a_hub_that_answers(
    far: Settings, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    found = await hub(far)
    await runner.cleanup()
    assert found["hub"].ok is found["default model"].ok is (status == 200)


async def test_offline_on_purpose(far: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = await hub(far)
    assert "HF_HUB_OFFLINE" in found["hub"].detail
    assert found["hub"].ok
    assert not found["default model"].ok


async def test_a_default_model_of_this_machine(settings: Settings) -> None:
    assert (await hub(settings))["default model"].ok


# --- int8 ----------------------------------------------------------------------------------------


def test_models_that_were_built_in_int8(settings: Settings, tmp_path: Path) -> None:
    """One of a folder that is near to fp32, one of the Hub that is partly kept in it."""
    assert models.check_int8(settings).detail == "No model was built yet; each is checked then."
    artifact = build(str(EMBEDDED_FOLDER), BUILT, "int8")
    known = read_metadata(artifact)
    hub = tmp_path / "models--someone--small" / "snapshots" / "0123abc"
    mixed = Int8Quality(divergence=0.004, loss=0.0048, fp32=5, matrices=21)
    near = Int8Quality(divergence=0.001, loss=-0.0012, matrices=21)
    for name, meta in (
        ("one", replace(known, int8=near)),
        ("two", replace(known, checkpoint=str(hub), int8=mixed)),
        ("torch", replace(known, int8=None)),
    ):
        folder = settings.paths.built_models / name
        folder.mkdir(parents=True)
        meta.save(folder)
    found = models.check_int8(settings)
    assert found.ok
    assert found.detail == (
        "2 models were built; their perplexity is at most 0.5 % above that in fp32. "
        "someone/small: 5 of 21 weight matrices stay in fp32, because in int8 the replies would "
        "change too much; so its perplexity is at most 0.5 % above that in fp32."
    )


# --- the command ---------------------------------------------------------------------------------

AT = """
import os
from discord.http import Route
Route.BASE = os.environ["DISCORD_AT"]
from bot.__main__ import main
main()
"""


async def doctor(
    gpt2bot: Command, url: str, *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    env = {"DISCORD_AT": url, "DISCORD_TOKEN": TOKEN, "DEFAULT_MODEL": "tiny"} | env
    return await asyncio.to_thread(gpt2bot, "doctor", *arguments, code=AT, **env)


def by_name(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    whole = json.loads(done.stdout)
    assert done.stderr == ""
    assert [one["name"] for one in whole["checks"]] == NAMES
    assert all(set(one) == {"name", "ok", "detail", "advice"} for one in whole["checks"])
    assert whole["ok"] is all(one["ok"] for one in whole["checks"])
    assert done.returncode == (0 if whole["ok"] else 1)
    return {one["name"]: one for one in whole["checks"]}


async def test_all_is_well_and_nothing_is_made(gpt2bot: Command, tmp_path: Path) -> None:
    async with serve(Api(guilds=[("The Lighthouse", INVITE_PERMISSIONS.value)])) as api:
        found = by_name(await doctor(gpt2bot, api.url, "--json", CACHE_MB="16", MEMORY_MB="64"))
    assert [name for name, one in found.items() if not one["ok"]] == []
    assert found["device"]["detail"]
    assert not (tmp_path / "var").exists()


async def test_the_model_that_the_bot_has_built_is_the_one_that_is_tried(
    settings: Settings, tmp_path: Path
) -> None:
    """So a damaged one is repaired, as the bot would do it at its start."""
    put_built_tiny(tmp_path / "var")
    [built] = settings.paths.built_models.iterdir()
    (built / GRAPH_FILE).write_bytes(b"damaged")
    assert [one.ok for one in await check_worker(settings)] == [True, True]
    assert list(settings.paths.built_models.iterdir()) == [built]
    assert (built / GRAPH_FILE).read_bytes() != b"damaged"


async def test_all_that_is_wrong_is_told_at_once(gpt2bot: Command, tmp_path: Path) -> None:
    home = tmp_path / "var"
    home.mkdir()
    async with open_storage(home / "gpt2bot.sqlite3") as storage:
        await storage.channels.set_enabled(1, 1, True)
    os.truncate(home / "gpt2bot.sqlite3", 9000)
    put_built_tiny(home)
    spoil(make_folder(home / "checkpoints" / "1" / "tiny-1"))
    env = {"TOP_P": "7", "MODELS": f"mine={tmp_path}", "MEMORY_MB": "999999999"}
    async with serve(Api(guilds=[("The Pier", 0)], flags=0)) as api:
        found = by_name(await doctor(gpt2bot, api.url, "--json", **env))
    wrong = {name for name, one in found.items() if not one["ok"]}
    assert wrong == {
        *("settings", "intents", "permissions", "database", "memory", "MODELS", "checkpoints")
    }
    assert all(one["advice"] for one in found.values() if not one["ok"])


async def test_what_a_person_reads(gpt2bot: Command) -> None:
    put_built_tiny(gpt2bot.folder / "var")
    async with serve(Api(guilds=[("The Lighthouse", INVITE_PERMISSIONS.value)])) as api:
        done = await doctor(gpt2bot, api.url, DISCORD_TOKEN="wrong")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert done.stderr == ""
    assert "!!  token            Discord does not accept DISCORD_TOKEN." in lines
    assert "ok  embedded models  Intact: tiny, tiny-ja." in lines
    assert lines[-1].startswith("3 of 15 checks failed: token, intents, permissions.")


# --- at the start --------------------------------------------------------------------------------


async def test_only_problems_are_logged_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(
        gpt2bot_home=tmp_path / "var", default_model="tiny", memory_mb=64, cache_mb=16
    )
    await log_problems(settings)
    assert caplog.text == ""
    folder = make_folder(tmp_path / "var" / "checkpoints" / "1" / "tiny-1")
    (folder / "config.json").unlink()
    await log_problems(settings)
    [line] = caplog.messages
    assert line.startswith("checkpoints: 1 of 1 are damaged. 1: tiny-1 is damaged: config.json is")


async def log_line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    return await process.stderr.readline()


async def test_the_bot_looks_while_it_starts(gpt2bot: Command, tmp_path: Path) -> None:
    """Discord does not answer its login yet, and what is wrong is in the log."""
    put_built_tiny(tmp_path / "var")
    spoilt = make_folder(tmp_path / "var" / "checkpoints" / "1" / "tiny-1")
    (spoilt / "config.json").unlink()
    async with serve(Api(answers=asyncio.Event())) as api:
        bot = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AT, "run"),
            cwd=gpt2bot.folder,
            env=gpt2bot.environment | {"DISCORD_AT": api.url, "DISCORD_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                while b"checkpoints: 1 of 1 are damaged." not in (line := await log_line(bot)):
                    assert line, "it ended without a word"
            assert b"warning" in line.lower()
        finally:
            bot.kill()
            await bot.wait()
            api.answers.set()


def test_a_start_without_discord_may_be_tried_again(gpt2bot: Command) -> None:
    put_built_tiny(gpt2bot.folder / "var")
    nobody = {"DISCORD_AT": "http://127.0.0.1:9", "DISCORD_TOKEN": TOKEN}
    done = gpt2bot("run", code=AT, **nobody)
    assert done.returncode == 75, done.stderr
    assert "Discord cannot be reached" in done.stderr
