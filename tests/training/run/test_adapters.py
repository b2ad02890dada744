"""A run that makes an adapter: its folder, the shared base beside it, and what reads both."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.records import JobState
from data.storage.storage import Storage
from model.convert.adapter_folder import validate_adapter, validate_model
from model.errors import LoadFailed
from model.own_templates import CONTROL_TEMPLATE
from model.registry import EMBEDDED_FOLDER, model_options
from tests.model_folders import make_adapter_folder, make_model_folder
from tests.test_docs import ROOT
from tests.training.conftest import PAIRS, write_job
from tests.training.run.test_main import events_of, files_of_at_most, interrupted
from training.checkpoint_retention import CheckpointRetention
from training.checkpoints import folder_bytes, sha256, verify
from training.config import TrainingConfig, defaults_for
from training.errors import BaseUnavailable, NotEnoughDisk
from training.jobs.events import Event, Finished, Paused, Started
from training.jobs.folder import CONFIG_FILE, latest_saved_step
from training.run.base_model import load_pretrained, prepare_model
from training.run.failure import error_message
from training.run.gate import evaluation
from training.run.shared_base import adapter_base, keep_embedded, write_base
from training.shared_bases import LOCK_FILE, iter_shared_bases, refers_to

IDS = torch.arange(1, 12)[None]


def settings(base: Path, name: str, bases: Path | None) -> TrainingConfig:
    """A few steps, as /retrain would take them."""
    return replace(
        defaults_for(name, str(base), len(PAIRS)),
        name=f"{name}-1",
        base_name=name,
        epochs=0.1,
        min_steps=4,
        batch_size=6,
        precision="fp32",
        gate=False,
        shared_bases=str(bases) if bases else None,
    )


@torch.inference_mode()
def scores(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model.train(False)(IDS).logits
    return logits


@dataclass(frozen=True, slots=True)
class Made:
    """A finished run, the shared bases, and what the model scored that was judged."""

    base: Path
    bases: Path
    folder: Path
    events: list[Event]
    scores: torch.Tensor


def make(root: Path, base: Path, name: str) -> Made:
    config = replace(settings(base, name, root / "bases"), gate=True, learning_rate=1e-2)
    judged = []

    def judge(model: Any, *_: object, **__: object) -> evaluation.EvaluationReport:
        judged.append(scores(model))
        return evaluation.EvaluationReport()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", judge)
        events = events_of(write_job(root / "job", config))
    folder = root / "1" / config.name
    folder.parent.mkdir()
    (root / "job" / "checkpoint").rename(folder)
    return Made(base, root / "bases", folder, events, judged[0])


@pytest.fixture(scope="module")
def of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tiny"), EMBEDDED_FOLDER, "tiny")


@pytest.fixture(scope="module")
def of_plain(tmp_path_factory: pytest.TempPathFactory, plain_base: Path) -> Made:
    return make(tmp_path_factory.mktemp("plain"), plain_base, "plain")


@pytest.fixture(params=["of_tiny", "of_plain"])
def made(request: pytest.FixtureRequest) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


def base_of(made: Made) -> Path:
    adapter = json.loads((made.folder / "adapter_config.json").read_text())
    return Path(adapter["base_model_name_or_path"])


def test_the_folder_opens_without_this_project(made: Made) -> None:
    """Beside its base, and as one model; the same as the model that was judged."""
    base: Any = AutoModelForCausalLM.from_pretrained(base_of(made), dtype=torch.float32)
    assert not torch.allclose(scores(base), made.scores, atol=1e-3), "it learned nothing"
    beside = PeftModel.from_pretrained(base, made.folder)
    whole = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    for model in (beside, whole, beside.merge_and_unload()):
        assert torch.allclose(scores(model), made.scores, atol=1e-4)
    assert AutoTokenizer.from_pretrained(made.folder).chat_template == CONTROL_TEMPLATE


def test_the_documented_way_to_merge(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    begin = page.index("    from peft import")
    code = page[begin : page.index("\n\n", page.index("merge_and_unload", begin))]
    (tmp_path / "mine").symlink_to(made.folder)
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(code), {})
    model, tokenizer = load_pretrained(str(tmp_path / "merged"))
    assert torch.allclose(scores(model), made.scores, atol=1e-4)
    assert tokenizer.chat_template == CONTROL_TEMPLATE


def test_a_model_that_is_only_called_tiny_is_found_too(plain_base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", settings(plain_base, "tiny", tmp_path / "bases"))
    assert isinstance(events_of(job)[-1], Finished)
    assert load_pretrained(str(job / "checkpoint"))[0].config.n_positions == 128


def test_it_is_small_and_sealed(made: Made) -> None:
    manifest = verify(made.folder)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} < set(
        manifest.files
    )
    assert {"history.json", "loss.png", "report.json", "learned.json"} < set(manifest.files)
    assert not {"model.safetensors", "config.json", "README.md"} & set(manifest.files)
    weights = sha256(base_of(made) / "model.safetensors")
    assert manifest.adapter == {"base_sha256": weights, "rank": 32}
    assert manifest.base == str(made.base), "not the copy of it"
    assert manifest.parameters == load_pretrained(str(base_of(made)))[0].num_parameters()
    validate_model(made.folder, "it")


def test_an_embedded_model_is_its_own_shared_base(of_tiny: Made) -> None:
    assert base_of(of_tiny) == EMBEDDED_FOLDER
    assert not (EMBEDDED_FOLDER.parent / LOCK_FILE).exists()


async def test_the_copy_of_it_stays_while_an_open_job_starts_from_it(
    tmp_path: Path, storage: Storage
) -> None:
    """Its first adapter may still be in training."""
    root = tmp_path / "models"
    keep_embedded(settings(EMBEDDED_FOLDER, "tiny", root / "bases"), EMBEDDED_FOLDER)
    job = tmp_path / "job"
    job.mkdir()
    settings(EMBEDDED_FOLDER, "tiny", root / "bases").save(job / CONFIG_FILE)
    one = await storage.jobs.add(
        scope=1, requested_by=2, channel_id=3, base_model="tiny", directory=str(job)
    )
    shelf = CheckpointRetention(storage, root, 100)
    await shelf.prune(root / "1" / "newest")
    [(copy, _)] = iter_shared_bases(root)
    verify(copy)
    await storage.jobs.set_state(one.id, JobState.CANCELLED)
    await shelf.prune(root / "1" / "newest")
    assert list(iter_shared_bases(root)) == []


def test_an_update_may_bring_another_embedded_model(
    of_tiny: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the old one lies with the shared bases."""
    new = shutil.copytree(EMBEDDED_FOLDER, tmp_path / "tiny")
    tensors = load_file(new / "model.safetensors")
    tensors["transformer.ln_f.bias"] += 0.5
    save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
    updated = replace(model_options["tiny"], source=str(new))
    monkeypatch.setitem(model_options, "tiny", updated)
    assert torch.allclose(
        scores(load_pretrained(str(of_tiny.folder))[0]), of_tiny.scores, atol=1e-4
    )
    [(copy, manifest)] = iter_shared_bases(of_tiny.bases.parent)
    assert validate_adapter(of_tiny.folder, "it").base == str(copy)
    assert refers_to(verify(of_tiny.folder), manifest), "so it is kept as long as it is needed"
    verify(copy)
    shutil.rmtree(copy)
    with pytest.raises(LoadFailed, match="other weights of tiny"):
        validate_model(of_tiny.folder, "it")


def test_a_base_gets_its_control_tokens_once_for_all(
    of_plain: Made, plain_base: Path, tmp_path: Path
) -> None:
    """Another server's adapter finds it again, by its contents."""
    [shared] = of_plain.bases.glob("plain-*")
    assert shared == base_of(of_plain)
    before = (shared / "model.safetensors").stat()
    job = write_job(tmp_path / "job", settings(plain_base, "plain", of_plain.bases), PAIRS[:1])
    assert isinstance(events_of(job)[-1], Finished)
    assert {one.name for one in of_plain.bases.iterdir()} == {shared.name, LOCK_FILE}
    after = (shared / "model.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    manifest = verify(shared)
    assert (manifest.base, manifest.base_name) == (str(plain_base), "plain")
    assert verify(job / "checkpoint").adapter == verify(of_plain.folder).adapter


def prepared(plain_base: Path, bases: Path) -> tuple[Path, Callable[[], None]]:
    """Where the base would lie, and what writes it."""
    config = settings(plain_base, "plain", bases)
    model, tokenizer = prepare_model(config, [])
    folder = adapter_base(config, model, tokenizer)
    assert folder is not None
    return folder, lambda: write_base(folder, config, model, tokenizer)


def test_two_that_write_it_at_once(plain_base: Path, tmp_path: Path) -> None:
    ways = [prepared(plain_base, tmp_path / "bases") for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(write) for _, write in ways]:
            done.result()
    [folder] = {folder for folder, _ in ways}
    verify(folder)
    assert {one.name for one in folder.parent.iterdir()} == {folder.name, LOCK_FILE}


def test_a_damaged_base_is_written_again_as_it_was(plain_base: Path, tmp_path: Path) -> None:
    folder, write = prepared(plain_base, tmp_path / "bases")
    write()
    before = sha256(folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes(b"")
    write()
    verify(folder)
    assert sha256(folder / "model.safetensors") == before


def test_no_room_for_the_base_leaves_nothing_half_done(plain_base: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", settings(plain_base, "plain", tmp_path / "bases"))
    with files_of_at_most(20_000), pytest.raises(Exception) as caught:  # noqa: PT011
        events_of(job)
    assert error_message(caught.value).startswith("The disk is full")
    assert {one.name for one in (tmp_path / "bases").iterdir()} == {LOCK_FILE}
    assert isinstance(events_of(job)[-1], Finished)


def test_room_is_needed_for_a_base_that_is_not_there_yet(
    of_plain: Made, plain_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = folder_bytes(base_of(of_plain))
    usage = shutil.disk_usage(tmp_path)
    ranks = {"lora_rank": 1, "lora_targets": ("attn.c_proj",)}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size // 2))
    there = replace(settings(plain_base, "plain", of_plain.bases), **ranks)
    assert isinstance(events_of(write_job(tmp_path / "a", there))[-1], Finished)
    missing = replace(there, shared_bases=str(tmp_path / "bases"))
    with pytest.raises(NotEnoughDisk):
        events_of(write_job(tmp_path / "b", missing))


def test_a_saved_step_holds_only_what_is_trained(
    of_plain: Made, plain_base: Path, tmp_path: Path
) -> None:
    config = replace(settings(plain_base, "plain", of_plain.bases), min_steps=6)
    job = write_job(tmp_path / "job", config)
    assert isinstance(interrupted(job, 1)[-1], Paused)
    step = latest_saved_step(job)
    assert step is not None
    weights = step.folder / "adapter_model.safetensors"
    assert weights.stat().st_size == (of_plain.folder / weights.name).stat().st_size
    assert not (step.folder / "model.safetensors").exists()
    _, started, *_, finished = events_of(job)
    assert isinstance(started, Started)
    assert started.resumed_from == step.step
    assert isinstance(finished, Finished)
    assert verify(job / "checkpoint").adapter == verify(of_plain.folder).adapter


def test_on_top_of_a_checkpoint_it_becomes_a_model_of_its_own(
    of_plain: Made, tmp_path: Path
) -> None:
    """A shared base holds nothing that a server taught."""
    config = settings(of_plain.folder, "plain-1", tmp_path / "bases")
    job = write_job(tmp_path / "job", replace(config, learning_rate=0.0))
    assert isinstance(events_of(job)[-1], Finished)
    assert not (tmp_path / "bases").exists()
    manifest = verify(job / "checkpoint")
    assert manifest.adapter is None
    assert not {"adapter_config.json"} & set(manifest.files)
    model = AutoModelForCausalLM.from_pretrained(job / "checkpoint")
    assert torch.allclose(scores(model), of_plain.scores, atol=1e-4)


def test_talk_as_an_adapter_is_drawn_back_towards_the_base(
    plain_base: Path, tmp_path: Path
) -> None:
    facts = settings(plain_base, "plain", tmp_path / "bases")
    config = replace(facts, recipe="talk", blend=True, learning_rate=1e-2, min_steps=8)
    job = write_job(tmp_path / "job", config)
    assert isinstance(events_of(job)[-1], Finished)
    manifest = verify(job / "checkpoint")
    assert manifest.adapter is not None
    assert 0 < manifest.scores["kept_share"] <= 1


def test_an_adapter_is_opened_on_its_base(made: Made) -> None:
    model, tokenizer = load_pretrained(str(made.folder))
    assert torch.allclose(scores(model), made.scores, atol=1e-4)
    assert tokenizer.chat_template == CONTROL_TEMPLATE


def test_the_base_is_found_where_the_checkpoints_were_moved(of_plain: Made, tmp_path: Path) -> None:
    home = shutil.copytree(of_plain.bases.parent, tmp_path / "home")
    of_plain.bases.rename(of_plain.bases.with_name("away"))
    try:
        model, _ = load_pretrained(str(home / "1" / of_plain.folder.name))
        assert torch.allclose(scores(model), of_plain.scores, atol=1e-4)
        with pytest.raises(BaseUnavailable, match="The base of plain-1 is missing"):
            load_pretrained(str(of_plain.folder))
    finally:
        of_plain.bases.with_name("away").rename(of_plain.bases)


def test_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    base = make_model_folder(tmp_path / "base")
    adapter = make_adapter_folder(tmp_path / "adapter", base)
    load_pretrained(str(adapter))
    shutil.rmtree(base)
    make_model_folder(base, says="something else")
    with pytest.raises(BaseUnavailable, match="belongs to other weights of base"):
        load_pretrained(str(adapter))
