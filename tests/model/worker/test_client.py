"""The client with a real worker process: it streams, loads, is killed, and comes back."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from model.errors import GenerationFailed, LoadFailed, WorkerDied
from model.registry import EMBEDDED_FOLDER
from model.sampling import FinishReason, SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from model.worker.messages import Finished, Queued, TextDelta
from tests.builds import BUILT
from tests.model.conftest import HELLO
from tests.model_folders import make_model_folder

ENDLESS = SamplingParams(max_new_tokens=2000, no_repeat_ngram=0)
PARAMS = SamplingParams()
LIMIT_S = 60
"""Seconds after which a reply is lost."""


async def reply(client: WorkerClient, source: Path | str, params: SamplingParams = PARAMS) -> str:
    text = ""
    async with asyncio.timeout(LIMIT_S):
        async for piece in client.generate(str(source), HELLO, params):
            if isinstance(piece, Finished):
                assert piece.text == text
                return text
            text += piece.text
    raise AssertionError("a reply without an end")


def readers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "gpt2bot-worker-reader"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_handshake_tells_the_facts(client: WorkerClient) -> None:
    ready = client.ready
    assert ready is not None
    assert ready.pid == client.pid
    assert is_alive(ready.pid)
    assert ready.model.source == str(EMBEDDED_FOLDER)
    assert ready.model.positions == 256
    assert ready.model.load_s > 0
    assert ready.training_precision in ("fp32", "bf16", "fp16")
    assert client.models[str(EMBEDDED_FOLDER)] == ready.model


async def test_a_reply_is_streamed_and_a_seed_repeats_it(client: WorkerClient) -> None:
    params = SamplingParams(seed=3, max_new_tokens=30)
    pieces = [piece async for piece in client.generate(str(EMBEDDED_FOLDER), HELLO, params)]
    *deltas, end = pieces
    assert isinstance(end, Finished)
    assert all(isinstance(one, TextDelta) and one.text for one in deltas)
    assert end.seed == 3
    assert 1 <= end.new_tokens <= 30
    assert await reply(client, EMBEDDED_FOLDER, params) == end.text


async def test_closing_the_iterator_stops_the_reply(client: WorkerClient, folders: Path) -> None:
    """All places of the batch are taken by replies that go on for minutes."""
    endless = str(folders / "endless")
    streams = [client.generate(endless, HELLO, ENDLESS) for _ in range(16)]
    for stream in streams:
        await anext(stream)
    for stream in streams:
        await stream.aclose()
    assert await reply(client, folders / "red") == "red roses are in bloom"


async def test_a_task_that_is_cancelled_stops_its_reply(
    client: WorkerClient, folders: Path
) -> None:
    tasks = [asyncio.create_task(reply(client, folders / "endless", ENDLESS)) for _ in range(16)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await reply(client, folders / "red") == "red roses are in bloom"


async def test_a_model_that_is_asked_for_is_loaded(client: WorkerClient, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "new", says="brand new words")
    assert await reply(client, folder) == "brand new words"
    assert (await client.load(str(folder))).source == str(folder)
    assert str(folder) in client.models


async def test_load_errors_are_sentences_and_the_old_model_answers(
    client: WorkerClient, tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "model", says="still the old one")
    await client.load(str(folder))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(LoadFailed, match=r"^model is damaged: model\.safetensors is cut short\.$"):
        await client.load(str(folder))
    assert await reply(client, folder) == "still the old one"
    with pytest.raises(LoadFailed, match="Hugging Face Hub"):
        await client.load("gpt2-medium")
    with pytest.raises(LoadFailed, match="There is no model folder nowhere"):
        await reply(client, tmp_path / "nowhere")


async def test_hot_reload_loses_no_reply_and_mixes_none(
    client: WorkerClient, tmp_path: Path
) -> None:
    """Replies go on all the while; each is wholly of one model, and later ones are of the new."""
    red = " ".join(f"red{n}" for n in range(40))
    blue = " ".join(f"blue{n}" for n in range(40))
    folder = make_model_folder(tmp_path / "model", says=red)
    await client.load(str(folder))
    make_model_folder(folder, says=blue)
    texts: list[str] = []
    loaded = asyncio.Event()

    async def chat() -> str:
        while not loaded.is_set():
            texts.append(await reply(client, folder))
        return await reply(client, folder)

    chats = [asyncio.create_task(chat()) for _ in range(4)]
    await asyncio.sleep(0)
    await client.load(str(folder))
    assert await reply(client, folder) == blue
    loaded.set()
    assert await asyncio.gather(*chats) == 4 * [blue]
    assert len(texts) >= 4
    assert set(texts) <= {red, blue}
    assert red in texts  # those that were asked for before the load


async def test_a_killed_worker_is_replaced_and_has_its_models_again(folders: Path) -> None:
    before = readers()
    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
        await client.load(str(folders / "red"))
        first = client.pid
        assert first is not None
        async with aclosing(client.generate(str(folders / "endless"), HELLO, ENDLESS)) as stream:
            await anext(stream)
            waiting = asyncio.create_task(reply(client, folders / "endless", ENDLESS))
            await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="is being restarted"):
                async for _ in stream:
                    pass
        with pytest.raises(WorkerDied):
            await waiting
        assert await reply(client, folders / "red") == "red roses are in bloom"  # it waits
        async with asyncio.timeout(LIMIT_S):
            while str(folders / "red") not in client.models:
                await client.ping(LIMIT_S)
        assert client.restarts == 1
        assert client.ready is not None
        assert client.pid == client.ready.pid != first
        assert {str(EMBEDDED_FOLDER), str(folders / "red")} <= set(client.models)

        in_flight = asyncio.create_task(reply(client, EMBEDDED_FOLDER))  # finished by the drain
        asked = client.generate(str(EMBEDDED_FOLDER), HELLO, PARAMS)
        await anext(asked)
        last = client.pid
    assert await in_flight
    assert isinstance([piece async for piece in asked][-1], Finished)
    assert last is not None
    assert not is_alive(first)
    assert not is_alive(last)
    assert not {child.pid for child in multiprocessing.active_children()} & {first, last}
    assert readers() == before
    with pytest.raises(WorkerDied, match="shutting down"):
        await client.load(str(EMBEDDED_FOLDER))


async def test_a_full_worker_tells_who_waits_and_refuses_who_cannot(folders: Path) -> None:
    endless = str(folders / "endless")
    settings = WorkerSettings(threads=1, build_cache=BUILT, max_sequences=1, max_waiting=1)
    async with WorkerClient(settings, embedded=endless) as client:
        first = client.generate(endless, HELLO, ENDLESS)
        assert isinstance(await anext(first), TextDelta)
        second = client.generate(endless, HELLO, ENDLESS)
        assert await anext(second) == Queued(2, 1)
        with pytest.raises(GenerationFailed, match="I am busy: you would be number 2"):
            await reply(client, endless, ENDLESS)
        await first.aclose()
        assert isinstance(await anext(second), TextDelta)
        await second.aclose()


async def test_a_worker_killed_while_it_builds_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build asks a Hub that does not answer, so it does not end by itself."""
    folder = make_model_folder(tmp_path / "model", says="back again")
    asked, over = asyncio.Event(), asyncio.Event()

    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1") as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
            loading = asyncio.create_task(client.load("someone/slow"))
            await asked.wait()
            assert await reply(client, EMBEDDED_FOLDER)  # it answers meanwhile
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="is being restarted"):
                await loading
            assert await reply(client, folder) == "back again"
        over.set()


async def test_stop_waits_no_longer_than_it_was_told(folders: Path) -> None:
    client = WorkerClient(
        WorkerSettings(threads=1, drain_s=0.2, build_cache=BUILT), embedded=str(folders / "endless")
    )
    await client.start()
    stream = client.generate(str(folders / "endless"), HELLO, ENDLESS)
    await anext(stream)
    began = time.monotonic()
    await client.stop()
    assert time.monotonic() - began < 10
    with pytest.raises(WorkerDied, match="shutting down"):
        async for _ in stream:
            pass


async def test_sigterm_lets_replies_finish(folders: Path) -> None:
    async with WorkerClient(
        WorkerSettings(threads=1, build_cache=BUILT), embedded=str(folders / "red")
    ) as client:
        assert client.pid is not None
        stream = client.generate(str(folders / "red"), HELLO, PARAMS)
        first = await anext(stream)
        os.kill(client.pid, signal.SIGINT)  # a terminal sends Ctrl-C to both: not its business
        os.kill(client.pid, signal.SIGTERM)
        rest = [piece async for piece in stream]
        assert isinstance(first, TextDelta)
        assert isinstance(rest[-1], Finished)
        assert rest[-1].finish_reason is FinishReason.END


async def test_an_embedded_model_that_does_not_load_fails_the_start(tmp_path: Path) -> None:
    client = WorkerClient(embedded=str(tmp_path / "nowhere"))
    with pytest.raises(LoadFailed, match="There is no model folder nowhere"):
        await client.start()
    assert client.pid is None
    await client.stop()


async def test_a_request_waits_for_the_start_no_longer_than_it_was_told() -> None:
    client = WorkerClient(start_s=0.01)  # and nobody starts it
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(WorkerDied, match="does not start"):
            await client.load(str(EMBEDDED_FOLDER))


async def test_a_start_that_is_not_waited_for_leaves_no_process() -> None:
    client = WorkerClient()
    start = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    pid = client.pid
    assert pid is not None
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not is_alive(pid)
    await client.stop()


PARENT = """
import asyncio, os, sys
from model.worker.client import WorkerClient

async def main():
    client = WorkerClient(embedded=sys.argv[1])
    print((await client.start()).pid, flush=True)
    os._exit(1)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_worker_whose_parent_died_ends(folders: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script), str(folders / "red")],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout)
    async with asyncio.timeout(LIMIT_S):
        while is_alive(pid):  # noqa: ASYNC110 (no parent is left that could be told)
            await asyncio.sleep(0.05)
