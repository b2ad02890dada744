"""What must hold whatever went wrong: read from the home that is left, and from the ledger.

`python -m tests.chaos.invariants HOME LEDGER`, where the home's disk can be seen. Each method names
one promise. Knows SQL and files, not how the bot keeps the promise.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from bot.settings import Paths
from tests.chaos.ledger import Ledger
from training.checkpoints import verify

HARMLESS = {"parse": []}
FINAL = {"promoted", "rejected", "failed", "cancelled", "interrupted"}


class Remains:
    """What is left of some lives in one home."""

    def __init__(self, home: Path, ledger: Ledger) -> None:
        self._home = home
        self._ledger = ledger

    def rows(self, sql: str) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(Paths(self._home).database)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(sql).fetchall()

    def check(self) -> None:
        self.the_database_is_whole()
        self.nothing_is_doubled()
        self.what_was_said_in_calm_is_recorded()
        self.everybody_got_an_answer()
        self.nobody_was_pinged()
        self.servers_know_nothing_of_each_other()
        self.active_models_are_whole()
        self.no_job_is_under_way()
        self.damage_was_noticed()
        self.nothing_escaped_or_stayed()

    def the_database_is_whole(self) -> None:
        [[verdict]] = self.rows("PRAGMA integrity_check")
        assert verdict == "ok"

    def nothing_is_doubled(self) -> None:
        asked = Counter(row["asked_id"] for row in self.rows("SELECT asked_id FROM replies"))
        assert not {one: count for one, count in asked.items() if count > 1}
        answered = Counter(line["asked"] for line in self._ledger.lines("answered"))
        assert not {one: count for one, count in answered.items() if count > 1}, answered

    def _calm(self) -> list[dict[str, Any]]:
        """What was said, and stayed, while nothing was wrong with the disk or Discord, in lives or
        parts of them that came to a quiet end."""
        calm: list[dict[str, Any]] = []
        since: list[dict[str, Any]] = []
        wrong = False
        for line in self._ledger.lines("said", "fault", "calm", "killed"):
            match line["event"]:
                case "said":
                    since.append(line)
                case "fault":
                    wrong = True
                case "calm":
                    calm += [] if wrong else since
                    since, wrong = [], False
                case "killed":
                    since, wrong = [], False
        taken_back = {line["id"] for line in self._ledger.lines("taken back")}
        return [line for line in calm if line["id"] not in taken_back]

    def what_was_said_in_calm_is_recorded(self) -> None:
        known = {row["discord_id"] for row in self.rows("SELECT discord_id FROM messages")}
        said = self._calm()
        assert said, "the script left no calm"
        assert not [line for line in said if line["text"].strip() and line["id"] not in known]

    def everybody_got_an_answer(self) -> None:
        answered = self._answered()
        open_ = [
            line
            for line in self._calm()
            if line["server"] >= 0 and line["text"].strip() and line["id"] not in answered
        ]
        assert not open_, open_

    def _answered(self) -> set[int]:
        """The messages with a reply, and those that share the reply to the next one."""
        answered = {line["asked"] for line in self._ledger.lines("answered")}
        merged = {line["id"] for line in self._ledger.lines("merged")}
        following: dict[int, int] = {}
        for line in reversed(self._ledger.lines("said")):
            one, channel = line["id"], line["channel"]
            if one in merged and following.get(channel) in answered:
                answered.add(one)
            following[channel] = one
        return answered

    def nobody_was_pinged(self) -> None:
        sent = self._ledger.lines("sent")
        assert sent
        for line in sent:
            pings = line["pings"]
            assert pings is not None, line
            assert not pings.get("parse"), line
            assert not pings.get("users"), line
            assert not pings.get("roles"), line
            assert not pings.get("replied_user"), line

    def servers_know_nothing_of_each_other(self) -> None:
        places = {row["channel_id"]: row["guild_id"] for row in self.rows("SELECT * FROM channels")}
        marks = {
            row["scope"]: row["user"].split()[0]
            for row in self.rows("SELECT scope, user FROM examples")
        }
        taught = {
            (row["scope"], row["user"].split()[0], row["bot"].split()[0])
            for row in self.rows("SELECT scope, user, bot FROM examples")
        }
        assert taught == {(scope, mark, mark) for scope, mark in marks.items()}
        for job in self.rows("SELECT scope, directory FROM jobs"):
            data = (Path(job["directory"]) / "dataset.jsonl").read_text(encoding="utf-8")
            others = {mark for scope, mark in marks.items() if scope != job["scope"]}
            assert not [mark for mark in others if f'"{mark} ' in data]
        where = {
            row["discord_id"]: row["channel_id"]
            for row in self.rows("SELECT discord_id, channel_id FROM messages")
        }
        for reply in self.rows("SELECT * FROM replies"):
            seen = {where[one] for one in json.loads(reply["seen"]) if one in where}
            assert seen <= {reply["channel_id"]}
            assert places.get(reply["channel_id"], reply["scope"]) == reply["scope"]
            source = Path(reply["source"])
            if Paths(self._home).checkpoints in source.parents:
                assert source.parent.name == str(reply["scope"])

    def active_models_are_whole(self) -> None:
        active = self.rows("SELECT scope, name FROM activations GROUP BY scope HAVING max(id)")
        folders = [
            Paths(self._home).checkpoints / str(row["scope"]) / row["name"]
            for row in active
            if row["name"] not in ("small", "tiny")
        ]
        assert folders, "nothing was learned"
        for folder in folders:
            verify(folder)

    def no_job_is_under_way(self) -> None:
        states = [row["state"] for row in self.rows("SELECT state FROM jobs")]
        assert states
        assert set(states) <= FINAL

    def damage_was_noticed(self) -> None:
        [told] = self._ledger.lines("asked for damaged")
        assert "damaged" in told["told"], told

    def nothing_escaped_or_stayed(self) -> None:
        assert self._ledger.lines("escaped") == []
        *_, end = self._ledger.lines("ended")
        assert [one for one in end["left"] if "resource_tracker" not in one] == [], end
        *_, levels = self._ledger.lines("levels")
        before, after = levels["before"], levels["after"]
        assert after["children"] <= before["children"]
        assert after["files"] <= before["files"] + 2, levels
        assert after["mb"] <= before["mb"] + 100, levels


if __name__ == "__main__":
    Remains(Path(sys.argv[1]), Ledger(Path(sys.argv[2]))).check()
