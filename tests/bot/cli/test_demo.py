"""The demo as a newcomer runs it: a process of its own, its page over HTTP, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.cli.demo import WELCOME, follow_real_time
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS
from bot.learning.retraining import NOTHING_TAUGHT
from core.texts import utf16_length
from tests.bot.conftest import World


@dataclass
class Page:
    """SimCord's page without a browser: what its script asks of the server, and how."""

    session: aiohttp.ClientSession
    capability: str
    state: dict[str, Any] = field(default_factory=dict)
    actions: int = 0

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, capability: str) -> Page:
        page = cls(session, capability)
        page.state = await page._ask("POST", "/api/pages", {})
        return page

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"X-Simcord-Capability": self.capability}
        if self.state:
            headers["X-Simcord-Context"] = self.state["context"]["id"]
        async with self.session.request(method, path, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            told: dict[str, Any] = await answer.json()
            return told

    async def send(self, text: str, *, revision: int) -> str:
        """Write a message, as a page that shows that revision; how it went."""
        return await self._act("send_message", revision, content=text)

    async def run(self, command: str) -> str:
        """Run a slash command without options; how it went."""
        catalog = await self._ask("GET", "/api/commands")
        entry = next(one for one in catalog["entries"] if one["invocation"] == command)
        return await self._act(
            "run_command",
            self.state["publishedRevision"],
            command_id=entry["commandId"],
            path=entry["path"],
            schema_fingerprint=entry["schemaFingerprint"],
            options={},
        )

    async def _act(self, kind: str, revision: int, **fields: Any) -> str:
        self.actions += 1
        body = {
            "protocol_version": 3,
            "kind": kind,
            "request_id": f"test-{self.actions}",
            "sequence": self.actions,
            "generation": self.state["context"]["generation"],
            "bot_generation": self.state["botGeneration"],
            "published_revision": revision,
            **fields,
        }
        receipt = await self._ask("POST", "/api/action", body)
        return str(receipt["settlement"])

    async def messages(self) -> list[str]:
        """The contents of the channel, oldest first, as last published."""
        self.state = await self._ask("GET", "/api/state")
        return [self.state["messages"][one]["content"] for one in self.state["timeline"]]


@dataclass
class Demo:
    process: asyncio.subprocess.Process
    url: str

    async def interrupt(self) -> tuple[int | None, str]:
        """Ctrl-C: the exit code, and what was said last.

        The pipe ends when the last process that could write to it has, the worker included.
        """
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.stdout is not None
        said = await self.process.stdout.read()
        return await self.process.wait(), said.decode()


@asynccontextmanager
async def demo(folder: Path, *options: str) -> AsyncIterator[Demo]:
    """Run it in a process group of its own, as a terminal does; nothing outlives the test."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "demo", "--no-browser", "--port", "0", *options),
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = await _until_said(process, "Ctrl-C")
        url = re.search(r"http://\S+", said)
        assert url, said
        yield Demo(process, url[0])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def _until_said(process: asyncio.subprocess.Process, mark: str) -> str:
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(30):
        while mark not in said:
            line = await process.stdout.readline()
            assert line, f"the demo ended by itself: {said}"
            said += line.decode()
    return said


def homes(folder: Path) -> list[Path]:
    """What demos keep in that folder for temporary files."""
    return list(folder.glob("gpt2bot-demo-*"))


async def _reply_after(page: Page, text: str) -> str:
    async with asyncio.timeout(30):
        while True:
            seen = await page.messages()
            if text in seen and (later := seen[seen.index(text) + 1 :]):
                return later[0]
            await asyncio.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and SIGINT are POSIX")
async def test_a_visitor_chats_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    async with demo(tmp_path) as running, asyncio.timeout(60):
        assert len(homes(tmp_path)) == 1
        base, capability = running.url.split("/#")
        async with aiohttp.ClientSession(base) as session:
            page = await Page.open(session, capability)
            names = [viewer["name"] for viewer in page.state["viewers"]]
            assert names == ["ada", "ben"]
            assert WELCOME in await page.messages()

            first = page.state["publishedRevision"]
            assert await page.send("hello", revision=first) == "settled"
            reply = await _reply_after(page, "hello")  # nobody pressed "Refresh preview"
            assert reply.strip()

            # The visitor's page may be a refresh behind: what they do then counts all the same.
            assert page.state["publishedRevision"] > first
            assert await page.send("how are you?", revision=first) == "settled"
            assert "how are you?" in await page.messages()

            # A refusal that the bot has explained is no failure of the page.
            assert await page.run("retrain") == "settled"
            assert NOTHING_TAUGHT in await page.messages()

        code, said = await running.interrupt()
        assert code == 0, said
        assert "Traceback" not in said
        assert homes(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
async def test_the_demo_in_japanese(tmp_path: Path) -> None:
    async with demo(tmp_path, "--language", "ja") as running, asyncio.timeout(60):
        base, capability = running.url.split("/#")
        async with aiohttp.ClientSession(base) as session:
            page = await Page.open(session, capability)
            assert WELCOME.translate_to("ja") in await page.messages()
            assert await page.run("retrain") == "settled"
            assert NOTHING_TAUGHT.translate_to("ja") in await page.messages()


def test_the_welcome_fits_one_message() -> None:
    assert utf16_length(WELCOME) <= MAX_MESSAGE_CHARS


async def test_messages_of_the_demo_are_dated_by_the_real_clock(world: World) -> None:
    await world.say(world.ben, "hello")
    first = world.general.last_message
    follow_real_time(world.env)
    await world.say(world.ben, "hello again")
    assert world.general.last_message.created_at > first.created_at
    assert abs(datetime.now(UTC) - world.general.last_message.created_at) < timedelta(minutes=5)
