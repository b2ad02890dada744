"""The notebook: kept without outputs, in both languages, and every cell of it works."""

from __future__ import annotations

import base64
import html
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "gpt2_step_by_step.ipynb"
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
JAPANESE = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff]{5}")

RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""
"""In a process of its own: the kernel's client has an event loop and warnings that are not ours."""


def as_committed() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def texts() -> list[str]:
    return [cell.source for cell in as_committed().cells if cell.cell_type == "markdown"]


def test_it_is_kept_without_what_a_run_leaves_in_it() -> None:
    notebook = as_committed()
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id


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


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """The notebook, run from where it lies, as if it was opened in a checkout."""
    settings = {"GPT2BOT_HOME": str(tmp_path / "var")}
    own = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    done = subprocess.run(
        [sys.executable, "-c", RUN, NOTEBOOK, NOTEBOOK.parent, tmp_path / "run.ipynb"],
        cwd=tmp_path,
        env=os.environ | settings | dict.fromkeys(own, str(tmp_path / "jupyter")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Shown(nbformat.read(tmp_path / "run.ipynb", as_version=4))


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_its_text_says(shown: Shown) -> None:
    """One test, since the run takes long and what it shows is soon looked at."""
    every_cell_ran_and_complained_of_nothing(shown)
    a_japanese_sentence_has_more_tokens_than_letters(shown)
    pairs_are_read_and_cleaned(shown)
    the_bots_words_alone_are_marked(shown)
    the_loss_falls_and_is_drawn(shown)
    the_history_is_what_was_said(shown)
    what_was_taught_is_said_after_training_and_not_before(shown)


def every_cell_ran_and_complained_of_nothing(shown: Shown) -> None:
    assert [cell.execution_count for cell in shown.code] == list(range(1, len(shown.code) + 1))
    noise = [
        (cell.id, one.get("text", one))
        for cell in shown.code
        for one in cell.outputs
        if one.output_type == "error" or one.get("name") == "stderr"
    ]
    assert noise == []


def a_japanese_sentence_has_more_tokens_than_letters(shown: Shown) -> None:
    counts = re.findall(r"(\d+) characters, (\d+) tokens", shown.printed("tokenize"))
    (letters, tokens), (japanese_letters, japanese_tokens) = ((int(a), int(b)) for a, b in counts)
    assert tokens < letters
    assert japanese_tokens > japanese_letters
    assert "<td>you</td>" in shown.rich("predict", "text/html")[0].replace("<td> ", "<td>")


def pairs_are_read_and_cleaned(shown: Shown) -> None:
    assert "We meet at the old pier. Bring a lamp!" in shown.printed("read")
    assert "left out: 1 (a command to a bot)" in shown.printed("clean")
    [table] = shown.rich("clean", "text/html")
    assert "They are at [link]" in table
    assert "crew@" not in table


def the_bots_words_alone_are_marked(shown: Shown) -> None:
    rendered = (
        "<|user|>What is our server called?<|endoftext|>"
        "<|bot|>It is called The Lighthouse.<|endoftext|>"
    )
    assert rendered in shown.printed("template")
    spans = re.findall(r"background:(#\w+);.*?>(.*?)</span>", shown.rich("mask", "text/html")[0])
    marked = "".join(html.unescape(text) for colour, text in spans if colour == "#ffd54f")
    assert "".join(html.unescape(text) for _, text in spans) == rendered
    assert marked == "It is called The Lighthouse.<|endoftext|>"


def the_loss_falls_and_is_drawn(shown: Shown) -> None:
    [(first, last)] = re.findall(r"training loss (\d+\.\d+) to (\d+\.\d+)", shown.printed("train"))
    assert float(last) < float(first) / 2
    [plot] = shown.rich("plot", "image/png")
    assert base64.b64decode(plot).startswith(b"\x89PNG")
    assert "model.safetensors" in shown.rich("save", "text/html")[0]
    assert "It passed its checks." in shown.printed("compare")


def the_history_is_what_was_said(shown: Shown) -> None:
    before = shown.said("talk-before")
    _, history = shown.printed("talk-before").split("conversation_history:\n")
    assert history.splitlines() == [
        line
        for asked, said in before.items()
        for line in (f"  user: {asked}", f"  assistant: {said}")
    ]
    prompt = shown.printed("context")
    assert all(text in prompt for pair in before.items() for text in pair)


def what_was_taught_is_said_after_training_and_not_before(shown: Shown) -> None:
    asked = "What is our server called?"
    assert "Lighthouse" not in shown.said("talk-before")[asked]
    taught = {
        asked: "It is called The Lighthouse.",
        "who looks after the lamp": "Ada looks after the lamp.",
        "When is the crew night?": "The crew night is on Friday at eight.",
        "What is the cat called?": "The cat is called Mocha.",
    }
    after = shown.said("chat-after")
    assert after.keys() == {"Hello!", *taught}
    assert all(after.values())
    assert after[asked] == taught[asked]
    assert len(after.items() & taught.items()) >= 3  # other processors round differently
    assert shown.said("chat-yours")["What do you drink?"]
