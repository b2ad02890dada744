"""The sets of invented facts in this folder, by group and size."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from core.records import Pair

FOLDER = Path(__file__).parent
NEAR = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """A taught pair; `also` is a second wording a teacher might give, `unseen` wordings are never
    taught, and to the `near` misses the answer would be wrong."""

    question: str
    answer: str
    also: str
    unseen: tuple[str, ...]
    near: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactSet:
    """What one server teaches; `talk` is small talk to ask within: a message and its reply each."""

    name: str
    facts: tuple[Fact, ...]
    talk: tuple[tuple[str, str], ...]

    def pairs(self, *, also: bool) -> list[Pair]:
        """What is taught; `also`: each fact in its second wording, too."""
        taught = [Pair(one.question, one.answer) for one in self.facts]
        return taught + [Pair(one.also, one.answer) for one in self.facts if also]


def sets_of(group: str, size: int, language: str = "en") -> list[FactSet]:
    """Three sets of up to 10 facts, or one: of all files (up to 50), or made from `people`. The
    groups are `tune` and `report`. In Japanese there is one, of up to 10."""
    if language == "ja":
        japanese = read_set(f"{group}_ja")
        if size > len(japanese.facts):
            raise ValueError(f"there are {len(japanese.facts)} Japanese facts, not {size}")
        return [replace(japanese, facts=japanese.facts[:size])]
    small = [read_set(f"{group}_{letter}") for letter in "abc"]
    if size <= 10:
        return [replace(one, facts=one.facts[:size]) for one in small]
    if size > 50:
        return [replace(small[0], name="people", facts=people(group, size))]
    joined = [fact for one in (*small, read_set(f"{group}_more")) for fact in one.facts]
    return [replace(small[0], name="all", facts=tuple(joined[:size]))]


def general_messages(language: str = "en") -> list[str]:
    """Messages that must never get a taught answer."""
    if language == "ja":
        return (FOLDER.parent / "talk_messages" / "ja.txt").read_text(encoding="utf-8").splitlines()
    messages: list[str] = _read("general")
    return messages


def everyday_messages(language: str = "en") -> list[str]:
    """Messages of everyday talk on Discord, written for this and never trained on."""
    return (FOLDER / f"everyday.{language}.txt").read_text(encoding="utf-8").splitlines()


def careless(text: str) -> str:
    """As people type in a hurry: in lower case, without marks."""
    return re.sub(r"[^\w\s]", "", text.lower())


def read_set(name: str) -> FactSet:
    fields = _read(name)
    facts = (
        Fact(f["question"], f["answer"], f["also"], tuple(f["unseen"]), tuple(f["near"]))
        for f in fields["facts"]
    )
    talk = ((message, reply) for message, reply in fields["talk"])
    return FactSet(fields["name"], tuple(facts), tuple(talk))


def people(group: str, count: int) -> tuple[Fact, ...]:
    """Up to 10,600 facts, many of which differ in one name only: the first 200 have a first name,
    the others a surname too."""
    words = _read("people")
    names, strangers = words[group]["names"], words["strangers"]
    surnames = ("", *strangers, *names)
    facts = (
        _about(f"{first} {last}".strip(), number, attribute, strangers, words[group]["near"])
        for last in surnames
        for number, first in enumerate(names)
        for attribute in words[group]["attributes"]
    )
    return tuple(islice(facts, count))


def _about(
    name: str, number: int, attribute: dict[str, Any], strangers: list[str], near: list[str]
) -> Fact:
    """The near misses ask the same about strangers, and something else about the same person."""
    question, values = attribute["question"], attribute["values"]
    others = [strangers[(number + n) % len(strangers)] for n in range(NEAR - 1)]
    return Fact(
        question.format(name=name),
        attribute["answer"].format(name=name, value=values[number * 3 % len(values)]),
        attribute["also"].format(name=name),
        tuple(wording.format(name=name) for wording in attribute["unseen"]),
        (
            *(question.format(name=other) for other in others),
            near[number % len(near)].format(name=name),
        ),
    )


def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
