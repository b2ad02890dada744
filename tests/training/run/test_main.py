"""A training run from its folder to a sealed checkpoint, and every way in which it can end."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.folders import make_folder
from i18n.phrase import Phrase
from model.chat_template import encode, from_pair
from model.convert.build import load_error_message
from model.own_templates import CONTROL_TEMPLATE
from model.registry import EMBEDDED_FOLDER
from model.runners.device import Device
from tests.bot.japanese.discord import assert_japanese
from tests.training.conftest import PAIRS, run, write_job
from training.checkpoints import REPORT_FILE, read_manifest, read_report, verify
from training.config import Architecture, Optimizer, TrainingConfig
from training.errors import (
    BaseUnavailable,
    CorruptData,
    EmptyDataset,
    LossNotFinite,
    NotEnoughDisk,
    OutOfMemory,
)
from training.jobs.events import (
    Checking,
    Event,
    Failed,
    Finished,
    Lowered,
    Paused,
    Preparing,
    Rejected,
    Saved,
    Started,
    Step,
)
from training.jobs.folder import latest_saved_step
from training.jobs.process import TrainingProcess
from training.run import failure
from training.run.failure import error_message, is_transient, out_of_memory_advice
from training.run.gate import evaluation
from training.run.loop import Control
from training.run.train import train

SMALL = Architecture(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=2)


@pytest.fixture(scope="module")
def config(plain_base: Path) -> TrainingConfig:
    """Four steps of a random base model."""
    return TrainingConfig(
        name="t-1", base=str(plain_base), epochs=1, min_steps=4, precision="fp32", gate=False
    )


def events_of(job: Path) -> list[Event]:
    told: list[Event] = []
    train(job, told.append)
    return told


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that tests look at; what changes its folder works on a copy."""

    job: Path
    last: Event


@pytest.fixture(scope="module")
def finished(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    job = write_job(tmp_path_factory.mktemp("finished") / "job", config)
    return Ended(job, events_of(job)[-1])


@pytest.fixture(scope="module")
def rejected(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """It was taught to say nothing."""
    taught = replace(config, min_steps=20, learning_rate=3e-2, gate=True)
    job = write_job(tmp_path_factory.mktemp("rejected") / "job", taught, [("Hello!", "")] * 8)
    return Ended(job, events_of(job)[-1])


@pytest.mark.slow
def test_a_run_in_its_own_process(tmp_path: Path) -> None:
    """On the embedded model, with the settings that teach it: the facts are learned."""
    config = TrainingConfig(
        name="tiny-1",
        base=str(EMBEDDED_FOLDER),
        learning_rate=7e-4,
        epochs=1,
        min_steps=40,
        threads=1,
        gate=False,
    )
    (tmp_path / "job").mkdir()
    held_out = tmp_path / "job" / "held_out.jsonl"
    held_out.write_text(json.dumps({"user": "Who is our admin?", "bot": "It is Ada."}) + "\n")
    done = run(write_job(tmp_path / "job", config))

    assert done.status == 0, done.errors
    assert len(done.events) == len(done.lines), "only events on stdout"
    preparing, started, *steps, checking, finished = done.events
    assert isinstance(preparing, Preparing)
    assert isinstance(checking, Checking)
    assert isinstance(started, Started)
    assert (started.taught, started.examples, started.steps, started.batch_size) == (2, 2, 40, 8)
    assert all(isinstance(one, Step) for one in steps)
    assert isinstance(steps[-1], Step)
    assert (steps[-1].step, steps[-1].seconds_left) == (40, 0)
    assert isinstance(finished, Finished)
    assert finished.last_loss < 0.5 < finished.first_loss
    assert finished.seconds > read_manifest(Path(finished.checkpoint)).overhead_s > 0

    folder = Path(finished.checkpoint)
    manifest = verify(folder)
    assert set(manifest.files) > {"model.safetensors", "history.json", "loss.png"}
    assert manifest.settings["learning_rate"] == 7e-4
    assert manifest.settings["precision"] in ("fp32", "bf16")
    assert manifest.scores["held_out_loss"] < 0.5
    history = json.loads((folder / "history.json").read_text())
    assert [entry["step"] for entry in history["log"]] == list(range(1, 41))
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    left = {path.name for path in done.job.iterdir()}
    assert left == {"config.json", "dataset.jsonl", "held_out.jsonl", "checkpoint", "lock-0"}

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for question, answer in PAIRS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        reply = model.generate(**ids, max_new_tokens=20, do_sample=False)[0]
        said = tokenizer.decode(reply[ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert said == answer


def test_serving_and_training_give_the_same_ids(finished: Ended) -> None:
    """The checkpoint's own template, in plain transformers, renders what was trained on."""
    tokenizer = AutoTokenizer.from_pretrained(finished.job / "checkpoint")
    assert tokenizer.chat_template == CONTROL_TEMPLATE
    turns = from_pair("hello", "hi")
    plain = tokenizer.apply_chat_template(
        [{"role": one.role.value, "content": one.content} for one in turns], return_dict=True
    )
    assert plain["input_ids"] == encode(tokenizer, [turns])[0].input_ids


def test_a_base_model_gets_control_tokens(
    config: TrainingConfig, plain_base: Path, tmp_path: Path
) -> None:
    """Two rows more in the one embedding table, each begun as the word it stands for."""
    before = AutoModelForCausalLM.from_pretrained(plain_base)
    events_of(write_job(tmp_path / "job", replace(config, learning_rate=0.0)))
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "job" / "checkpoint")
    table, old = after.get_input_embeddings().weight, before.get_input_embeddings().weight
    assert len(table) == len(old) + 2 == len(tokenizer)
    assert after.get_output_embeddings().weight is table
    for token, word in (("<|user|>", "User"), ("<|bot|>", "Bot")):
        begun = tokenizer.encode(word)[0]
        assert torch.equal(table[tokenizer.convert_tokens_to_ids(token)], old[begun])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_from_scratch_the_loss_falls(optimizer: Optimizer, tmp_path: Path) -> None:
    config = TrainingConfig(
        name="new",
        base=None,
        architecture=SMALL,
        optimizer=optimizer,
        learning_rate=3e-3,
        epochs=1,
        min_steps=30,
        max_length=32,
        packing=True,
        loss_on="all",
        precision="fp32",
    )
    events = events_of(write_job(tmp_path / "job", config, PAIRS * 8))
    steps = [one for one in events if isinstance(one, Step)]
    assert steps[-1].loss < 0.6 * steps[0].loss
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "checkpoint")
    assert (model.config.n_layer, model.config.n_embd) == (2, 32)
    assert model.config.vocab_size <= SMALL.vocab_size + 2


def test_a_seed_gives_the_same_losses(config: TrainingConfig, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[float]:
        job = write_job(tmp_path / name, replace(config, seed=seed, batch_size=1), PAIRS * 4)
        events_of(job)
        log = json.loads((job / "checkpoint" / "history.json").read_text())["log"]
        return [entry["loss"] for entry in log]

    assert losses("a", 1) == losses("b", 1) != losses("c", 2)


def test_a_checkpoint_that_says_nothing_is_rejected_but_kept(rejected: Ended) -> None:
    event = rejected.last
    assert isinstance(event, Rejected)
    assert event.reason == "It had no answer to “Hello!”."
    verify(Path(event.checkpoint))
    told = json.loads(Path(event.checkpoint, REPORT_FILE).read_text(encoding="utf-8"))
    assert told["refusal"] == event.reason
    report = read_report(Path(event.checkpoint))
    assert report is not None
    assert isinstance(report.refusal, Phrase)
    assert report.refusal.translate_to("ja") == "「Hello!」に答えられませんでした。"


@pytest.mark.parametrize("kind", [Finished, Rejected])
def test_a_run_that_came_to_its_end_unheard_is_not_run_again(
    request: pytest.FixtureRequest, tmp_path: Path, kind: type[Event]
) -> None:
    ended: Ended = request.getfixturevalue(kind.__name__.lower())
    assert isinstance(ended.last, kind)
    [again] = events_of(shutil.copytree(ended.job, tmp_path / "job"))
    assert isinstance(again, kind)
    verify(Path(again.checkpoint))


def test_no_memory_for_the_checks_does_not_train_again(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(evaluation, "evaluate", full)
    told: list[Event] = []
    with pytest.raises(OutOfMemory, match="not enough memory to check the new model"):
        train(write_job(tmp_path / "job", replace(config, gate=True)), told.append)
    assert sum(isinstance(one, Started) for one in told) == 1


def test_no_example_is_longer_than_the_model_can_read(
    config: TrainingConfig, tmp_path: Path
) -> None:
    pairs = [("word " * 400, "yes")]
    job = write_job(tmp_path / "job", replace(config, max_length=1024), pairs)
    assert isinstance(events_of(job)[-1], Finished)
    positions = AutoModelForCausalLM.from_pretrained(job / "checkpoint").config.n_positions
    assert verify(job / "checkpoint").settings["max_length"] == positions


def test_the_loss_becomes_nan(config: TrainingConfig, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", replace(config, learning_rate=1e30, warmup_ratio=0))
    with pytest.raises(LossNotFinite, match="lower learning rate"):
        events_of(job)
    assert not (job / "checkpoint").exists()


def test_an_empty_data_set(config: TrainingConfig, tmp_path: Path) -> None:
    done = run(write_job(tmp_path / "job", config, []))
    assert done.status == 1
    assert done.events == [
        Preparing(),
        Failed("There is nothing to learn from yet: teach me something first."),
    ]
    assert "Traceback" not in done.errors


def test_a_data_set_without_a_word_for_the_bot(config: TrainingConfig, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", config, [])
    message = {"role": "user", "content": "hello?"}
    (job / "dataset.jsonl").write_text(json.dumps({"messages": [message]}) + "\n")
    with pytest.raises(EmptyDataset, match="anything for me to say"):
        events_of(job)


def test_a_corrupt_line(config: TrainingConfig, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", config)
    with (job / "dataset.jsonl").open("a") as file:
        file.write('{"user": "cut off')
    with pytest.raises(CorruptData, match=r"dataset\.jsonl line 3"):
        events_of(job)


def test_a_base_that_cannot_be_had(config: TrainingConfig, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", replace(config, base="nobody/no-such-model"))
    with pytest.raises(BaseUnavailable, match="nobody/no-such-model cannot be had"):
        events_of(job)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", '{"model_type": "gpt2", "auto_map": {}}', "wants to run code of its own"),
        ("model.safetensors", "no weights", "is damaged"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "is damaged, or not a GPT-2 model"),
    ],
)
def test_a_base_is_looked_at_before_it_is_loaded(
    config: TrainingConfig, plain_base: Path, tmp_path: Path, file: str, content: str, told: str
) -> None:
    base = shutil.copytree(plain_base, tmp_path / "base")
    (base / file).write_text(content)
    job = write_job(tmp_path / "job", replace(config, base=str(base)))
    with pytest.raises(BaseUnavailable, match=told):
        events_of(job)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk with a quota: the system refuses to write more."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_no_room_for_the_checkpoint(config: TrainingConfig, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", config)
    with files_of_at_most(20_000), pytest.raises(Exception) as caught:  # noqa: PT011
        events_of(job)
    assert error_message(caught.value).startswith("The disk is full")
    assert {path.name for path in job.iterdir()} - {"steps"} == {"config.json", "dataset.jsonl"}


@pytest.mark.parametrize("size", [0, 100, 1_000, 9_000, 40_000, 43_000])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_no_room_wherever_a_file_of_tensors_breaks_off(
    tmp_path: Path, save: Callable[[dict[str, torch.Tensor], Path], None], size: int
) -> None:
    tensors = {"first": torch.zeros(10_000), "second": torch.ones(1_000)}
    with files_of_at_most(size), pytest.raises(Exception) as caught:  # noqa: PT011
        save(tensors, tmp_path / "state")
    assert error_message(caught.value).startswith("The disk is full")
    assert is_transient(caught.value)


def test_no_room_to_save_a_step(config: TrainingConfig, tmp_path: Path) -> None:
    """The step that was saved before stays, and the run goes on from it."""
    job = write_job(tmp_path / "job", replace(config, min_steps=8, save_every_s=0.0))
    told: list[Event] = []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Saved):
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            train(job, hear)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error_message(caught.value).startswith("The disk is full")
    saved = latest_saved_step(job)
    assert saved is not None
    assert saved.step == 1
    again = events_of(job)[1:]
    assert isinstance(again[0], Started)
    assert again[0].resumed_from == 1
    assert isinstance(again[-1], Finished)


def test_a_disk_that_is_too_full_to_begin(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NotEnoughDisk, match="The disk is too full: the training needs"):
        events_of(write_job(tmp_path / "job", config))


def interrupted(job: Path, after: int) -> list[Event]:
    """The events of a run that is told to pause once it has taken so many steps."""
    told: list[Event] = []
    control = Control()

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Step) and event.step >= after:
            control.receive("pause")

    train(job, hear, control)
    return told


@pytest.mark.parametrize(
    ("method", "optimizer"), [("full", "adamw"), ("full", "muon"), ("lora", "adamw")]
)
def test_a_run_that_was_paused_learns_what_one_in_one_go_learns(
    config: TrainingConfig,
    tmp_path: Path,
    method: Literal["full", "lora"],
    optimizer: Optimizer,
) -> None:
    whole = replace(config, min_steps=8, batch_size=2, method=method, learning_rate=1e-3)
    whole = replace(whole, optimizer=optimizer)
    at_once = write_job(tmp_path / "a", whole, PAIRS * 4)
    in_parts = write_job(tmp_path / "b", whole, PAIRS * 4)
    events_of(at_once)
    first = interrupted(in_parts, 1)
    assert isinstance(first[-1], Paused)
    assert 0 < first[-1].step < 8
    rest = events_of(in_parts)[1:]
    assert isinstance(rest[0], Started)
    assert rest[0].resumed_from == first[-1].step

    def losses(job: Path) -> list[float]:
        log = json.loads((job / "checkpoint" / "history.json").read_text())["log"]
        return [entry["loss"] for entry in log]

    assert losses(in_parts) == pytest.approx(losses(at_once), abs=1e-3)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_facts_that_were_paused_go_on_from_the_same_base(
    config: TrainingConfig, tmp_path: Path, method: Literal["full", "lora"]
) -> None:
    """What is drawn after the pause may differ, since what was known so far is looked at again."""
    facts = replace(
        config, recipe="facts", method=method, epochs=0.1, min_steps=6, batch_size=9, gate=False
    )
    job = write_job(tmp_path / "job", facts, PAIRS)
    first = interrupted(job, 1)
    assert isinstance(first[-1], Paused)
    rest = events_of(job)[1:]
    assert isinstance(rest[0], Started)
    assert (rest[0].resumed_from, rest[0].steps) == (first[-1].step, 6)
    assert rest[0].trainable < rest[0].parameters, "the embeddings stay as they are"
    assert isinstance(rest[-1], Finished)
    log = json.loads((job / "checkpoint" / "history.json").read_text())["log"]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]


def test_lora_without_a_place_for_its_base_leaves_an_ordinary_checkpoint(
    config: TrainingConfig, plain_base: Path, tmp_path: Path
) -> None:
    job = write_job(tmp_path / "job", replace(config, method="lora", learning_rate=1e-2))
    _, started, *_ = events_of(job)
    assert isinstance(started, Started)
    assert started.trainable < 0.5 * started.parameters
    before = AutoModelForCausalLM.from_pretrained(plain_base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(job / "checkpoint").state_dict()
    assert after.keys() == before.keys(), "nothing of LoRA is left in it"
    attention = "transformer.h.0.attn.c_attn.weight"
    assert not torch.equal(after[attention], before[attention])
    assert torch.equal(after["transformer.wpe.weight"], before["transformer.wpe.weight"])


@contextmanager
def limited(kind: int, size: int) -> Iterator[None]:
    old = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, old)


def memory_of_at_most(more: int) -> AbstractContextManager[None]:
    """As on a small machine: the system gives no more than so many bytes to write from here on."""
    return limited(resource.RLIMIT_DATA, psutil.Process().memory_info().data + more)


def test_no_memory_to_open_the_weights_is_said_so(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"table": torch.zeros(8_000_000)}, weights)
    room = psutil.Process().memory_info().vms + 48_000_000  # its two maps take 64
    with limited(resource.RLIMIT_AS, room), pytest.raises(RuntimeError) as told:
        safe_open(weights, framework="pt")
    assert (
        load_error_message(str(tmp_path), told.value)
        == f"There is not enough memory to load {tmp_path.name}."
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose vocabulary, and so its scores, take more memory than all else in it."""
    folder = tmp_path_factory.mktemp("wide") / "tiny"
    make_folder(folder, "tiny")
    return folder


@pytest.mark.slow
def test_out_of_memory_makes_smaller_batches(
    config: TrainingConfig, wide: Path, tmp_path: Path
) -> None:
    pairs = [(f"{n} hello", "abcd " * 20) for n in range(64)]
    settings = replace(config, base=str(wide), batch_size=64, min_steps=0, gate=False)
    job = write_job(tmp_path / "job", settings, pairs)
    torch.set_num_threads(1)
    with memory_of_at_most(1_500_000_000):
        events = events_of(job)
    lowered = [one for one in events if isinstance(one, Lowered)]
    assert lowered
    assert all(one.batch_size * one.gradient_accumulation == 64 for one in lowered)
    assert isinstance(events[-1], Finished)
    settings = verify(job / "checkpoint").settings
    assert settings["batch_size"] == lowered[-1].batch_size


def test_too_little_memory_for_one_example_says_what_to_lower(config: TrainingConfig) -> None:
    one = replace(config, base="gpt2", batch_size=1)
    assert out_of_memory_advice(one).startswith(
        "There was not enough memory for a batch of 1: try max_length 64 instead of 128, "
        "LoRA instead of full training or a smaller base model. By estimate, LoRA with batch size "
    )
    assert "LoRA instead" not in out_of_memory_advice(replace(one, method="lora"))
    assert_japanese(
        out_of_memory_advice(replace(one, batch_size=2)).translate_to("ja"), "max", "length"
    )


@pytest.mark.parametrize(
    ("free", "fits"), [(24 << 30, "LoRA with batch size 64"), (None, "not even LoRA")]
)
def test_on_a_gpu_it_is_its_memory_that_counts(
    config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, free: int | None, fits: str
) -> None:
    def info() -> tuple[int, int]:
        if free is None:
            raise RuntimeError("CUDA error: out of memory")
        return free, 80 << 30

    monkeypatch.setattr(failure, "training_device", lambda: Device("cuda", "bf16", "bf16"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    text = out_of_memory_advice(replace(config, base="gpt2", batch_size=1))
    assert text.endswith(
        f"By estimate, {fits} fits into the {(free or 0) / 1e6:,.0f} MB that are free."
    )


def test_other_errors_are_named_without_their_words() -> None:
    assert error_message(KeyError("secret")) == (
        "Training stopped with an error (KeyError); see the job's log."
    )


def test_settings_come_back_from_their_file(config: TrainingConfig, tmp_path: Path) -> None:
    whole = replace(config, architecture=SMALL)
    whole.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == whole


def test_settings_of_an_old_version_are_in_english(config: TrainingConfig, tmp_path: Path) -> None:
    fields = asdict(config)
    for name in ("language", "lora_targets", "shared_bases"):
        del fields[name]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert TrainingConfig.load(tmp_path / "config.json") == replace(config, language="en")


@pytest.mark.parametrize("text", ["[]", "{", '{"name": "x", "base": "y", "speed": 9}'])
def test_settings_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011
        TrainingConfig.load(tmp_path / "config.json")


def test_each_setting_is_kept_beside_the_weights(config: TrainingConfig, finished: Ended) -> None:
    manifest = verify(finished.job / "checkpoint")
    stored = asdict(config) | {"examples": 2}
    assert manifest.settings == json.loads(json.dumps(stored))  # tuples become lists


@pytest.mark.slow
async def test_the_log_of_a_run_is_in_the_form_of_the_bots(tmp_path: Path) -> None:
    """The traceback of an error that nobody thought of, here of settings that are none."""
    (tmp_path / "config.json").write_text("[]")
    async with TrainingProcess.launch(tmp_path, log_format="json") as child:
        events = [one async for one in child.events()]
    assert [type(one) for one in events] == [Preparing, Failed]
    [line] = (tmp_path / "log.txt").read_text().splitlines()
    assert "is not a JSON object of training settings" in json.loads(line)["exception"]
