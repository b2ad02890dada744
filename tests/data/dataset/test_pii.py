"""What is masked, and, as important, what is not. Every secret here is made up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.dataset.pii import PII_KINDS, mask_pii

TOKEN = "MTA4" + "xYz1" * 5 + ".Gh3kLm." + "aB3_" * 9
SECRETS = [
    ("e-mail address", "ada@example.org"),
    ("e-mail address", "ada.b+list@mail.exämple.co.uk"),
    ("e-mail address", "ada\uff20example.org"),
    ("phone number", "+49 170 1234567"),
    ("phone number", "03-1234-5678"),
    ("phone number", "03\uff0d1234\u30fc5678"),
    ("phone number", "03\uff081234\uff095678"),
    ("phone number", "0466-22-1234"),
    ("phone number", "045-123-4567"),
    ("phone number", "0466(22)1234"),
    ("phone number", "(03) 1234 5678"),
    ("phone number", "09012345678"),
    ("phone number", "+14155552671"),
    ("phone number", "+44 (0)20 7946 0958"),
    ("phone number", "0049 170 1234567"),
    ("phone number", "(415) 555-2671"),
    ("phone number", "415-555-2671"),
    ("phone number", "1-415-555-2671"),
    ("phone number", "0170 1234567"),
    ("phone number", "030/12345678"),
    ("phone number", "06 12 34 56 78"),
    ("Discord token", TOKEN),
    ("Discord token", "mfa." + "aB3_" * 21),
    ("webhook address", f"https://discord.com/api/webhooks/123456789012345678/{'aB3_' * 17}"),
    (
        "webhook address",
        f"https://ptb.discord.com/api/v10/webhooks/123456789012345678/{'x-9' * 22}",
    ),
    ("webhook address", "https://hooks.slack.com/services/" + "T0123/B0123/abcdef0123"),
    (
        "webhook address",
        f"HTTPS://canary.Discord.com/api/webhooks/123456789012345678/{'aB3_' * 17}",
    ),
    ("IP address", "93.184.216.34"),
    ("IP address", "192.168.178.20"),
    ("IP address", "2001:db8:85a3::8a2e:370:7334"),
    ("IP address", "2606:2800:220:1:248:1893:25c8:1946"),
    ("card number", "4111 1111 1111 1111"),
    ("card number", "5555555555554444"),
    ("card number", "3782-822463-10005"),
    ("secret key", "sk-" + "proj-aB3d" * 4),
    ("secret key", "ghp" + "_" + "aB3d" * 9),
    ("secret key", "hf" + "_" + "aB3d" * 9),
    ("secret key", "AKIA" + "ABCD" * 4),
    ("secret key", "npm" + "_" + "aB3d" * 9),
    ("secret key", "123456789" + ":AA" + "aB3" * 11),
    ("secret key", "AIza" + "aB3_d" * 7),
    ("secret key", "xoxb-" + "123456789012-abcdef"),
    ("secret key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dGhpc19pc19ub3Q"),
    ("secret key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----"),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize(
    "around", ["{}", "It is {}.", "({})", "ask <{}>, please", "a: {}\nb: no", "これは{}です"]
)
def test_a_secret_becomes_its_kind(kind: str, secret: str, around: str) -> None:
    assert mask_pii(around.format(secret)) == (around.format(f"[{kind}]"), Counter([kind]))


@pytest.mark.parametrize("lead", ["call me at ", "phone: ", "my mobile number is ", "Tel. "])
def test_a_number_after_a_word_for_phones(lead: str) -> None:
    assert mask_pii(f"{lead}4155552671!") == (f"{lead}[phone number]!", Counter(["phone number"]))


@pytest.mark.parametrize(
    "text",
    [
        "10 20 30",
        "10 20 30 40 50 60 70 80 90",
        "01 02 03 04 05 06",
        "01 02 03 04 05",
        "40 50 60 70 80 90 10 20",
        "In 1989, 1990 and 1991 it cost 1,234,567.89 EUR.",
        "from 2024-2025, since 2025-06-01 12:30:45",
        "01/02/2025 10:30, 1.2.2025, 01-02-2025",
        "It is 09:30 or 21:15:00.",
        "1.000.000,00 or 1 000 000 000 or $100 000 000",
        "3.14159265358979",
        "+1000000000 social credit",
        "+10 XP, +5000 points, 5 + 49 170 = 49 175",
        "A user's id is 123456789012345678, mine 1234567890123456789.",
        "<@123456789012345678> in <#987654321098765432> <:wave:123456789012345678>",
        "https://discord.com/channels/123456789012345678/123456789012345678",
        "unix time 1718000000 and 1718000000000",
        "version 10.0.19041.1, v1.2.3, 1.2.3.4, Version 12.10.3.44",
        "localhost is 127.0.0.1, also ::1, and 0.0.0.0 is everything",
        "300.400.500.600 and 1.2.3.4.5",
        "std::vector<int> a::b::c dead::beef 00:1a:2b:3c:4d:5e",
        "4111 1111 1111 1112 has a wrong check digit",
        "ISBN 978-3-16-148410-0",
        "550e8400-e29b-41d4-a716-446655440000",
        "@everyone look @ada, meet me @ 10 or @home.org",
        "npm i react@18.2.0",
        "git clone git@github.com:me/it.git",
        "sk-learn-is-a-library-that-I-like",
        "The iPhone 15 costs 1200, the phone has 128 GB.",
        "phone: 12345",
        "0123-4-5678, 01234-12-5678, f=01(23)4567, 0123(456)7890",
        "第3回は2026ー11ー27、10:30ー11:00、1,000円です",
        "0123456789 and 00123456789",
        "No. 1234567",
        "a commit: 0123456789abcdef0123456789abcdef01234567",
        "tel aviv 2023",
        "score 100-200-300, odds 3/1, 24/7, 0.5",
        "5 000 000 0000",
        "𝟙𝟚𝟛 ٠١٢٣٤٥٦٧٨٩",
        "[e-mail address] [phone number] 12",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask_pii(text) == (text, Counter())


def test_all_of_several_are_counted() -> None:
    text, found = mask_pii("Ada: ada@example.org, +49 170 1234567; Ben: ben@example.org")
    assert text == "Ada: [e-mail address], [phone number]; Ben: [e-mail address]"
    assert found == {"e-mail address": 2, "phone number": 1}


def test_what_stands_beside_a_secret_is_found_too() -> None:
    text, found = mask_pii("+491701234567+491701234568")
    assert (text, found.total()) == ("[phone number][phone number]", 2)


def test_a_long_text_is_no_trouble() -> None:
    for text in (
        "a." * 50_000 + "@",
        "1" * 100_000,
        "+1 " * 30_000,
        "1:" * 50_000,
        "@a." * 30_000,
        "1ー" * 50_000,
    ):
        assert mask_pii(text)[1].total() == 0


pieces = st.lists(
    st.sampled_from([secret for _, secret in SECRETS])
    | st.text("0123456789 .:@+-/()abf", max_size=12)
    | st.text(max_size=6)
    | st.sampled_from([" ", "phone ", "[", "]"]),
    max_size=8,
).map("".join)


@given(pieces)
def test_nothing_is_left_to_mask_and_every_mask_is_counted(text: str) -> None:
    masked, found = mask_pii(text)
    assert mask_pii(masked) == (masked, Counter())
    for kind in {kind.name for kind in PII_KINDS}:
        assert masked.count(f"[{kind}]") >= found[kind]
    assert (masked == text) == (not found)


@given(st.text(st.characters(exclude_categories=["Nd"], exclude_characters="@"), max_size=80))
def test_text_without_a_digit_or_an_at_stays(text: str) -> None:
    assert mask_pii(text) == (text, Counter())


@given(st.integers(10**16, 10**20 - 1))
def test_ids_of_discord_stay(number: int) -> None:
    assert mask_pii(f"id {number}, <@{number}>") == (f"id {number}, <@{number}>", Counter())
