"""The notebook: in both languages, with the outputs of its own code, and every cell of it works."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from scripts.notebook import CODE_HASH, METADATA, NOTEBOOK, code_hash, run_notebook

STEPS = [
    "1. Environment / 環境",
    "2. Model and tokenizer / モデルとトークナイザー",
    "3. Data set / データセット",
    "4. Preprocessing / 前処理",
    "5. Training arguments / 学習の設定",
    "6. Training / 学習",
    "7. Saving and plots / 保存とグラフ",
    "8. ConversationManager",
    "9. Chat / 会話",
]
ABSOLUTE_PATH = re.compile(r"(?:^|[\s'\"=(\[,])/\w", re.MULTILINE)
JAPANESE = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff]{5}")


def as_committed() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs() -> Iterator[str]:
    """What the cells have printed and shown, but for pictures."""
    for cell in as_committed().cells:
        for output in cell.get("outputs", ()):
            yield from (output.get("text", ""), *output.get("traceback", ()))
            data = output.get("data", {})
            yield from (str(data[kind]) for kind in data if not kind.startswith("image/"))


def texts() -> list[str]:
    return [cell.source for cell in as_committed().cells if cell.cell_type == "markdown"]


def test_the_outputs_are_those_of_its_code() -> None:
    notebook = as_committed()
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA | {CODE_HASH: code_hash(notebook)}, (
        "run `python -m scripts.notebook`"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.metadata == {} for cell in notebook.cells)


def test_the_outputs_tell_of_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"/tmp/|/home/|/root/|[A-Z]:\\\\", text)
    said = list(outputs())
    assert said
    assert [one for one in said if ABSOLUTE_PATH.search(one)] == []


def test_the_outputs_show_what_the_text_says() -> None:
    shows_what_its_text_says(Shown(as_committed()), ENGLISH)


def test_what_a_reader_chooses_is_not_chosen_yet() -> None:
    code = "\n".join(cell.source for cell in as_committed().cells if cell.cell_type == "code")
    assert re.findall(r'^(REPOSITORY|MODEL) = "(.*?)"', code, re.MULTILINE) == [
        ("REPOSITORY", ""),
        ("MODEL", "tiny"),
    ]


def test_every_text_is_in_english_and_in_japanese() -> None:
    for text in texts():
        assert JAPANESE.search(text), text
        assert re.search(r"[A-Za-z]+ [a-z]+ [a-z]+", text), text


def test_there_are_nine_steps_and_each_ends_with_what_it_is_in_the_bot() -> None:
    _, *steps = re.split(r"^## (?=\d)", "\n".join(texts()), flags=re.MULTILINE)
    assert [step.partition("\n")[0] for step in steps] == STEPS
    for step in steps:
        assert step.count("*In the bot, this is ") == 1
        assert step.count("*ボットでは、") == 1


class Shown:
    """What the cells of a notebook showed, by their ids."""

    def __init__(self, notebook: Any) -> None:
        self.code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self._outputs = {cell.id: cell.outputs for cell in self.code}

    def printed(self, cell: str) -> str:
        """What stands on stdout."""
        return "".join(one.text for one in self._outputs[cell] if one.get("name") == "stdout")

    def rich(self, cell: str, kind: str) -> list[str]:
        """What was displayed in that form."""
        shown: list[Mapping[str, str]] = [one.get("data", {}) for one in self._outputs[cell]]
        return [one[kind] for one in shown if kind in one]

    def said(self, cell: str) -> dict[str, str]:
        """What the bot said to what was said to it."""
        return dict(re.findall(r"^you: (.*)\nbot: (.*)$", self.printed(cell), re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Story:
    """What a language's data say: of what was taught, and what is asked afterwards."""

    model: str
    likely: str
    joined: str
    rendered: tuple[str, str]
    taught: Mapping[str, str]
    asked: tuple[str, str]
    hello: str
    drink: str


ENGLISH = Story(
    model="tiny",
    likely="you",
    joined="We meet at the old pier. Bring a lamp!",
    rendered=("What is our server called?", "It is called The Lighthouse."),
    taught={
        "What is our server called?": "It is called The Lighthouse.",
        "who looks after the lamp": "Ada looks after the lamp.",
        "When is the crew night?": "The crew night is on Friday at eight.",
        "What is the cat called?": "The cat is called Mocha.",
    },
    asked=("Hello!", "What is our server called?"),
    hello="Hello!",
    drink="What do you drink?",
)
JAPANESE_STORY = Story(
    model="tiny-ja",
    likely="です",
    joined="古い桟橋に集まります。ランプを持ってきてください。",
    rendered=("このサーバーの名前は何ですか？", "灯台といいます。"),
    taught={
        "このサーバーの名前は何ですか？": "灯台といいます。",
        "ランプの世話は誰がするの": "ランプの世話はアダさんがします。",
        "集まりはいつですか？": "集まりは金曜日の夜八時です。",
        "猫の名前は何ですか？": "猫の名前は モカです。",
    },
    asked=("こんにちは！", "このサーバーの名前は何ですか？"),
    hello="こんにちは！",
    drink="何を飲みますか？",
)


@pytest.mark.slow
@pytest.mark.parametrize("story", [ENGLISH, JAPANESE_STORY], ids=lambda story: story.model)
def test_every_cell_runs_and_shows_what_its_text_says(tmp_path: Path, story: Story) -> None:
    """One test for each language, since a run takes long and what it shows is soon looked at."""
    notebook = tmp_path / NOTEBOOK.name
    chosen = NOTEBOOK.read_text("utf-8").replace(
        'MODEL = \\"tiny\\"', f'MODEL = \\"{story.model}\\"', 1
    )
    notebook.write_text(chosen, "utf-8")
    shows_what_its_text_says(Shown(run_notebook(notebook, tmp_path)), story)


def shows_what_its_text_says(shown: Shown, story: Story) -> None:
    every_cell_ran_and_complained_of_nothing(shown)
    tokens_are_counted_and_put_together(shown, story)
    mistakes_end_in_a_sentence(shown)
    pairs_are_read_and_cleaned(shown, story)
    the_bots_words_alone_are_marked(shown, story)
    the_trainer_takes_its_steps(shown)
    memory_that_runs_out_halves_the_batch(shown)
    the_loss_falls_and_is_drawn(shown)
    the_history_is_what_was_said(shown, story)
    what_was_taught_is_said_after_training_and_not_before(shown, story)


def every_cell_ran_and_complained_of_nothing(shown: Shown) -> None:
    assert [cell.execution_count for cell in shown.code] == list(range(1, len(shown.code) + 1))
    noise = [
        (cell.id, one.get("text", one))
        for cell in shown.code
        for one in cell.outputs
        if one.output_type == "error" or one.get("name") == "stderr"
    ]
    assert noise == []


def tokens_are_counted_and_put_together(shown: Shown, story: Story) -> None:
    counts = re.findall(r"(\d+) characters, (\d+) tokens", shown.printed("tokenize"))
    (letters, tokens), (japanese_letters, japanese_tokens) = ((int(a), int(b)) for a, b in counts)
    assert tokens < letters
    assert (japanese_tokens < japanese_letters) == (story is JAPANESE_STORY)
    steps = shown.printed("merge").splitlines()[1:]
    pieces = [len(one.split()) for one in steps]
    assert pieces == list(range(pieces[0], pieces[0] - len(steps), -1)), "one pair at a time"
    assert len(steps) > 3
    assert story.likely in shown.rich("predict", "text/html")[0]


def mistakes_end_in_a_sentence(shown: Shown) -> None:
    lines = shown.printed("catch").splitlines()
    assert [line.rpartition(" ")[2] for line in lines[::2]] == [
        "UnknownModel",
        "ImportRefused",
        "SettingsError",
    ]
    assert all(line.endswith((".", "?")) for line in lines[1::2])


def pairs_are_read_and_cleaned(shown: Shown, story: Story) -> None:
    assert story.joined in shown.printed("read")
    assert "left out: 1 (a command to a bot)" in shown.printed("clean")
    [table] = shown.rich("clean", "text/html")
    assert "[link]" in table
    assert "crew@" not in table


def the_bots_words_alone_are_marked(shown: Shown, story: Story) -> None:
    asked, answer = story.rendered
    rendered = f"<|user|>{asked}<|endoftext|><|bot|>{answer}<|endoftext|>"
    assert rendered in shown.printed("template")
    spans = re.findall(r"background:(#\w+);.*?>(.*?)</span>", shown.rich("mask", "text/html")[0])
    marked = "".join(html.unescape(text) for colour, text in spans if colour == "#ffd54f")
    if "�" not in marked:  # where every token is whole letters
        assert "".join(html.unescape(text) for _, text in spans) == rendered
        assert marked == f"{answer}<|endoftext|>"


def the_trainer_takes_its_steps(shown: Shown) -> None:
    [table] = shown.rich("trainer", "text/html")
    assert re.findall(r"<th>(\d+)</th>", table) == ["5", "10", "15", "20"]
    assert "learning_rate" in table


def memory_that_runs_out_halves_the_batch(shown: Shown) -> None:
    text = shown.printed("memory")
    assert "RuntimeError, out of memory: True" in text
    rows = re.findall(r"^(\d) rows x (\d) batches = (\d)$", text, re.MULTILINE)
    assert rows == [("8", "1", "8"), ("4", "2", "8"), ("2", "4", "8"), ("1", "8", "8")]


def the_loss_falls_and_is_drawn(shown: Shown) -> None:
    [(first, last)] = re.findall(r"training loss (\d+\.\d+) to (\d+\.\d+)", shown.printed("train"))
    assert float(last) < float(first) / 2
    [plot] = shown.rich("plot", "image/png")
    assert base64.b64decode(plot).startswith(b"\x89PNG")
    assert "model.safetensors" in shown.rich("save", "text/html")[0]
    assert "It passed its checks." in shown.printed("compare")


def the_history_is_what_was_said(shown: Shown, story: Story) -> None:
    before = shown.said("talk-before")
    assert tuple(before) == story.asked
    _, history = shown.printed("talk-before").split("conversation_history:\n")
    assert history.splitlines() == [
        line
        for asked, said in before.items()
        for line in (f"  user: {asked}", f"  assistant: {said}")
    ]
    prompt = shown.printed("context")
    assert all(text in prompt for pair in before.items() for text in pair)


def what_was_taught_is_said_after_training_and_not_before(shown: Shown, story: Story) -> None:
    asked = story.asked[1]
    assert shown.said("talk-before")[asked] != story.taught[asked]
    after = shown.said("chat-after")
    assert after.keys() == {story.hello, *story.taught}
    assert all(after.values())
    assert after[asked] == story.taught[asked]
    assert len(after.items() & story.taught.items()) >= 3  # other processors round differently
    assert shown.said("chat-yours")[story.drink]
