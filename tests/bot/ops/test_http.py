"""`/healthz` and `/metrics` of the real bot: asked over HTTP, with the real worker and database."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bot.app import build_bot
from bot.ops.monitoring import HealthProbes
from bot.ops.probe import query_health
from bot.ops.vitals import replica_metrics
from bot.settings import Settings, SettingsError
from core.metrics import MAX_MODEL_LABELS, Metrics
from model.errors import LoadFailed
from model.worker.client import WorkerClient
from model.worker.messages import ReplicaLoad
from tests.bot.asking import storage_of
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

DOCUMENT = Path(__file__).parents[3] / "docs" / "monitoring.md"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
async def watched(settings: Settings, real_worker: WorkerClient, port: int) -> AsyncIterator[World]:
    """The bot with the real worker, and the port."""
    settings = settings.model_copy(update={"health_port": port})
    async with open_world(settings, real_worker) as world:
        yield world


async def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def health(port: int) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as answer,
    ):
        return answer.status, await answer.json()


async def metrics(port: int) -> dict[str, Metric]:
    status, text = await get(port, "/metrics")
    assert status == 200
    return parsed(text)


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def replicas(*loads: ReplicaLoad) -> dict[str, Metric]:
    """What is told of a cluster's replicas."""
    found = parsed(Metrics().render_text(replica_metrics(loads)).decode())
    return {name: one for name, one in found.items() if name.startswith("gpt2bot_replica_")}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and one.labels == labels
    ]
    assert len(found) == 1, (sample, labels)
    return float(found[0])


def failed(found: dict[str, Any]) -> list[str]:
    return [name for name, part in found.items() if isinstance(part, dict) and not part["ok"]]


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestHealth:
    async def test_all_is_well(self, watched: World, port: int) -> None:
        status, found = await health(port)
        assert status == 200
        assert found["healthy"] is True
        assert failed(found) == []
        assert set(found) == {"healthy", "gateway", "database", "worker"}

    async def test_a_killed_worker_is_seen_and_so_is_its_return(
        self,
        watched: World,
        port: int,
        real_worker: WorkerClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert real_worker.pid is not None
        monkeypatch.setattr(
            "model.worker.client.INITIAL_BACKOFF_S", 1.0
        )  # nobody is back before the answer
        monkeypatch.setattr(real_worker, "_backoff_s", 1.0)
        os.kill(real_worker.pid, signal.SIGKILL)
        with monkeypatch.context() as short:
            short.setattr("bot.ops.monitoring.PROBE_TIMEOUT_S", 0.5)
            status, found = await health(port)
        assert status == 503
        assert failed(found) == ["worker"]
        await real_worker.ping(60)
        assert (await health(port))[0] == 200
        restarts = value(await metrics(port), "gpt2bot_worker_restarts_total")
        assert restarts == real_worker.restarts > 0

    async def test_a_worker_that_hangs_is_seen(
        self,
        watched: World,
        port: int,
        real_worker: WorkerClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert real_worker.pid is not None
        os.kill(real_worker.pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as short:
                short.setattr("bot.ops.monitoring.PROBE_TIMEOUT_S", 0.3)
                status, found = await health(port)
        finally:
            os.kill(real_worker.pid, signal.SIGCONT)
        assert status == 503
        assert failed(found) == ["worker"]
        assert await real_worker.ping(60) > 0
        assert (await health(port))[0] == 200

    async def test_a_database_that_cannot_be_written_is_seen(
        self, watched: World, port: int
    ) -> None:
        with no_file_may_grow_beyond(0):
            status, found = await health(port)
        assert status == 503
        assert failed(found) == ["database"]
        assert "cannot be used" in found["database"]["reason"]
        assert (await health(port))[0] == 200

    async def test_without_a_connection_to_discord_it_is_not_well(
        self, settings: Settings, port: int
    ) -> None:
        settings = settings.model_copy(update={"health_port": port})
        async with build_bot(settings, worker=FakeWorker()):
            status, found = await health(port)
            latency = value(await metrics(port), "gpt2bot_gateway_latency_seconds")
        assert status == 503
        assert failed(found) == ["gateway"]
        assert latency == float("inf")

    @pytest.mark.parametrize("latency", [float("inf"), float("nan"), 40.0])
    async def test_heartbeats_without_an_answer_are_seen(
        self, world: World, worker: FakeWorker, latency: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shard = world.bot.get_shard(0)
        assert shard is not None
        monkeypatch.setattr(type(shard._parent.ws), "latency", latency)
        storage = storage_of(world)
        parts = await HealthProbes(world.bot, storage, worker).check()
        assert not parts["gateway"]["ok"]
        assert parts["database"]["ok"]

    @pytest.mark.usefixtures("watched")
    async def test_nobody_outside_this_machine_can_ask(self, port: int) -> None:
        ours = psutil.Process().net_connections(kind="tcp")
        listening = {one.laddr.ip for one in ours if one.laddr and one.laddr.port == port}
        assert listening == {"127.0.0.1"}

    @pytest.mark.usefixtures("watched")
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost:{port}", 200),
            ("LOCALHOST", 200),
            ("[::1]:{port}", 200),
            ("rebound.example:{port}", 403),
            ("localhost.rebound.example", 403),
            ("192.168.1.20:{port}", 403),
            ("[::1", 403),
            ("", 403),
        ],
    )
    async def test_a_page_that_rebinds_its_name_reads_nothing(
        self, port: int, host: str, status: int
    ) -> None:
        for path in ("/healthz", "/metrics", "/nothing"):
            found, text = await get(port, path, Host=host.format(port=port))
            assert found == (404 if path == "/nothing" and status == 200 else status)
            assert found == 200 or "gpt2bot" not in text

    async def test_a_port_that_is_taken_is_one_sentence(
        self, settings: Settings, worker: FakeWorker
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            settings = settings.model_copy(update={"health_port": number})
            with pytest.raises(SettingsError, match=f"HEALTH_PORT is {number}, but"):
                async with build_bot(settings, worker=worker):
                    pass


class TestCommand:
    async def test_it_asks_the_running_bot(self, watched: World, port: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            "health",
            env=os.environ | {"HEALTH_PORT": str(port)},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        assert said.decode().splitlines() == ["gateway: ok", "database: ok", "worker: ok"]

    async def test_what_is_not_well_is_said(
        self, settings: Settings, worker: FakeWorker, port: int
    ) -> None:
        settings = settings.model_copy(update={"health_port": port})
        async with build_bot(settings, worker=worker):
            well, text = await asyncio.to_thread(query_health, port)
        assert not well
        assert text.splitlines()[0] == "gateway: The bot is not connected to Discord."

    def test_a_bot_that_is_not_there_is_not_well(self, port: int) -> None:
        well, text = query_health(port)
        assert not well
        assert text.startswith(f"The bot does not answer on port {port}: ")


class TestMetrics:
    async def test_a_reply_is_counted(self, watched: World, port: int) -> None:
        before = await metrics(port)
        assert value(before, "gpt2bot_replies_total", outcome="end") == 0
        assert await watched.say(watched.ben, "hello")
        now = await metrics(port)
        replies = sum(one.value for one in now["gpt2bot_replies"].samples)
        assert replies == 1
        assert value(now, "gpt2bot_reply_seconds_count") == 1
        assert value(now, "gpt2bot_first_token_seconds_count") == 1
        total = value(now, "gpt2bot_reply_seconds_sum")
        assert 0 < value(now, "gpt2bot_first_token_seconds_sum") <= total
        assert value(now, "gpt2bot_tokens_total", model="tiny", kind="reply") > 0
        assert value(now, "gpt2bot_tokens_total", model="tiny", kind="prompt") > 0
        assert value(now, "gpt2bot_tokens_per_second_count", model="tiny") == 1
        assert value(now, "gpt2bot_turns", state="running") == 0
        assert value(now, "gpt2bot_guilds") == 1
        memory = {
            name: value(now, "gpt2bot_process_memory_bytes", process=name)
            for name in ("bot", "worker")
        }
        assert memory["bot"] != memory["worker"]
        assert min(memory.values()) > 10_000_000
        assert value(now, "gpt2bot_database_bytes") > 4096
        await watched.ben.slash(watched.general, "chat", text="hello again")
        later = await metrics(port)
        assert sum(one.value for one in later["gpt2bot_replies"].samples) == 2

    async def test_no_label_names_who_or_where(self, watched: World, port: int) -> None:
        await watched.say(watched.ben, "hello")
        labels = {
            label
            for family in (await metrics(port)).values()
            for one in family.samples
            for label in one.labels.values()
        }
        who = (watched.ben, watched.guild, watched.general)
        assert labels.isdisjoint({str(one.id) for one in who})
        assert not any(re.fullmatch(r"\d{5,}", label) for label in labels)

    async def test_switches_and_failures_are_counted(
        self, settings: Settings, worker: FakeWorker, port: int
    ) -> None:
        settings = settings.model_copy(update={"health_port": port})
        async with open_world(settings, worker, check_errors=False) as world:
            await world.ada.slash(world.general, "model use", name="gpt2")
            worker.broken["gpt2-medium"] = "It cannot be reached."
            await world.ada.slash(world.general, "model use", name="gpt2-medium")
            worker.failure = LoadFailed("It cannot be loaded.")
            await world.say(world.ben, "hello")
            found = await metrics(port)
        assert value(found, "gpt2bot_model_switches_total", outcome="done") == 1
        assert value(found, "gpt2bot_model_switches_total", outcome="failed") == 1
        assert value(found, "gpt2bot_replies_total", outcome="load_failed") == 1
        assert value(found, "gpt2bot_reply_seconds_count") == 0

    async def test_the_documented_table_is_what_there_is(self, watched: World, port: int) -> None:
        await watched.say(watched.ben, "hello")
        served, of_a_cluster = await metrics(port), replicas(ReplicaLoad("a"))
        assert not served.keys() & of_a_cluster.keys()
        there = set()
        for family in [*served.values(), *of_a_cluster.values()]:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for one in family.samples for label in one.labels} - {"le"}
            there.add((name, family.type, frozenset(labels)))
        assert documented() == there

    def test_what_replicas_do_is_told_by_replica(self) -> None:
        found = replicas(
            ReplicaLoad("a", running=5, waiting=2, replies=7, tokens=70),
            ReplicaLoad("b", first_texts=4, first_text_s=0.5),
        )
        assert value(found, "gpt2bot_replica_requests", replica="a", state="running") == 3
        assert value(found, "gpt2bot_replica_requests", replica="a", state="waiting") == 2
        assert value(found, "gpt2bot_replica_replies_total", replica="a") == 7
        assert value(found, "gpt2bot_replica_tokens_total", replica="a") == 70
        assert value(found, "gpt2bot_replica_first_token_seconds_sum", replica="b") == 0.5
        assert value(found, "gpt2bot_replica_first_token_seconds_count", replica="b") == 4

    def test_rules_in_the_document_use_metrics_of_the_table(self) -> None:
        names = {name for name, _, _ in documented()}
        used = re.findall(r"gpt2bot_\w+", DOCUMENT.read_text(encoding="utf-8"))
        assert {re.sub(r"_(bucket|sum|count)$", "", one) for one in used} == names

    def test_names_of_models_are_bounded(self) -> None:
        counted = Metrics()
        for number in range(MAX_MODEL_LABELS + 10):
            counted.observe_generation(f"tiny-{number}", prompt=1, reply=1, seconds=0.1)
            counted.observe_generation("gpt2", prompt=1, reply=1, seconds=0.1)  # stays: in use
        text = counted.render_text([]).decode()
        models = set(re.findall(r'model="([^"]+)"', text))
        assert len(models) == MAX_MODEL_LABELS
        assert {"gpt2", f"tiny-{MAX_MODEL_LABELS + 9}"} <= models
        assert "tiny-0" not in models
        assert f'gpt2bot_tokens_total{{kind="reply",model="gpt2"}} {MAX_MODEL_LABELS + 10}' in text

    async def test_a_broken_database_costs_one_metric_only(self, watched: World, port: int) -> None:
        storage = storage_of(watched)
        await storage._fetch_all("ALTER TABLE jobs RENAME TO gone")
        found = await metrics(port)
        await storage._fetch_all("ALTER TABLE gone RENAME TO jobs")
        assert "gpt2bot_training_jobs" not in found
        assert "gpt2bot_guilds" in found


def documented() -> set[tuple[str, str, frozenset[str]]]:
    """Name, type and labels of each row of the document's table."""
    rows = re.findall(
        r"^\| `(gpt2bot_\w+)` \| (\w+) \| (.*?) ?\| ", DOCUMENT.read_text(encoding="utf-8"), re.M
    )
    return {(name, kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows}
