"""The benchmarks run and print what they promise; the figures themselves are nobody's test."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import talk, tokens
from benchmarks.facts.sets import Fact, FactSet
from benchmarks.judgement.taste import rows_of
from benchmarks.knowing import Measure, Question, is_counted
from benchmarks.outliers import TWINS
from benchmarks.shares import wilson
from model.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
SMALL = "--model-size tiny --new-tokens 12 --prompt-tokens 20 --threads 1"


def run(benchmark: str, options: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", *options.split(), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["generation", "load", "talk", "training"])
def test_a_benchmark_of_the_worker_brings_it_no_torch(name: str) -> None:
    """A worker process imports the main module of whoever starts it, so its memory would count."""
    program = f"import sys, benchmarks.{name}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.slow
def test_the_generation_benchmark_prints_one_object() -> None:
    crowds = "--models 2 --arrivals 5 --adapters 3"
    result = run(
        "generation", f"{SMALL} --streams 1,2 --rounds 1 --short --peers generate {crowds}"
    )
    assert set(result["engines"]) == {"gpt2bot", "generate"}
    for streams in result["engines"].values():
        assert set(streams) == {"1", "2"}
        for figures in streams.values():
            assert set(figures) == {"decode_tok_s", "ttft_ms", "reply_s"}
            assert all(value > 0 for value in figures.values())
    assert result["second_message_ttft_ms"] > 0
    assert result["cold_ttft_ms"] > 0
    assert result["swap"]["seconds"] > 0
    assert result["swap"]["speed_kept"] > 0
    assert result["ready"]["cached_s"] > 0
    assert result["loop_stall_ms"] > 0
    assert result["bot_process"]["ready_s"] > 0
    assert result["models"]["1"] > 0
    assert result["adapters"].keys() >= {"count", "base_tok_s", "mixed_tok_s"}
    assert result["adapters"].keys() >= {"resident_mb", "swap_ms"}
    assert result["adapters"]["count"] == 3
    assert all(value > 0 for value in result["adapters"].values())
    assert len(result["models"]["2"]) == 2
    assert all(speed > 0 for speed in result["models"]["2"])
    assert result["arrivals"].keys() == {
        f"{prefix}mean_{what}" for prefix in ("", "fifo_") for what in ("first_s", "end_s")
    }
    assert 0 < result["arrivals"]["mean_first_s"] < result["arrivals"]["mean_end_s"]
    if sys.platform == "linux":
        assert result["memory_mb"] > 0


@pytest.mark.first
@pytest.mark.cluster
def test_the_cluster_benchmark_prints_one_object() -> None:
    result = run("cluster", "--short --replicas 1 --step 0.05 --parts pipe,scaling,killed,swap")
    assert set(result["first_ms"]) == {"pipe", "ray"}
    assert all(ms > 0 for ms in result["first_ms"].values())
    assert set(result["scaling"]) == {"1", "2"}
    assert all(speed > 0 for speed in result["scaling"].values())
    killed, swap = result["node_killed"], result["swap"]
    assert killed["under_way"] > 0
    assert (killed["lost"], killed["doubled"]) == (0, 0), killed
    assert (swap["lost"], swap["mixed"], swap["old_after_the_swap"]) == (0, 0, 0), swap
    assert swap["old"] > 0
    assert swap["new"] > 0


@pytest.mark.slow
def test_what_int8_costs_is_within_one_percent_on_every_twin() -> None:
    ratios = run("generation", "--outliers")["outliers"]
    assert set(ratios) == {*TWINS, "tiny-ja"}
    assert all(abs(ratio - 1) < 0.01 for ratio in ratios.values())


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "--adapters 3"])
def test_a_soak_shows_speed_and_memory_over_time(more: str) -> None:
    parts = run("generation", f"{SMALL} --soak 2 {more}")["soak"]
    assert len(parts) == 10
    assert sum(part["tok_s"] for part in parts) > 0
    if sys.platform == "linux":
        growth = parts[-1]["memory_mb"] - parts[0]["memory_mb"]
        assert growth < WorkerSettings().cache_mb, "more than the caches, which fill"


def test_the_count_of_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has imported transformers already."""
    monkeypatch.setattr(sys, "argv", ["tokens", "--json"])
    tokens.main()
    tiny, japanese, pieces = json.loads(capsys.readouterr().out)
    assert tiny["a_letter"] == 3.0  # one for each byte
    assert japanese["a_letter"] < 0.7
    assert pieces["a_letter"] < 1
    assert 90 < pieces["letters"] < 120


@pytest.mark.slow
def test_the_training_benchmark_prints_one_object() -> None:
    """As short as it can be: nothing is learned in so few steps."""
    result = run("training", "--short --parts speed")
    assert list(result) == ["speed"]
    assert result["speed"]["tiny: times as fast"] > 0


@pytest.mark.slow
def test_what_is_known_is_measured() -> None:
    """In two steps nothing is learned, and what is asked is complete."""
    result = run("knowing", "--short --facts 2 --seeds 1")
    assert result["learned"]["2"].keys() == {"ours", "in the bot", "plain", "lora"}
    for figures in result["learned"]["2"].values():
        for kind in ("greedy", "sampled"):
            asked = {measure: share["questions"] for measure, share in figures[kind].items()}
            assert list(asked.values()) == [2, 2, 4, 6, 6, 60]
            assert all(one["low"] <= one["share"] <= one["high"] for one in figures[kind].values())
        assert len(figures["loss_rise_percent"]) == 1
        assert figures["seconds"][0] > 0
    for found in result["at_once"].values():
        assert found["careless"]["share"] > found["near"]["share"]
        assert found["ms"] > 0


def test_simulated_people_like_and_dislike() -> None:
    """All of their votes are learned."""
    pairs = [(f"Is {n} even?", f"Perhaps {n} is.") for n in range(20)]
    rows = rows_of(pairs, [n % 3 == 0 for n in range(20)])
    assert [one.good is not None for one in rows].count(True) == 7
    assert len(rows) == 20


@pytest.mark.slow
def test_a_taste_is_measured() -> None:
    """In two steps nothing is learned from votes either."""
    result = run("judgement.taste", "--short --random 2")
    assert (result["random_promoted"], result["random_runs"]) == (0, 2)
    assert 0 < result["taste_before"] < 1
    assert result["stage_steps"] <= result["supervised_steps"] == 2
    assert result["recall_after"] == result["recall_before"]


@pytest.mark.parametrize(
    ("answer", "reply", "counted"),
    [
        ("Mira runs it.", "Mira runs it.", True),
        ("Mira runs it.", "Mira runs it!", False),
        (None, "Mira runs it!", True),
        (None, "Somebody else runs this place.", False),
        (None, "", False),
    ],
)
def test_a_reply_is_right_or_like_a_taught_one(
    answer: str | None, reply: str, counted: bool
) -> None:
    taught = FactSet("", (Fact("Who runs this?", "Mira runs it.", "", (), ()),), ())
    question = Question(Measure.NEAR, "Who runs that?", answer)
    assert is_counted(question, reply, taught) is counted


@pytest.mark.parametrize(
    ("shares", "interval"),
    [([1.0] * 10, (0.7225, 1.0)), ([0.0] * 10, (0.0, 0.2775)), ([0.5] * 100, (0.4038, 0.5962))],
)
def test_intervals_of_shares(shares: list[float], interval: tuple[float, float]) -> None:
    share = wilson(shares)
    assert (share.low, share.high) == interval


def test_a_crowd_loses_nothing() -> None:
    """So many messages at once that some are refused: those are told so."""
    result = run(
        "load", "--channels 60 --guilds 6 --rate 60000 --messages 250 --waiting 4 --pause 0.1"
    )
    assert result["messages"] >= 250
    assert (result["lost"], result["unexpected"], result["database"]) == (0, [], "ok")
    assert result["refused"] > 0
    assert result["recorded_replies"] + result["refused"] == result["messages"]
    assert set(result["first_text_s"]) == {"p50", "p90", "p99"}
    assert result["memory"].keys() == {"bot", "worker"}


def test_the_store_benchmark_prints_one_object() -> None:
    result = run("store", "--short")
    assert list(result["context"]) == ["100", "1000", "10000"]
    assert all(figures["median_ms"] > 0 for figures in result["context"].values())
    assert (result["forget"]["messages"], result["forget"]["replies"]) == (500, 500)
    assert result["forget"]["loop_stall_ms"] > 0


def test_what_people_judge_is_simulated() -> None:
    result = run("judgement", "--parts duel,canary --runs 20")
    assert result.keys() >= {"aa_decided", "votes_to_decide", "canary_replies", "canary_false"}
    assert 0 < result["votes_to_decide"] < 400
    assert 0 < result["canary_replies"] < 100


def test_the_benchmark_of_the_page_prints_one_object() -> None:
    result = run("web", "--short")
    assert {"timeline", "data set", "search, found never", "a training"} <= result.keys()
    assert all(one["median_ms"] > 0 for one in result.values())
    assert all(one["page_kb"] < one["first_visit_kb"] < 300 for one in result.values())


@pytest.mark.slow
def test_what_was_forgotten_is_measured() -> None:
    result = run("judgement.forgetting", "--short")
    assert result["canaries"] == 2
    assert result["most_bits"] == 9.0
    assert all(0 <= result[f"median_{name}"] <= 9 for name in ("old", "new", "twin_1", "base"))


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_bomb_is_measured() -> None:
    [result] = run("bombs", "--only wide")
    assert result["outcome"] == "0 pairs, 15,000 wrong rows"
    assert result["seconds"] > 0
    assert result["file_mb"] < 0.1


@pytest.mark.parametrize(
    ("replies", "language", "printed"),
    [
        ([("hi", "so so"), ("hi", "so it is")], "en", "distinct-1 0.60, distinct-2 1.00"),
        ([("やあ", "はいはい")], "ja", "distinct-1 0.50, distinct-2 0.67"),
    ],
)
def test_how_varied_replies_are(
    replies: list[tuple[str, str]], language: str, printed: str
) -> None:
    faults = f"of {len(replies)} replies 0 unreadable, 0 repeat themselves"
    assert talk.variety(replies, language) == f"{printed}; {faults}"


@pytest.mark.parametrize(
    ("message", "reply", "unreadable"),
    [
        ("hello 👋", "Hello! 😀", False),
        ("hello", "蓊ぁ彁", True),
        ("hello", "Hell\ufffd", True),
        ("hello", "", True),
        ("こんにちは", "カレーです。GPT-2です。", False),
        ("привет", "Привет!", False),
    ],
)
def test_what_nobody_can_read(message: str, reply: str, unreadable: bool) -> None:
    assert talk.is_unreadable(message, reply) is unreadable


def test_what_repeats_itself() -> None:
    assert talk.repeats_itself(list("猫さん猫さんが来た"))
    assert not talk.repeats_itself(list("いえいえ、はいはい"))
    assert talk.repeats_itself(["so", "it", "is", "so", "it", "is"])


@pytest.mark.slow
def test_the_loss_of_talk_is_by_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a large corpus some is held out; a small one has nothing to spare."""
    talks = [[f"元気ですか{n}", "はい、元気です。"] for n in range(1100)]
    for name, some in (("large", talks), ("small", talks[:900])):
        messages = (
            [{"role": "user", "content": one}, {"role": "assistant", "content": two}]
            for one, two in some
        )
        lines = (json.dumps({"messages": both}) for both in messages)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder = ROOT / "model" / "tiny_ja"
    talk.print_losses([folder], "ja", [tmp_path / "large.jsonl", tmp_path / "small.jsonl"])
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"{folder}: nats a character: large \d\.\d{{3}}\n", printed)


def test_small_talk_is_rated_blind(tmp_path: Path) -> None:
    """The sheet does not say whose a reply is; its ratings are put down to the right model."""
    folders = [ROOT / "model" / name for name in ("tiny", "tiny_ja")]
    sheet = tmp_path / "sheet.csv"
    talk.write_sheet(sheet, folders, "en", draws=1)
    written = sheet.read_text(encoding="utf-8").lower()
    assert not any(name in written for name in ("tiny_ja", "tiny-ja", "model/", *map(str, folders)))
    key = json.loads((tmp_path / "sheet.key.json").read_text(encoding="utf-8"))
    with sheet.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(key) == 60
    messages = (talk.MESSAGES / "en.txt").read_text(encoding="utf-8").splitlines()
    for number, row in enumerate(rows, 1):  # a reply may say “tiny”, nothing beside it may
        assert tuple(row) == talk.COLUMNS
        assert (row["number"], row["rating"]) == (str(number), "")
        assert row["message"] in messages
    for row in rows:
        row["rating"] = "2" if key[row["number"]] == str(folders[0]) else "0"
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, talk.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    assert talk.summary(sheet) == {
        str(folders[0]): "2.00 ± 0.00 of 2, 0 of 30 make no sense",
        str(folders[1]): "0.00 ± 0.00 of 2, 30 of 30 make no sense",
    }
    sheet.write_text(sheet.read_text(encoding="utf-8").replace(",2\n", ",\n", 1))
    with pytest.raises(SystemExit, match=r"^Line \d+ of .* has no rating from 0 to 2\.$"):
        talk.summary(sheet)
