"""What each rule does to a text, and what it leaves alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dataset.dedup import dedup_key
from data.dataset.pii import mask_pii
from data.dataset.rules import RULES, apply_rules, clean_text, is_command
from data.dataset.samples import find_sample

WEBHOOK = "https://discord.com/api/webhooks/123456789012345678/" + "aB3_" * 17
CHANGED = [
    ("unusual letters", "\uff28\uff45\uff4c\uff4c\uff4f \uff11\uff12\uff13", "Hello 123"),
    (
        "unusual letters",
        "\uff76\uff80\uff76\uff85 \uff76\uff9e\uff77\uff9e \uff8a\uff9f\uff61",
        "カタカナ ガギ パ。",
    ),
    ("unusual letters", "𝓗𝓮𝓵𝓵𝓸 𝟙𝟚", "Hello 12"),
    ("unusual letters", "ofﬁce", "office"),
    ("unusual letters", "cafe\u0301", "café"),
    ("invisible characters", "a\u200bb\ufeff \u202ec", "ab c"),
    ("invisible characters", "a\u200d b", "a b"),
    ("white space", "  a \t b\u3000c\xa0d  ", "a b c d"),
    ("white space", "a  \r\n\r\n\n\n\nb ", "a\n\nb"),
    ("white space", "\u3164\u2800", ""),
    ("mentions", "Ask <@1> or <@!22>", "Ask [member] or [member]"),
    ("mentions", "<@&1> meet in <#2>", "[role] meet in [channel]"),
    ("mentions", "Hi @everyone and @here", "Hi everyone and everyone"),
    ("mentions", "<@1> <@2>, thanks", "thanks"),
    ("mentions", "<@1>\nthanks", "thanks"),
    ("mentions", "<@1>、ありがとう", "ありがとう"),
    ("mentions", "<@1>さん、ねえ@everyone見て", "[member]さん、ねえeveryone見て"),
    ("mentions", "<@1> is our admin", "[member] is our admin"),
    ("mentions", "<@1> :)", "[member] :)"),
    ("mentions", "<@1>", "[member]"),
    ("mentions", "Say </play song:12>", "Say /play song"),
    ("custom emoji", "Nice <:blob:1><a:wave_1:22>", "Nice :blob::wave_1:"),
    ("timestamps", "At <t:1718000000:R> or <t:-5>", "At [time] or [time]"),
    ("links", "See https://a.org/b?c=d#e.", "See [link]."),
    ("links", "(HTTP://a.org/wiki_(x)), <https://b.org>!", "([link]), [link]!"),
    ("links", "これhttps://a.orgです", "これ[link]です"),
    ("links", '[the docs](https://a.org) and [b](<http://b.org/(c)> "d")', "the docs and b"),
    ("links", "[https://a.org](https://b.org)", "[link]"),
    ("links", "join discord.gg/abc", "join [link]"),
    ("code", "```py\nprint(1)\n``` is it", "[code] is it"),
    ("code", "Use `ls -l` or ``a``", "Use ls -l or a"),
]
LEFT = [
    "… ① 10² x³ ™ ℃ № ½ ㋿ ㈱ ㅋㅋㅋ Ⅳ",
    "「はい」、そう。いい\uff01\uff08笑\uff09〜\uff1f",
    "👩‍💻 🏳️‍🌈 ❤️‍🔥 1️⃣ 🇩🇪 👍🏽 ☺️",
    "می‌خواهم क्‍ष",
    "**bold** _it_ ~~no~~ ||secret||\n> quote\n- one\n  - two\n# Title",
    "a < b > c <3 <t:x> <:x:> @ada a@b <@x>",
    "an `open mark, ``` and more",
    "<|endoftext|> <|user|>",
    "https:// is how it begins; [a](b)",
    ":wave: 10:30:20",
    "It's fine.\n\nReally.",
    "",
]


@pytest.mark.parametrize(("rule", "before", "after"), CHANGED)
def test_a_rule_changes_what_it_is_for(rule: str, before: str, after: str) -> None:
    assert clean_text(before) == after
    assert rule in {change.rule for change in apply_rules(before)}


@pytest.mark.parametrize("text", LEFT)
def test_what_has_a_meaning_stays(text: str) -> None:
    assert clean_text(text) == text.replace("\n  -", "\n -")


def test_a_webhooks_address_is_left_to_be_masked() -> None:
    for text in (WEBHOOK, f"<{WEBHOOK}>", f"[here]({WEBHOOK})"):
        masked, found = mask_pii(clean_text(text))
        assert found == {"webhook address": 1}
        assert "aB3_" not in masked


@pytest.mark.parametrize(
    "text",
    ["!play song", "/help", "?ban", ".ping", "$balance", "!Play", "!help\nplease", "/queue-next x"],
)
def test_commands(text: str) -> None:
    assert is_command(text)


@pytest.mark.parametrize(
    "text",
    [
        *("...", "?!", "!!", "?", "/", "!", ". then", "! no", "$5", ".5 of it", "$HOME"),
        *("/shrug", "/s", "/me waves", ".NET is good", ".exe", "/home/ada", "/r/cats"),
        *("!important!", "!すごい", "say !play"),
    ],
)
def test_no_commands(text: str) -> None:
    assert not is_command(text)


MARKS = (
    *("`", "``", "```", "[", "](", ")", "(", "]", "<", ">", "<@", "<@1>", "<:a:", "1>", "<t:1>"),
    *("https://", "discord.gg/", "a.org", "@everyone", ",", ":", "!", "#", "</a", ":1>", "|"),
    *("\n", "\r", "\t", " ", "\x00", "\x85", "\u3000", "\u200b", "\u200c", "\u200d", "\ufe0f"),
    *("e", "\u0301", "\uff9e", "\uff8a", "\uff28", "𝓗", "👩", "💻", "\ud800"),
)
pieces = st.lists(
    st.sampled_from(MARKS)
    | st.sampled_from([before for _, before, _ in CHANGED])
    | st.text(max_size=4),
    max_size=10,
).map("".join)


@given(pieces)
def test_cleaning_again_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.text("abc 12!?ß。いé", max_size=40))
def test_ordinary_text_keeps_all_but_its_space(text: str) -> None:
    assert clean_text(text) == " ".join(text.split())


@given(pieces)
def test_each_change_is_told_and_leads_to_the_next(text: str) -> None:
    told = list(apply_rules(text))
    assert [one.before for one in told[1:]] == [one.after for one in told[:-1]]
    assert all(one.before != one.after and one.rule in RULES for one in told)
    assert (clean_text(text) != text) <= bool(told)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Heyyyy, you!! 😀", "hey YOU", True),
        ("don't :wave:", "Dont", True),
        ("nice  👍🏽", "nice", True),
        ("good", "god", False),
        ("100", "1000", False),
        ("👍", "👎", False),
        ("की", "का", False),
        ("10:30:20", "10:40:20", False),
        ("?", "!", False),
    ],
)
def test_normal_forms(one: str, other: str, same: bool) -> None:
    assert (dedup_key(one) == dedup_key(other)) is same


def test_a_sample_begins_shortly_before_the_change_and_is_cut() -> None:
    shown = find_sample("mentions", ["no", "word " * 30 + "<@1> " + "word " * 60])
    assert shown is not None
    before, after = shown
    assert (before[0], before[-1], before[21:25]) == ("…", "…", "<@1>")
    assert after[21:29] == "[member]"
    assert max(map(len, shown)) <= 102


@pytest.mark.parametrize(
    "text",
    [
        "a  b ada@example.org",
        "a  b `ada`@example.org",
        "a  b ada\u200b@example.org",
        "``` ada@example.org ```  b",
        f"a  b {WEBHOOK}",
    ],
)
@pytest.mark.parametrize("rule", list(RULES))
def test_no_sample_of_a_text_with_a_secret(rule: str, text: str) -> None:
    assert find_sample(rule, [text]) is None


def test_the_insides_of_links_and_code_are_not_shown() -> None:
    text = "```key = hunter2```  https://me:hunter2@a.org/b?key=hunter2"
    for rule in ("code", "links", "white space"):
        assert "hunter2" not in "".join(find_sample(rule, [text]) or "")
    assert find_sample("private data", ["To ada@example.org!"]) == (
        "To •••••!",
        "To [e-mail address]!",
    )
