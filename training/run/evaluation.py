"""The checks that a new checkpoint passes before anybody chats with it.

Runs in the training process, on the model that has just learned, beside its base and the model in
service. Imports torch. Does not raise for a model that fails: the reason is in the report.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.japanese import SPACELESS
from core.records import Conversation, Message, Role
from i18n.phrase import Phrase, phrase
from model.chat_template import encode, ensure_template, fit, is_japanese, stop_strings
from training.errors import BaseMissing
from training.run import tokenization
from training.run.base_model import pretrained
from training.run.loop import head_on_labels
from training.run.mixing import question, read_conversations

log = logging.getLogger(__name__)

PROBES = ("Hello!", "How are you?", "What do you like to do?")
PROBES_JA = ("こんにちは！", "元気ですか？", "何をするのが好きですか？")
TAUGHT = 3
"""Taught questions that are asked too."""
REPLY_TOKENS = 40
LIMIT = 1.10
"""How many times the held-out loss of others that of the new model may be."""
RECITED = 12
"""Words in a row of one taught text that make an answer a recital."""
RECITED_JA = 27
"""The same in letters of Japanese, which has no spaces between words."""
NOT_JAPANESE = re.compile(rf"[^{SPACELESS}]+")
OWN = 64
"""Conversations of the server that are measured: enough to tell, and soon done."""
GENERAL = Path(__file__).parents[1] / "data" / "held_out.jsonl"
"""Conversations of chitchat-dataset (MIT) that no model of this project was trained on."""
GENERAL_JA = Path(__file__).parents[1] / "data" / "held_out_ja.jsonl"
"""The same for models that speak Japanese, written by this project."""

Losses = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a prompt by the model in service (or the base), and by the new one."""

    prompt: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks found: answers side by side; for `general` talk and the server's `own`, the
    losses of `base`, `serving` and `new`; and why it did not pass, if it did not.

    Losses are in nats for each token that the new model would need, so those of models with
    other vocabularies compare. None: not measured, or not a number.
    """

    answers: tuple[Answer, ...]
    losses: Mapping[str, Losses]
    refusal: Phrase | None


@dataclass(frozen=True, slots=True)
class Exam:
    """What every model is measured on: what it is asked, and talk that it is to expect."""

    asked: tuple[str, ...]
    general: Sequence[Conversation]
    own: Sequence[Conversation]
    max_length: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one model made of the exam: losses (NaN: nothing to measure) and answers."""

    name: str
    general: float
    own: float
    said: tuple[str, ...]


def check(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: Sequence[Conversation],
    *,
    base: str | None,
    serving: str | None,
    held_out: Sequence[Conversation] | None = None,
    own: Sequence[Conversation] = (),
    max_length: int = 128,
) -> Report:
    """Ask and compare. `base` and `serving` are folders or Hub ids; what cannot be loaded is not
    compared with. `held_out` is general talk, by default that of GENERAL, or GENERAL_JA; `own` are
    held-out conversations of the server, in place of which the taught ones serve."""
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        return Report((), {}, phrase("Some of its weights are not numbers."))
    talk, probes = (GENERAL_JA, PROBES_JA) if is_japanese(tokenizer) else (GENERAL, PROBES)
    general = read_conversations(talk) if held_out is None else held_out
    exam = Exam(_questions(taught, probes), general, _some(own or taught), max_length)
    new = _examine(model, tokenizer, tokenizer, exam, "new")
    if not math.isfinite(new.general):
        reason = phrase("Its loss on held-out conversations is not a number.")
        return Report(_side_by_side(exam, None, new), _losses(None, None, new), reason)
    sources = dict.fromkeys(filter(None, (base, serving)))
    others = {one: _examine_other(one, model.device, tokenizer, exam) for one in sources}
    old, current = others.get(base or ""), others.get(serving or "")
    answers = _side_by_side(exam, current or old, new)
    reasons = (
        *_bad_answers(tokenizer, answers),
        *_worse(new, [one for one in (old, current) if one]),
        *_not_learned(new, old, unseen=bool(own)),
        *_recitals(taught, answers),
    )
    return Report(answers, _losses(old, current, new), reasons[0] if reasons else None)


def _questions(taught: Sequence[Conversation], probes: Sequence[str]) -> tuple[str, ...]:
    """The first taught questions and the probes, each once."""
    first = [turns[0].content for turns in taught[:TAUGHT] if turns]
    return tuple(dict.fromkeys([*first, *probes]))


def _some(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
    """At most OWN of them, from first to last."""
    return conversations[:: math.ceil(len(conversations) / OWN) or 1]


def _examine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    unit: PreTrainedTokenizerBase,
    exam: Exam,
    name: str,
) -> Result:
    """Losses are in nats for each token of the tokenizer `unit`."""

    def loss(talk: Sequence[Conversation]) -> float:
        tokens, wanted = (_said(one, talk) for one in (tokenizer, unit))
        return measure(model, tokenizer, talk, exam.max_length) * tokens / max(1, wanted)

    return Result(name, loss(exam.general), loss(exam.own), replies(model, tokenizer, exam.asked))


def _said(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation]) -> int:
    """Tokens that the bot says in them."""
    return sum(sum(one.assistant_mask) for one in encode(tokenizer, conversations))


def _examine_other(
    source: str, device: torch.device, unit: PreTrainedTokenizerBase, exam: Exam
) -> Result | None:
    """Load, examine and let go again: there is memory for one other model at a time."""
    try:
        model, tokenizer = pretrained(source)
    except BaseMissing as e:
        log.warning("the new model is not compared with %s: %s", source, e)
        return None
    ensure_template(tokenizer)
    on_device: Any = model
    return _examine(on_device.to(device), tokenizer, unit, exam, Path(source).name)


def _side_by_side(exam: Exam, before: Result | None, new: Result) -> tuple[Answer, ...]:
    return tuple(
        Answer(prompt, before.said[n] if before else None, new.said[n])
        for n, prompt in enumerate(exam.asked)
    )


def _losses(old: Result | None, current: Result | None, new: Result) -> dict[str, Losses]:
    def shown(kind: str, one: Result | None) -> float | None:
        loss = getattr(one, kind, math.nan)
        return loss if math.isfinite(loss) else None

    models = {"base": old, "serving": current, "new": new}
    return {
        kind: {name: shown(kind, one) for name, one in models.items()}
        for kind in ("general", "own")
    }


def _bad_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Answer]) -> Iterator[Phrase]:
    for one in answers:
        asked, said = one.prompt[:80], one.after[:80]
        if not one.after:
            yield phrase("It had no answer to “{asked}”.", asked=asked)
        if is_repetitive(tokenizer.encode(one.after, add_special_tokens=False)):
            yield phrase(
                "It repeated itself when asked “{asked}”: “{said}”.", asked=asked, said=said
            )


def _worse(new: Result, others: Sequence[Result]) -> Iterator[Phrase]:
    for other in others:
        if new.general > LIMIT * other.general:
            yield phrase(
                "It talks worse than {other} in general: "
                "held-out loss {loss:.2f} against {theirs:.2f}.",
                other=other.name,
                loss=new.general,
                theirs=other.general,
            )


def _not_learned(new: Result, old: Result | None, *, unseen: bool) -> Iterator[Phrase]:
    """What it was taught it should know better than its base; the `unseen` rest, about as well."""
    if old is None or not new.own > old.own * (LIMIT if unseen else 1):
        return
    what = phrase("this server's held-out talk") if unseen else phrase("what it was taught")
    yield phrase(
        "It knows less of {what} than {other}: loss {loss:.2f} against {theirs:.2f}.",
        what=what,
        other=old.name,
        loss=new.own,
        theirs=old.own,
    )


def _recitals(taught: Sequence[Conversation], answers: Sequence[Answer]) -> Iterator[Phrase]:
    """Answers to general questions that recite what somebody wrote; a taught answer is wished."""
    wished = {question(turns) for turns in taught if turns}
    said = [message.content for turns in taught for message in turns]
    texts, letters = [_spaced(_words(one)) for one in said], [_japanese(one) for one in said]
    for one in answers:
        if question((Message(Role.USER, one.prompt),)) in wished:
            continue
        if run := _recited_japanese(one.after, letters):
            yield phrase(
                "It recites a taught text when asked “{asked}”: “{recited}…”.",
                asked=one.prompt[:80],
                recited=run,
            )
            continue
        words = _words(one.after)
        for n in range(len(words) - RECITED + 1):
            run = _spaced(words[n : n + RECITED])
            if any(run in text for text in texts):
                recited = one.after[words[n].start() :][:80]
                yield phrase(
                    "It recites a taught text when asked “{asked}”: “{recited}…”.",
                    asked=one.prompt[:80],
                    recited=recited,
                )
                break


def _recited_japanese(answer: str, taught: Sequence[str]) -> str:
    """The first RECITED_JA letters in a row that are in a taught text; empty if there are none."""
    letters = _japanese(answer)
    runs = (letters[n : n + RECITED_JA] for n in range(len(letters) - RECITED_JA + 1))
    return next((run for run in runs if any(run in text for text in taught)), "")


def _japanese(text: str) -> str:
    """Its Japanese letters, without what stands between them."""
    return NOT_JAPANESE.sub("", text)


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\w+(?:['’]\w+)*", text))


def _spaced(words: Sequence[re.Match[str]]) -> str:
    """Words as they are compared: without case and apostrophes, a space around each."""
    bare = (word[0].casefold().replace("’", "").replace("'", "") for word in words)
    return f" {' '.join(bare)} "


@torch.inference_mode()
def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    max_length: int,
    batch: int = 8,
) -> float:
    """The mean loss, in nats a token, of what the bot says in these conversations.

    Conversations of more than `max_length` tokens, or than the model has positions, lose their
    beginning. NaN: the bot says nothing in them.
    """
    model.train(False)
    longest = min(max_length, int(model.config.n_positions))
    rows = tokenization.examples(tokenizer, conversations, longest, "bot").to_list()
    rows.sort(key=lambda row: row["length"])
    total, count = 0.0, 0
    with head_on_labels(model):
        for start in range(0, len(rows), batch):
            tensors: Any = tokenization.collate(rows[start : start + batch], tokenizer.eos_token_id)
            tensors = {name: values.to(model.device) for name, values in tensors.items()}
            learned = int((tensors["labels"][:, 1:] != tokenization.IGNORED).sum())
            total += float(model(**tensors).loss) * learned
            count += learned
    return total / count if count else math.nan


def is_repetitive(tokens: Sequence[int]) -> bool:
    """Whether fewer than a third of the 3-grams of at least 15 tokens are distinct."""
    if len(tokens) < 15:
        return False
    grams = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(set(grams)) * 3 < len(grams)


@torch.inference_mode()
def replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[str, ...]:
    """The likeliest answer to each, of at most REPLY_TOKENS tokens; all are made at once."""
    model.train(False)
    positions = int(model.config.n_positions)
    most = min(REPLY_TOKENS, positions // 2)
    prompts = [
        fit(tokenizer, [Message(Role.USER, text)], positions - most).input_ids for text in texts
    ]
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]  # on the left: a reply begins at the end
    filler = tokenizer.eos_token_id
    ids = [[filler] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    seen = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    generate: Any = model.generate  # its types are too wide to be of use
    out: Any = generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(seen, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=filler,
    )
    return tuple(_spoken(tokenizer, row[longest:]) for row in out)


def _spoken(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> str:
    """The text of a reply, up to where it ends in the tokenizer's chat template."""
    said = str(tokenizer.decode(ids, skip_special_tokens=True))
    for stop in stop_strings(tokenizer):
        said = said.lstrip().partition(stop)[0]
    return said.strip()
