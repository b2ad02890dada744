"""A real worker that is stopped, starved of memory, or killed by each model it loads."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest

from core.records import Message, Role
from model.convert.artifact import WEIGHTS_FILE
from model.convert.build import get_or_build
from model.engine.engine import OUT_OF_MEMORY
from model.errors import GenerationFailed, LoadFailed, WorkerDied
from model.registry import EMBEDDED_FOLDER
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WORKER_HUNG, WorkerClient
from model.worker.messages import Finished, TextDelta
from model.worker.quarantine import QUARANTINE_DEATHS, quarantine_message
from tests.builds import BUILT
from tests.model.conftest import HELLO
from tests.model_folders import make_endless_folder, make_model_folder

ENDLESS = SamplingParams(max_new_tokens=2000, no_repeat_ngram=0)
SETTINGS = WorkerSettings(threads=1, build_cache=BUILT)
LIMIT_S = 60

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")


async def reply(client: WorkerClient, source: Path | str, text: str = "hello") -> str:
    talk = [Message(Role.USER, text)]
    async with asyncio.timeout(LIMIT_S):
        pieces = [one async for one in client.generate(str(source), talk, SamplingParams())]
    assert isinstance(pieces[-1], Finished)
    return pieces[-1].text


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("gpt2bot-worker")]


async def test_a_stopped_worker_is_replaced_and_its_requests_are_told(folders: Path) -> None:
    red = str(folders / "red")
    async with WorkerClient(SETTINGS, ping_s=0.1, hang_s=1.5) as client:
        await client.load(red)
        first = client.pid
        assert first is not None
        stream = client.generate(str(folders / "endless"), HELLO, ENDLESS)
        assert isinstance(await anext(stream), TextDelta)
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(WorkerDied, match=WORKER_HUNG):
            async for _ in stream:
                pass
        assert await reply(client, red) == "red roses are in bloom"
        assert client.pid != first
        assert client.restarts == 1
        assert not psutil.pid_exists(first)
        assert await client.ping() < LIMIT_S


async def test_a_worker_that_goes_on_in_time_stays(folders: Path) -> None:
    async with WorkerClient(SETTINGS, embedded=str(folders / "red"), hang_s=LIMIT_S) as client:
        pid = client.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="does not answer"):
            await client.ping(0.2)
        os.kill(pid, signal.SIGCONT)
        assert await client.ping(LIMIT_S) > 0
        assert await reply(client, folders / "red") == "red roses are in bloom"
        assert (client.pid, client.restarts) == (pid, 0)


async def test_a_stopped_worker_never_holds_up_the_bot(folders: Path) -> None:
    """Far more than a pipe holds is said to a worker that does not listen."""
    red, before = str(folders / "red"), threads()
    async with WorkerClient(SETTINGS, embedded=red, hang_s=LIMIT_S) as client:
        assert client.pid is not None
        os.kill(client.pid, signal.SIGSTOP)
        talk = [Message(Role.USER, "x" * 4000)]
        for channel in range(500):
            client.prefetch(red, talk, channel)
        os.kill(client.pid, signal.SIGCONT)
        assert await reply(client, red) == "red roses are in bloom"
    assert threads() == before


async def test_a_load_keeps_no_ping_waiting(folders: Path, tmp_path: Path) -> None:
    """The weights are a pipe into which nobody writes, so the load does not end by itself."""
    folder = make_model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    red = str(folders / "red")
    async with WorkerClient(SETTINGS, embedded=red, ping_s=0.1, hang_s=1.5) as client:
        loading = asyncio.create_task(client.load(str(folder)))
        await asyncio.sleep(0)
        for _ in range(20):
            await client.ping(LIMIT_S)
        assert client.restarts == 0
        loading.cancel()


async def test_a_model_that_kills_the_worker_is_not_loaded_for_ever(folders: Path) -> None:
    red, endless = str(folders / "red"), str(folders / "endless")
    async with WorkerClient(SETTINGS, embedded=red) as client:
        await client.load(endless)
        for _ in range(QUARANTINE_DEATHS):
            stream = client.generate(endless, HELLO, ENDLESS)
            await anext(stream)
            assert client.pid is not None
            os.kill(client.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                async for _ in stream:
                    pass
        assert client.quarantined == {endless: quarantine_message(endless)}
        with pytest.raises(LoadFailed, match="endless is set aside"):
            await reply(client, endless)
        assert await reply(client, red) == "red roses are in bloom"
        assert endless not in client.models
        await client.load(endless)  # on purpose
        assert endless in client.models
        assert client.quarantined == {}


async def streaming(client: WorkerClient, source: str) -> AsyncGenerator[object, None]:
    """A reply that has begun and would go on for long."""
    stream = client.generate(source, HELLO, ENDLESS)
    async with asyncio.timeout(LIMIT_S):
        while not isinstance(await anext(stream), TextDelta):
            pass
    return stream


async def test_only_the_model_that_ran_when_the_worker_crashed_is_set_aside(
    folders: Path, tmp_path: Path
) -> None:
    """Both write; then one loses its weights, and reading them ends the process (SIGBUS)."""
    good, bad = str(folders / "endless"), str(tmp_path / "bad")
    make_endless_folder(Path(bad), words=21)
    cache = tmp_path / "built"
    settings = WorkerSettings(threads=1, precision="fp32", build_cache=cache)
    async with WorkerClient(settings, embedded=str(folders / "red")) as client:
        await asyncio.gather(client.load(good), client.load(bad))
        weights = get_or_build(bad, cache, "fp32") / WEIGHTS_FILE
        content = weights.read_bytes()
        for _ in range(QUARANTINE_DEATHS):
            streams = [await streaming(client, source) for source in (good, bad)]
            os.truncate(weights, 0)
            for stream in streams:
                with pytest.raises(WorkerDied):
                    async for _ in stream:
                        pass
            weights.write_bytes(content)  # so that it need not be built again
            assert client._restart_task is not None
            await client._restart_task
        assert client.quarantined == {bad: quarantine_message(bad)}
        await (await streaming(client, good)).aclose()


async def talk_much(client: WorkerClient) -> None:
    for n in range(100):
        await reply(client, EMBEDDED_FOLDER, f"{n} {'tell me more ' * 60}")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="a reply takes a GPU's memory there")
async def test_a_worker_without_memory_fails_the_request_and_lives() -> None:
    import resource

    async with WorkerClient(WorkerSettings(threads=1, build_cache=BUILT)) as client:
        pid = client.pid
        assert pid is not None
        assert await reply(client, EMBEDDED_FOLDER)
        worker = psutil.Process(pid)
        whole = worker.rlimit(resource.RLIMIT_AS)
        used = worker.memory_info().vms
        worker.rlimit(resource.RLIMIT_AS, (used, whole[1]))
        with pytest.raises(GenerationFailed, match=OUT_OF_MEMORY):
            await talk_much(client)
        worker.rlimit(resource.RLIMIT_AS, whole)
        assert await reply(client, EMBEDDED_FOLDER)
        assert client.pid == pid


async def test_a_worker_that_hangs_or_dies_before_it_is_ready_is_started_again() -> None:
    client = WorkerClient(SETTINGS, start_s=2.0)
    starting = asyncio.create_task(client.start_with_backoff())
    while client.pid is None:  # noqa: ASYNC110 (nobody could tell)
        await asyncio.sleep(0)
    first = client.pid
    os.kill(first, signal.SIGSTOP)
    async with asyncio.timeout(LIMIT_S):
        while client.pid in (first, None):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        second = client.pid
        os.kill(second, signal.SIGKILL)
        client._start_s = LIMIT_S
        await starting
    try:
        assert client.pid not in (first, second, None)
        assert not psutil.pid_exists(first)
        assert await reply(client, str(EMBEDDED_FOLDER))
    finally:
        await client.stop()
