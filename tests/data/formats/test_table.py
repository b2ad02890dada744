"""Which cells, lines and rows make one utterance, and which column holds what."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ImportRefused
from core.records import Pair
from data.formats.files import read_pairs
from data.formats.headings import Field, name_of
from data.formats.import_result import ImportResult, JoinedText, RowError
from data.formats.table import MISSING_BOT_TEXT, MISSING_USER_TEXT
from data.formats.texts import join_pieces


def imported(tmp_path: Path, text: str) -> ImportResult:
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return read_pairs(path)


@pytest.mark.parametrize(
    ("heading", "field"),
    [
        ("user", Field.USER),
        (" User: ", Field.USER),
        ("ＵＳＥＲ", Field.USER),
        ("ユーザー", Field.USER),
        ("質問", Field.USER),
        ("Input", Field.USER),
        ("user / ユーザー", Field.USER),
        ("ボット", Field.BOT),
        ("回答 2", Field.BOT),
        ("Output", Field.BOT),
        ("ﾎﾞｯﾄ", Field.BOT),
        ("会話", Field.CONVERSATION),
        ("Conversation ID", Field.CONVERSATION),
        ("番号", Field.TURN),
        ("出典", Field.SOURCE),
        ("Questions", Field.USER),
        ("Customer question", Field.USER),
        ("userMessage", Field.USER),
        ("Frequently asked questions", Field.USER),
        ("Customer's question (EN)", Field.USER),
        ("よくある質問", Field.USER),
        ("お問い合わせ内容", Field.USER),
        ("ユーザーの発言", Field.USER),
        ("Question?", Field.USER),
        ("Q（質問）", Field.USER),
        ("システムの発言", Field.BOT),
        ("Answers", Field.BOT),
        ("Bot response", Field.BOT),
        ("Best answer", Field.BOT),
        ("agent_reply", Field.BOT),
        ("AI Response", Field.BOT),
        ("ご回答", Field.BOT),
        ("模範解答", Field.BOT),
        ("ボットの返答", Field.BOT),
        ("Also asked as", Field.ALSO),
        ("also", Field.ALSO),
        ("also asked as / 別の聞き方", Field.ALSO),
        ("ほかの聞き方", Field.ALSO),
        ("also known as", None),
        ("user / bot", None),
        ("weather", None),
        ("2", None),
        ("Question ID", None),
        ("Number of answers", None),
        ("Rejected response", None),
        ("System prompt", None),
        ("Response time", None),
        ("User name", None),
        ("Bot question", None),
        ("Question and answer", None),
        ("質問者", None),
        ("回答日時", None),
        ("質問番号", None),
        ("未回答", None),
        ("お客様の回答", None),
        ("a" * 1_000_000, None),
    ],
)
def test_headings(heading: str, field: Field | None) -> None:
    found = name_of(heading)
    assert (found and found.field) == field


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["Hi."], "Hi."),
        (["Hi.", "How are you?"], "Hi. How are you?"),
        (["はい。", "元気です。"], "はい。元気です。"),
        (["いいね👍", "ありがとう"], "いいね👍ありがとう"),
        (["네.", "좋아요."], "네. 좋아요."),
        (["ok", "𠮷野家"], "ok𠮷野家"),
    ],
)
def test_joining(pieces: list[str], whole: str) -> None:
    assert join_pieces(pieces) == whole


def test_headings_in_any_order_and_columns_that_nobody_reads(tmp_path: Path) -> None:
    found = imported(tmp_path, "出典,回答,memo,質問,会話,番号\nbook,a,x,q,c,３\n,a2,y,q2,c,\n")
    assert found.pairs == (Pair("q", "a", "c", 3, "book"), Pair("q2", "a2", "c", 4))
    assert found.errors == found.joined == ()


def test_without_headings_the_first_two_columns(tmp_path: Path) -> None:
    found = imported(tmp_path, "hello,hi\nbye,ciao\n")
    assert found.pairs == (Pair("hello", "hi"), Pair("bye", "ciao"))
    assert found.rows == 2


def test_a_title_above_the_headings(tmp_path: Path) -> None:
    assert imported(tmp_path, "Our pairs\n\nuser,bot\nq,a\n").pairs == (Pair("q", "a"),)


@pytest.mark.parametrize("headings", ["user,responce", "user,responce,source", "Réponse,Question"])
def test_headings_for_one_speaker_only(tmp_path: Path, headings: str) -> None:
    with pytest.raises(ImportRefused, match="write “user” above"):
        imported(tmp_path, f"{headings}\nq,a,book\n")


@pytest.mark.parametrize(
    ("table", "pair"),
    [
        ("Question_ID,Questions,Answers\n1,q,a\n", Pair("q", "a")),
        ("User,Bot response\nq,a\n", Pair("q", "a")),
        ("Context,Response\nq,a\n", Pair("q", "a")),
        ("Customer,Agent\nq,a\n", Pair("q", "a")),
        ("Customer,Agent,Question,Answer\nAda,Ben,q,a\n", Pair("q", "a")),
        ("Question,Short question,Answer,Model\nq,x,a,gpt2\n", Pair("q", "a")),
        ("カテゴリ,よくある質問,ご回答\n場所,q,a\n", Pair("q", "a")),
    ],
)
def test_the_surest_headings_are_read(tmp_path: Path, table: str, pair: Pair) -> None:
    found = imported(tmp_path, table)
    assert found.pairs == (pair,)
    assert found.guesses == found.notes == found.errors == ()


def test_what_stands_above_the_headings_is_told(tmp_path: Path) -> None:
    found = imported(tmp_path, "FAQ,,updated 2024\n\nQuestion,Answer,Topic\nq,a,t\n")
    assert found.pairs == (Pair("q", "a"),)
    assert found.notes == ("Row 1 is above the headings, so it was left out.",)


@pytest.mark.parametrize(
    "table", ["Frage,Antwort\nq,a\n", "1,2,3\n4,5,6\n", "hello,hi\nq,A\nuser,x\n"]
)
def test_a_table_without_headings_is_a_guess(tmp_path: Path, table: str) -> None:
    found = imported(tmp_path, table)
    assert len(found.pairs) == table.count("\n")
    [guess] = found.guesses
    assert guess.startswith("There are no headings that I know, so this is a guess")


def test_unheaded_cells_to_the_right_are_joined(tmp_path: Path) -> None:
    found = imported(tmp_path, "user,,bot,,source\nHi.,Bot!,はい。,何？,book\n")
    assert found.pairs == (Pair("Hi. Bot!", "はい。何？", source="book"),)
    assert found.joined == (JoinedText(2, "Hi. Bot!"), JoinedText(2, "はい。何？"))


def test_cells_beyond_the_last_heading_and_columns_headed_alike(tmp_path: Path) -> None:
    assert imported(tmp_path, "user,bot\nq,a,b,,c\n").pairs == (Pair("q", "a b c"),)
    assert imported(tmp_path, "user,bot 1,bot 2\nq,a,b\n").pairs == (Pair("q", "a b"),)
    assert imported(tmp_path, "user,bot,note\nq,a,b,c\n").pairs == (Pair("q", "a"),)


def test_lines_of_a_cell_are_joined_unless_the_row_keeps_them(tmp_path: Path) -> None:
    text = 'user,bot,lines\nq,"a\n\n b ",\nq,"a\n\n b ",keep\n'
    found = imported(tmp_path, text)
    assert found.pairs == (Pair("q", "a b"), Pair("q", "a\n\n b"))
    assert found.joined == (JoinedText(2, "a b"),)


def test_rows_below_a_pair_go_on(tmp_path: Path) -> None:
    found = imported(tmp_path, "user,bot\nq,a\n,b\n,c\nq2,a2\nand,\n")
    assert found.pairs == (Pair("q", "a b c"), Pair("q2 and", "a2"))
    assert found.joined == (JoinedText(2, "a b c"), JoinedText(5, "q2 and"))


@pytest.mark.parametrize(
    ("table", "wordings"),
    [
        ("user,bot,also\nq,a,r; s|t；u ;;\n", "rstu"),
        ('user,bot,also asked as\nq,a,"r\ns"\n', "rs"),
        ("質問,別の聞き方,回答\nq,r,a\n", "r"),
        ("user,bot,also,also\nq,a,r,s\n", "rs"),
        ("user,bot,also\nq,a,r\n,,s\n", "rs"),
        ("user,bot,also\nq,,r\n,a,s\n", "rs"),
        ("user,bot,also\nq,a,q;r;r\n", "r"),
        ("user,bot,also\nq,a,\n", ""),
    ],
)
def test_other_wordings_are_pairs_with_the_same_answer(
    tmp_path: Path, table: str, wordings: str
) -> None:
    found = imported(tmp_path, table)
    assert found.pairs == tuple(Pair(question, "a") for question in f"q{wordings}")
    assert found.errors == ()


def test_other_wordings_that_are_wrong(tmp_path: Path) -> None:
    many = ";".join(f"r{n}" for n in range(21))
    text = f"user,bot,also\nq,a,{many}\n\n,,r\nq,a,r;{'x' * 4001}\n"
    found = imported(tmp_path, text)
    assert found.pairs == (Pair("q", "a"), Pair("q", "a"), Pair("r", "a"))
    assert found.errors == (
        RowError(2, "There are over 20 other ways to ask."),
        RowError(4, MISSING_USER_TEXT),
        RowError(5, "The text of the user has 4,001 characters; 4,000 are the most."),
    )


def test_a_pair_on_two_rows(tmp_path: Path) -> None:
    found = imported(tmp_path, "user,bot\nq,\n,a\nq2,\nmore,\n,a2\n,b2\n")
    assert found.pairs == (Pair("q", "a"), Pair("q2 more", "a2 b2"))
    assert found.errors == ()


def test_nothing_goes_on_over_a_blank_row(tmp_path: Path) -> None:
    found = imported(tmp_path, "user,bot\nq,a\n\n,b\n , \nmore,\n")
    assert found.pairs == (Pair("q", "a"),)
    assert found.errors == (RowError(4, MISSING_USER_TEXT), RowError(6, MISSING_BOT_TEXT))


def test_nothing_goes_on_in_another_conversation_or_turn(tmp_path: Path) -> None:
    text = "user,bot,conversation,turn\nq,a,c,1\n,b,d,1\nq,a,c,1\nmore,,c,2\nq,a,c,2\n,b,c,2\n"
    found = imported(tmp_path, text)
    assert found.pairs == (
        Pair("q", "a", "c", 1),
        Pair("q", "a", "c", 1),
        Pair("q", "a b", "c", 2),
    )
    assert found.errors == (RowError(3, MISSING_USER_TEXT), RowError(5, MISSING_BOT_TEXT))


def test_wrong_rows_do_not_hold_up_good_ones(tmp_path: Path) -> None:
    text = f"user,bot,conversation,turn\nq,{'x' * 50_000},,\nq,a,c,first\nq,a,c,0\nq,a,,x\n"
    found = imported(tmp_path, text)
    assert found.pairs == (Pair("q", "a"),)
    assert [one.row for one in found.errors] == [2, 3, 4]
    assert (
        found.errors[0].reason == "The text of the bot has 50,000 characters; 4,000 are the most."
    )
    assert found.rows == 4


def test_many_rows_of_one_utterance_take_no_time(tmp_path: Path) -> None:
    found = imported(tmp_path, "user,bot\nq,a\n" + ",b\n" * 50_000)
    assert found.pairs == ()
    assert [one.row for one in found.errors] == [2]
