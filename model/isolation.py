"""Runs a stranger's chat template and tokenizer in a child process with limits of time and memory.

A template is a program, and a tokenizer may have regular expressions; either may run for ever, take
all memory, or end its process. One child for each model, started when it is first needed. It speaks
JSON lines, and ends with its stdin, or when a request takes too long.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import TemplateError

from core.limits import lower_limit
from core.subprocesses import LAUNCH_OPTIONS, child_environment
from i18n.phrase import Phrase, phrase
from model.errors import RunawayModel
from model.tokenizer import Tokenizer

TIME_LIMIT_S, START_LIMIT_S = 5.0, 60.0
"""Seconds for one text, which ordinarily takes milliseconds, and for the child to start."""
MAX_CHILD_BYTES = 2 << 30
"""Address space of the child."""
MAX_TEXT_CHARS = 1 << 20
"""Length of a rendered conversation; the longest ordinary one has a fiftieth of that."""


def runaway_message(who: str) -> Phrase:
    """Of a model that raised RunawayModel."""
    return phrase(
        "{who} is set aside: its chat template or tokenizer takes too much time or memory, or "
        "crashes. `/model use` tries it again.",
        who=who,
    )


class IsolatedTokenizer(Tokenizer):
    """A Tokenizer that renders and encodes in a child; it decodes here.

    Raises:
        RunawayModel: on any use, the child took too much time or memory, or ended.
    """

    def __init__(
        self, file: Path, *, special_tokens: Mapping[str, str], chat_template: str
    ) -> None:
        super().__init__(file, special_tokens=special_tokens, chat_template=chat_template)
        self._setup = json.dumps([str(file), dict(special_tokens), chat_template, TIME_LIMIT_S])
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    @property
    def backend_tokenizer(self) -> Any:
        return _RemoteBackend(self)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
    ) -> str:
        return str(self.ask("render", messages, add_generation_prompt))

    def clear_cache(self) -> None:
        """Also end the child, which has read the texts; the next one starts another."""
        super().clear_cache()
        with self._lock:
            if self._child is not None:
                self._end_child()

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Have the child execute an operation."""
        with self._lock:
            line = self._exchange(json.dumps([operation, *arguments]))
            answer: dict[str, Any] = json.loads(line) if line else {}
            if "result" not in answer and "refusal" not in answer:
                self._end_child()
                raise RunawayModel(operation)
        if "refusal" in answer:
            raise TemplateError(answer["refusal"])
        return answer["result"]

    def _exchange(self, request: str) -> str:
        """The child's answer to a line; empty if there was none in time."""
        child = self._child
        if child is None:
            child = self._start_child()
            if not _say(child, self._setup):
                return ""
        return _say(child, request)

    def _start_child(self) -> subprocess.Popen[str]:
        limits = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "model.isolation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a panic of the tokenizer prints there
            text=True,
            encoding="utf-8",
            env=child_environment() | limits,
            **LAUNCH_OPTIONS,
        )
        self._finalizer = weakref.finalize(self, _end, child)
        return child

    def _end_child(self) -> None:
        self._finalizer()
        self._child = None


class _RemoteBackend:
    """What `model.chat_template` uses of a fast tokenizer, with its heavy parts in the child."""

    def __init__(self, tokenizer: IsolatedTokenizer) -> None:
        self._tokenizer = tokenizer
        self._fast = tokenizer._fast

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Any:
        ids, offsets = self._tokenizer.ask("encode", text, add_special_tokens)
        return SimpleNamespace(ids=ids, offsets=[tuple(one) for one in offsets])

    @property
    def normalizer(self) -> Any:
        if self._fast.normalizer is None:
            return None
        return SimpleNamespace(normalize_str=lambda text: self._tokenizer.ask("normalize", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)


def _say(child: subprocess.Popen[str], line: str) -> str:
    """Send a line and return the answer; empty if the child has ended."""
    assert child.stdin is not None  # pipes were asked for
    assert child.stdout is not None
    try:
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        return child.stdout.readline()
    except OSError:
        return ""


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    with child, contextlib.suppress(OSError):
        pass  # closes the pipes and waits


# --- in the child --------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until stdin ends."""
    lower_limit("AS", MAX_CHILD_BYTES)
    faulthandler.dump_traceback_later(START_LIMIT_S, exit=True)
    file, special_tokens, template, limit_s = json.loads(sys.stdin.readline())
    tokenizer = Tokenizer(Path(file), special_tokens=special_tokens, chat_template=template)
    _write({"result": "ready"})
    faulthandler.cancel_dump_traceback_later()
    for line in sys.stdin:
        # ends this process whatever it is stuck in, also when its parent is gone
        faulthandler.dump_traceback_later(limit_s, exit=True)
        _write(_answer(tokenizer, *json.loads(line)))
        faulthandler.cancel_dump_traceback_later()


def _write(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def _answer(tokenizer: Tokenizer, operation: str, *arguments: Any) -> dict[str, Any]:
    fast = tokenizer.backend_tokenizer
    match operation, arguments:
        case "encode", (text, add_special_tokens):
            encoding = fast.encode(text, add_special_tokens=add_special_tokens)
            return {"result": [encoding.ids, encoding.offsets]}
        case "normalize", (text,):
            return {"result": fast.normalizer.normalize_str(text)}
        case _, (messages, cue):
            try:
                text = tokenizer.render(messages, add_generation_prompt=cue)
            except TemplateError as e:
                return {} if isinstance(e.__cause__, MemoryError) else {"refusal": str(e)}
            return {"result": text} if len(text) <= MAX_TEXT_CHARS else {}
    raise AssertionError(operation)


if __name__ == "__main__":
    main()
