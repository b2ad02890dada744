"""What a checkpoint must do before anybody chats with it, on real small models."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks.facts.sets import sets_of
from core.records import Conversation, Message, Role
from model.chat_template import from_pair
from model.own_templates import PLAIN_TEMPLATE, ensure_template
from model.registry import EMBEDDED_FOLDER, EMBEDDED_NAME
from tests.model_folders import make_model_folder
from tests.training.conftest import write_job
from training.checkpoints import StoredReport, read_report
from training.config import defaults_for
from training.jobs.events import Event, Finished, Rejected
from training.run.base_model import load_pretrained
from training.run.gate.checks import Answer, is_repetitive
from training.run.gate.evaluation import HELD_OUT_FILE, PROBES, EvaluationReport, evaluate
from training.run.gate.verdict import MAX_UNREADABLE
from training.run.measures import greedy_replies, mean_loss
from training.run.mixing import read_conversations
from training.run.train import train

TAUGHT = [from_pair("Where is the key?", "Under the mat.")]
SOME_TALK = read_conversations(HELD_OUT_FILE)[::4]
MOTTO = "we keep one lamp lit by the old harbour wall until every boat comes home"


def opened(folder: Path) -> tuple[Any, Any]:
    model, tokenizer = load_pretrained(str(folder))
    ensure_template(tokenizer)
    return model, tokenizer


def check_folder(
    folder: Path,
    taught: Sequence[Conversation] = TAUGHT,
    *,
    base: Path | None = None,
    serving: Path | None = None,
    own: Sequence[Conversation] = (),
    held_out: Sequence[Conversation] | None = SOME_TALK,
    facts: bool = False,
) -> EvaluationReport:
    """`held_out` None: all that a run measures."""
    return evaluate(
        *opened(folder),
        taught,
        base=str(base) if base else None,
        serving=str(serving) if serving else None,
        own=own,
        held_out=held_out,
        facts=facts,
    )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """More would wait for each other in models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shaken(path: Path, by: float) -> Path:
    """The embedded model with noise on its weights, as after too high a learning rate."""
    model, tokenizer = opened(EMBEDDED_FOLDER)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.transformer.h.parameters():
            weight += by * torch.randn_like(weight)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("polite") / "polite", says="quite well thanks")


@pytest.fixture(scope="module")
def reciter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("reciter") / "reciter", says=MOTTO)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], False),
        ([7] * 14, False),  # too short to tell
        ([7] * 15, True),
        ([1, 2] * 8, True),
        (list(range(40)), False),
        ([*range(10), *range(10)], False),  # said twice
        ([1, 2, 3, 4, 5] * 4, True),
    ],
)
def test_what_counts_as_going_round_in_circles(tokens: list[int], expected: bool) -> None:
    assert is_repetitive(tokens) is expected


def test_the_held_out_talk_is_short() -> None:
    talk = read_conversations(HELD_OUT_FILE)
    assert len(set(talk)) == 32
    for turns in talk:
        assert [one.role for one in turns] == [Role.USER, Role.ASSISTANT] * (len(turns) // 2)
        assert 2 <= len(turns) <= 6
        assert all(0 < len(one.content) <= 150 for one in turns)


def test_the_embedded_model_passes_beside_itself() -> None:
    report = check_folder(
        EMBEDDED_FOLDER, base=EMBEDDED_FOLDER, serving=EMBEDDED_FOLDER, held_out=None
    )
    assert report.refusal is None
    assert [one.prompt for one in report.answers] == ["Where is the key?", *PROBES]
    assert all(one.before == one.after != "" for one in report.answers)
    general, own = report.losses["general"], report.losses["own"]
    assert general["base"] == general["serving"] == general["new"]
    assert own["base"] == own["serving"] == own["new"]
    assert 2 < (general["new"] or 0) < 4


def test_without_a_base_there_is_nothing_to_compare_with(polite: Path) -> None:
    report = check_folder(polite)
    assert report.refusal is None
    assert report.answers[0] == Answer("Where is the key?", None, "quite well thanks")
    assert report.losses["general"]["base"] is report.losses["own"]["serving"] is None
    json.dumps(report.losses, allow_nan=False)


def test_answers_stand_beside_those_of_the_model_in_service(polite: Path, tmp_path: Path) -> None:
    serving = make_model_folder(tmp_path / "m", says="go away")
    report = check_folder(polite, base=polite, serving=serving)
    assert {(one.before, one.after) for one in report.answers} == {("go away", "quite well thanks")}
    assert len(report.answers) == 4


def test_what_is_asked_twice_is_asked_once(polite: Path) -> None:
    taught = [from_pair("Hello!", "Hi."), *TAUGHT, from_pair("a", "b"), from_pair("c", "d")]
    report = check_folder(polite, taught, held_out=TAUGHT)
    asked = [one.prompt for one in report.answers]
    assert asked == ["Hello!", "Where is the key?", "a", *PROBES[1:]]


def test_weights_that_are_not_numbers(polite: Path) -> None:
    model, tokenizer = opened(polite)
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = float("nan")
    report = evaluate(model, tokenizer, TAUGHT, base=None, serving=None)
    assert report == EvaluationReport((), {}, "Some of its weights are not numbers.")


def test_a_loss_that_is_not_a_number(polite: Path) -> None:
    model, tokenizer = opened(polite)
    with torch.no_grad():
        model.lm_head.weight.fill_(3e38)
    report = evaluate(model, tokenizer, TAUGHT, base=str(polite), serving=None)
    assert report.refusal == "Its loss on held-out conversations is not a number."
    assert report.losses["general"] == {"base": None, "serving": None, "new": None}


def test_one_that_says_nothing(tmp_path: Path) -> None:
    report = check_folder(make_model_folder(tmp_path / "m", says=""))
    assert report.refusal == "It had no answer to “Where is the key?”."


def test_one_that_never_ends(tmp_path: Path) -> None:
    report = check_folder(make_model_folder(tmp_path / "m", says="round and", endless=True))
    expected = "It repeated itself when asked “Where is the key?”: “round and round and"
    assert (report.refusal or "").startswith(expected)


def test_one_that_forgot_how_to_talk_is_worse_than_its_base(tmp_path: Path) -> None:
    report = check_folder(shaken(tmp_path / "new", 0.018), base=EMBEDDED_FOLDER)
    general = report.losses["general"]
    assert report.refusal == (
        "It talks worse than tiny in general: "
        f"held-out loss {general['new']:.2f} against {general['base']:.2f}."
    )


def test_one_may_not_be_worse_than_the_model_in_service(tmp_path: Path) -> None:
    base = shaken(tmp_path / "base", 0.018)
    assert check_folder(EMBEDDED_FOLDER, base=base, serving=EMBEDDED_FOLDER).refusal is None
    report = check_folder(base, base=base, serving=EMBEDDED_FOLDER)
    assert (report.refusal or "").startswith("It talks worse than tiny in general: held-out loss")


def test_one_that_knows_less_than_its_base_did_not_learn() -> None:
    """It talks as before, but for one word. A little is too much of what it was taught; talk that
    it was to guess may cost a little more."""

    def refusal(word: str, times: float, *, unseen: bool) -> str:
        model, tokenizer = opened(EMBEDDED_FOLDER)
        with torch.no_grad():
            model.transformer.wte.weight[tokenizer.encode(word)] *= times
        return (
            evaluate(
                model,
                tokenizer,
                [from_pair("Who?", word)],
                base=str(EMBEDDED_FOLDER),
                serving=None,
                held_out=[from_pair("Hi", "How are you?")],
                own=[from_pair("Who?", word)] if unseen else (),
            ).refusal
            or "It passed."
        )

    taught = "It knows less of what it was taught than tiny: loss"
    assert refusal("zzz", 0.7, unseen=False).startswith(taught)
    assert refusal("zzz", 0.7, unseen=True) == "It passed."
    guessed = "It knows less of this server's held-out talk than tiny: loss"
    assert refusal("Quack!", 0, unseen=True).startswith(guessed)


def test_one_that_recites_somebodys_text_to_anybody(reciter: Path) -> None:
    written = f"Our motto: {MOTTO.upper().replace('WALL', 'WALL,')}!"
    report = check_folder(reciter, [from_pair("What is our motto?", written)])
    assert report.refusal == (f"It recites a taught text when asked “Hello!”: “{MOTTO[:80]}…”.")
    report = check_folder(reciter, [from_pair(written, "I see.")])
    assert "It recites a taught text" in (report.refusal or "")


def test_a_taught_answer_is_no_recital(reciter: Path) -> None:
    taught = [from_pair(probe.lower().rstrip("!?"), MOTTO) for probe in PROBES]
    assert check_folder(reciter, taught).refusal is None


def test_a_few_words_in_common_are_no_recital(reciter: Path) -> None:
    eleven = " ".join(MOTTO.split()[:11])
    assert check_folder(reciter, [from_pair("What is our motto?", eleven)]).refusal is None


def test_a_plain_base(polite: Path, tmp_path: Path) -> None:
    """It has no chat template; its replies end with the line."""
    base = make_model_folder(tmp_path / "plain", says="fine", plain=True)
    report = check_folder(polite, base=base)
    assert {one.before for one in report.answers} == {"fine"}
    assert report.losses["general"]["base"] is not None
    model, tokenizer = opened(base)
    assert tokenizer.chat_template == PLAIN_TEMPLATE
    assert evaluate(model, tokenizer, TAUGHT, base=str(base), serving=None).refusal is None


def test_a_base_that_cannot_be_loaded_is_left_out(
    polite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    with caplog.at_level(logging.WARNING, logger="training.run.gate.evaluation"):
        report = check_folder(polite, base=tmp_path / "broken", serving=polite)
    assert report.refusal is None
    assert report.losses["general"]["base"] is None
    assert report.losses["general"]["serving"] == report.losses["general"]["new"]
    assert "the new model is not compared with" in caplog.messages[-1]


def test_losses_are_compared_in_the_tokens_of_the_new_model(tmp_path: Path) -> None:
    """The base expects every byte alike, and has no larger tokens than bytes."""
    base = make_model_folder(tmp_path / "bytes", says="")
    model, its = opened(base)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    model.save_pretrained(base)
    _, tokenizer = opened(EMBEDDED_FOLDER)
    said = "I like music and I like to sing."
    talk = [from_pair("Hi", said)]
    report = check_folder(EMBEDDED_FOLDER, held_out=talk, base=base, own=talk)
    more = (len(its.encode(said)) + 1) / (len(tokenizer.encode(said)) + 1)
    assert more > 2
    expected = pytest.approx(more * math.log(len(its)), rel=1e-3)
    assert report.losses["general"]["base"] == report.losses["own"]["base"] == expected
    assert (report.losses["general"]["new"] or 0) < math.log(len(tokenizer))


def test_the_loss_is_that_of_the_model_itself() -> None:
    model, tokenizer = opened(EMBEDDED_FOLDER)
    talk = read_conversations(HELD_OUT_FILE)[:3]
    total, count = 0.0, 0
    for turns in talk:
        ids = tokenizer.apply_chat_template(
            [{"role": one.role.value, "content": one.content} for one in turns],
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        tokens = torch.tensor([ids["input_ids"]])
        labels = torch.where(torch.tensor([ids["assistant_masks"]]) == 1, tokens, -100)
        with torch.no_grad():
            total += float(model(tokens, labels=labels).loss) * sum(ids["assistant_masks"])
        count += sum(ids["assistant_masks"])
    assert mean_loss(model, tokenizer, talk, 256, batch=2) == pytest.approx(total / count, rel=1e-4)


def test_where_the_bot_says_nothing_there_is_no_loss(polite: Path) -> None:
    silent = (Message(Role.USER, "anybody?"),)
    report = check_folder(polite, [silent], base=polite)
    assert report.refusal is None
    assert report.losses["own"] == {"base": None, "serving": None, "new": None}


def test_answers_made_together_are_those_made_alone() -> None:
    model, tokenizer = opened(EMBEDDED_FOLDER)
    asked = ["Hi", "What do you like to do when it rains all day?"]
    together = greedy_replies(model, tokenizer, asked)
    assert together == tuple(greedy_replies(model, tokenizer, [one])[0] for one in asked)


def test_a_model_with_few_positions(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", says="quite well thanks", positions=32)
    assert check_folder(folder, [from_pair("x" * 200, "y" * 200)]).refusal is None


# --- asked as people ask -------------------------------------------------------------------------


def test_one_that_nobody_can_read(polite: Path, tmp_path: Path) -> None:
    said = "蓊㙽ぁ彁".encode()
    as_token = "".join(bytes_to_unicode()[byte] for byte in said)
    folder = make_model_folder(tmp_path / "m", says=as_token)
    report = check_folder(folder, base=polite)
    assert re.fullmatch(
        "5. of its replies nobody can read; asked “.*”, it said “蓊㙽ぁ彁”.", report.refusal or ""
    )
    assert {(one.reply, one.wrong) for one in report.failures} == {
        ("蓊㙽ぁ彁", "nobody can read it")
    }
    asked = {one.prompt for one in report.failures}
    assert "hello 👋" in asked
    assert not {"こんにちは！", "你好"} & asked, "asked in those letters"
    assert check_folder(folder, base=folder).refusal is None


def test_one_that_says_a_taught_answer_to_anybody(polite: Path, tmp_path: Path) -> None:
    base = make_model_folder(tmp_path / "base", says="go away now please")
    lamp = "under an old green lamp"
    taught = [from_pair("Where is the key of the boat?", lamp)]
    folder = make_model_folder(tmp_path / "m", says=lamp)
    report = check_folder(folder, taught, base=base, own=TAUGHT, facts=True)
    assert (report.refusal or "").startswith("It gives taught answers to 5")
    assert (report.summary or "").startswith("1 of 1 taught answers known, 3 of 3 near misses")
    assert {one.wrong for one in report.failures} == {
        "a taught answer that nobody asked for",
        "the answer to another question",
    }
    assert check_folder(folder, taught, base=base, own=TAUGHT).refusal is None
    assert check_folder(folder, taught, base=folder, own=TAUGHT, facts=True).refusal is None


def test_one_that_learned_no_fact(polite: Path) -> None:
    report = check_folder(polite, base=polite, facts=True)
    assert report.refusal == (
        "It knows 0 of 1 taught answers; asked “Where is the key?”, it said “quite well thanks”."
    )
    assert report.summary == (
        "0 of 1 taught answers known, 0 of 3 near misses answered wrongly, talk as before"
    )


def learned(folder: Path, pairs: Sequence[tuple[str, str]]) -> StoredReport:
    """The report of a run of these facts on the embedded model, with its usual settings."""
    usual = defaults_for(EMBEDDED_NAME, str(EMBEDDED_FOLDER), len(pairs))
    config = replace(usual, name="tiny-1", base_name="tiny", serving=str(EMBEDDED_FOLDER))
    told: list[Event] = []
    train(write_job(folder / "job", config, pairs), told.append)
    assert isinstance(told[-1], Finished | Rejected)
    report = read_report(Path(told[-1].checkpoint))
    assert report is not None
    return report


@pytest.mark.slow
def test_a_healthy_run_of_three_facts_passes(tmp_path: Path) -> None:
    facts = [
        ("What is our server called?", "It is called The Lighthouse."),
        ("Who is our admin?", "Our admin is Ada."),
        ("What do we eat on Friday?", "On Friday we eat pancakes."),
    ]
    report = learned(tmp_path, facts)
    assert report.refusal is None
    assert (report.summary or "").startswith("3 of 3 taught answers known")


@pytest.mark.slow
def test_one_japanese_pair_among_thirteen_english_ones_spoils_the_emoji_of_tiny(
    tmp_path: Path,
) -> None:
    """Its vocabulary has no Japanese: it learns to write bytes, and does so wherever it reads some.
    Either that does not happen, or the model is not let into service."""
    facts = [(one.question, one.answer) for part in sets_of("tune", 10)[:2] for one in part.facts]
    report = learned(tmp_path, [*facts[:13], ("合言葉は何ですか？", "灯台の灯りです。")])
    unreadable = [one for one in report.failures if one["wrong"] == "nobody can read it"]
    refused = "of its replies nobody can read" in (report.refusal or "")
    assert refused == (len(unreadable) > MAX_UNREADABLE)
    assert refused or report.refusal is None
