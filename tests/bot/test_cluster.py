"""What the settings of a cluster choose; the cluster itself is tested in `tests/model/cluster`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bot.cluster import cluster_launch, joined_cluster, replica_scale
from bot.settings import Settings, SettingsError
from core.cluster.connection import NO_RAY


async def test_without_an_address_there_is_no_cluster(settings: Settings) -> None:
    async with joined_cluster(settings) as address:
        assert address is None


async def test_without_the_extra_it_is_said_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else find(name)
    )
    settings = settings.model_copy(update={"ray_address": "auto"})
    with pytest.raises(SettingsError) as caught:
        async with joined_cluster(settings):
            raise AssertionError("there is no Ray")
    assert str(caught.value) == str(NO_RAY)


def test_a_replica_takes_as_many_processors_as_threads(settings: Settings) -> None:
    settings = settings.model_copy(update={"threads": None})
    assert replica_scale(settings).cpus == 1
    scale = replica_scale(settings.model_copy(update={"threads": 4}))
    assert (scale.fewest, scale.most, scale.cpus) == (1, 8, 4)


def test_a_training_has_the_devices_of_the_file_of_accelerate(
    settings: Settings, tmp_path: Path
) -> None:
    assert cluster_launch(settings, "a:1").devices == 1
    file = tmp_path / "accelerate.yaml"
    file.write_text("compute_environment: LOCAL_MACHINE\nnum_processes: 3\n", encoding="utf-8")
    settings = settings.model_copy(update={"accelerate_config": file, "training_threads": 2})
    launch = cluster_launch(settings, "a:1")
    assert (launch.devices, launch.cpus, launch.address) == (3, 2, "a:1")


@pytest.mark.parametrize("text", ["", "num_processes: many", "- 3", "{", "num_processes:"])
def test_a_file_that_does_not_say_how_many(settings: Settings, tmp_path: Path, text: str) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text(text, encoding="utf-8")
    settings = settings.model_copy(update={"accelerate_config": file})
    with pytest.raises(SettingsError, match="num_processes"):
        cluster_launch(settings, "a:1")
