"""The files that put the bot on a cluster, in containers and on Kubernetes: parsed, and held to the
bot and to Ray's own command line. Nothing is started."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.app import ANNOUNCE_TIMEOUT_S, DRAIN_TIMEOUT_S
from bot.settings import Settings
from core.cluster.connection import NODE_SETTINGS
from model.cluster import application
from training.jobs.manager import STOP_TIMEOUT_S
from training.jobs.process import KILL_TIMEOUT_S

ROOT = Path(__file__).parent.parent
STOPPING_S = DRAIN_TIMEOUT_S + ANNOUNCE_TIMEOUT_S + STOP_TIMEOUT_S + KILL_TIMEOUT_S
COMPOSE = yaml.safe_load((ROOT / "compose.cluster.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
MANIFESTS = {
    one["kind"]: one
    for one in yaml.safe_load_all((ROOT / "deploy" / "rayservice.yaml").read_text(encoding="utf-8"))
}
RAY_START = re.compile(r"\bray start [^\n|&;`]*")


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def pod(group: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = group["template"]["spec"]
    return spec


# --- containers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2bot", "head", "node"])
def test_every_container_asks_for_the_token_and_is_built_with_ray(name: str) -> None:
    service = SERVICES[name]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    assert service["build"]["args"]["EXTRAS"] == "cluster"
    assert "cluster" in service["networks"]


def test_nothing_outside_reaches_the_cluster() -> None:
    assert COMPOSE["networks"]["cluster"]["internal"] is True
    assert not any("ports" in service for service in SERVICES.values())
    for name in ("head", "node"):
        assert SERVICES[name]["networks"] == ["cluster"]
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "--include-dashboard=false" in SERVICES["head"]["entrypoint"]


def test_all_containers_join_the_same_head_and_only_nodes_have_processors() -> None:
    [port] = re.findall(r"--port=(\d+)", " ".join(SERVICES["head"]["entrypoint"]))
    bot, node = SERVICES["gpt2bot"]["entrypoint"][-1], " ".join(SERVICES["node"]["entrypoint"])
    assert all(f"--address=head:{port}" in text for text in (bot, node))
    assert "--num-cpus=0" in bot
    assert "--num-cpus=0" in SERVICES["head"]["entrypoint"]
    assert SERVICES["gpt2bot"]["environment"]["RAY_ADDRESS"] == "auto"
    assert bot.rstrip().endswith("exec gpt2bot run")


def test_nodes_have_time_to_finish_replies() -> None:
    for name in ("head", "node"):
        assert seconds(SERVICES[name]["stop_grace_period"]) > STOPPING_S


def test_the_image_can_be_built_with_the_extra() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert '".${EXTRAS:+[$EXTRAS]}"' in dockerfile
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "cluster" in project["optional-dependencies"]


# --- Kubernetes ----------------------------------------------------------------------------------


def test_the_manifests_are_a_cluster_the_bot_and_its_volume() -> None:
    assert list(MANIFESTS) == ["RayService", "PersistentVolumeClaim", "Deployment"]
    assert MANIFESTS["RayService"]["apiVersion"] == "ray.io/v1"


def test_the_application_is_the_one_that_the_bot_looks_for() -> None:
    config = yaml.safe_load(MANIFESTS["RayService"]["spec"]["serveConfigV2"])
    [found] = config["applications"]
    module, _, builder = found["import_path"].partition(":")
    assert found["name"] == application.APPLICATION
    assert (module, builder) == (application.__name__, application.from_config.__name__)
    assert found["route_prefix"] is None
    assert config["proxy_location"] == "Disabled"


def test_the_release_of_ray_is_the_one_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [extra] = project["optional-dependencies"]["cluster"]
    least = re.search(r">=([\d.]+)", extra)
    release = MANIFESTS["RayService"]["spec"]["rayClusterConfig"]["rayVersion"]
    assert least is not None
    assert release.startswith(f"{least[1]}.")


def test_the_bot_and_the_cluster_share_the_image_and_the_token() -> None:
    cluster = MANIFESTS["RayService"]["spec"]["rayClusterConfig"]
    bot = pod(MANIFESTS["Deployment"]["spec"])["containers"][0]
    pods = [pod(cluster["headGroupSpec"]), *map(pod, cluster["workerGroupSpecs"])]
    assert {one["containers"][0]["image"] for one in pods} == {bot["image"]}
    variables = {one["name"]: one for one in bot["env"]}
    secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": secret["name"]}
    assert secret["key"] == "auth_token"  # where KubeRay looks for it
    assert variables["RAY_AUTH_MODE"]["value"] == "token"


def test_there_is_one_bot_a_node_without_processors_with_the_name_of_the_head() -> None:
    deployment = MANIFESTS["Deployment"]["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"]["type"] == "Recreate"
    name = MANIFESTS["RayService"]["metadata"]["name"]
    script = pod(deployment)["containers"][0]["command"][-1]
    assert f"--address={name}-head-svc:6379" in script
    assert "--num-cpus=0" in script
    assert pod(deployment)["terminationGracePeriodSeconds"] > STOPPING_S


def test_settings_in_the_files_are_settings_of_the_bot() -> None:
    ours = {name.upper() for name in Settings.model_fields}
    others = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", *NODE_SETTINGS}
    in_compose = {name for service in SERVICES.values() for name in service["environment"]}
    env = pod(MANIFESTS["Deployment"]["spec"])["containers"][0]["env"]
    assert in_compose | {one["name"] for one in env} <= ours | others


def test_nodes_have_the_settings_of_nodes() -> None:
    cluster = MANIFESTS["RayService"]["spec"]["rayClusterConfig"]
    containers = [pod(one)["containers"][0] for one in cluster["workerGroupSpecs"]]
    nodes = [{one["name"]: one["value"] for one in container["env"]} for container in containers]
    for environment in (SERVICES["node"]["environment"], *nodes):
        assert NODE_SETTINGS.items() <= environment.items()


# --- Ray's command line --------------------------------------------------------------------------


def ray_commands() -> Iterator[str]:
    """Every `ray start` in the files and in the pages."""
    for service in SERVICES.values():
        yield from RAY_START.findall(" ".join(service["entrypoint"]))
    yield from RAY_START.findall((ROOT / "deploy" / "rayservice.yaml").read_text(encoding="utf-8"))
    for page in ROOT.glob("docs/cluster*.md"):
        yield from RAY_START.findall(page.read_text(encoding="utf-8"))


@pytest.mark.cluster
def test_ray_knows_every_option_that_is_shown() -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    commands = list(ray_commands())
    assert len(commands) > 6
    for command in commands:
        options = {
            one.partition("=")[0]
            for one in shlex.split(command.rstrip(" \\"))
            if one.startswith("-")
        }
        assert options <= known, command
