"""How many tokens Japanese takes, and how long a reply may get.

`python -m benchmarks.tokens` counts twelve everyday sentences in English and in Japanese, which say
the same, in the tokens of the embedded models and of a sentencepiece model. `--tokenizer FOLDER`
adds one, such as GPT-2's own (vocab.json and merges.txt are enough). The last one is trained on the
spot, on the Japanese of chatterbot-corpus (the extra `starter`): about 1,400 short texts, so it is
a worse one than those that big models come with.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.records import Message, Role
from model.engine.reply_length import max_reply_tokens
from model.registry import (
    EMBEDDED_FOLDER,
    EMBEDDED_FOLDER_JA,
    EMBEDDED_NAME,
    EMBEDDED_NAME_JA,
)

if TYPE_CHECKING:
    from model.tokenizer import AnyTokenizer

ASKED = 60
"""MAX_NEW_TOKENS, unless it is set."""
PIECES = 2000
SENTENCES = (
    ("Good morning! Did you sleep well last night?", "おはよう！昨日の夜はよく眠れた？"),
    ("What did you have for lunch today?", "今日のお昼は何を食べた？"),
    (
        "I have an exam tomorrow, so I can't play tonight.",
        "明日テストがあるから、今夜は遊べないんだ。",
    ),
    (
        "That sounds like fun. Can I come with you next time?",
        "楽しそうだね。次は一緒に行ってもいい？",
    ),
    (
        "The server will be down for maintenance from nine to eleven.",
        "サーバーは九時から十一時までメンテナンスで止まります。",
    ),
    (
        "Which character do you like best in this game, and why?",
        "このゲームでどのキャラが一番好き？どうして？",
    ),
    (
        "Thank you for your help. I finally got it to work!",
        "手伝ってくれてありがとう。やっと動いたよ！",
    ),
    (
        "It has been raining all week and I am getting tired of it.",
        "一週間ずっと雨で、もううんざりだよ。",
    ),
    (
        "My cat sleeps on the keyboard whenever I try to work.",
        "仕事をしようとすると、いつも猫がキーボードの上で寝るんだ。",
    ),
    (
        "Please read the rules before you post in this channel.",
        "このチャンネルに書き込む前に、ルールを読んでください。",
    ),
    (
        "I watched that movie twice, and the ending made me cry both times.",
        "あの映画は二回見たけど、二回とも最後で泣いちゃった。",
    ),
    ("Let's meet in front of the station at half past six.", "六時半に駅の前で会おう。"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """`english` and `japanese` in tokens, `a_letter` of Japanese; a reply to a Japanese message may
    have `reply` tokens, with which `letters` can be said (`before`: with ASKED tokens)."""

    name: str
    english: int
    japanese: int
    a_letter: float
    letters_a_token: float
    before: int
    reply: int
    letters: int


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--tokenizer", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    tokenizers = {
        EMBEDDED_NAME: (_of_folder(EMBEDDED_FOLDER), 256),
        EMBEDDED_NAME_JA: (_of_folder(EMBEDDED_FOLDER_JA), 256),
        "sentencepiece": (_sentencepiece(), 1024),
    }
    tokenizers |= {one.name: (_of_folder(one), 1024) for one in options.tokenizer}
    results = [count(name, *one) for name, one in tokenizers.items()]
    if options.json:
        print(json.dumps([asdict(one) for one in results]))
        return
    english, japanese = (sum(map(len, texts)) for texts in zip(*SENTENCES, strict=True))
    print(f"{english} letters of English, {japanese} of Japanese ({english / japanese:.1f} to 1)\n")
    for one in results:
        print(
            f"{one.name}: {one.english} tokens of English, {one.japanese} of Japanese "
            f"({one.a_letter:.2f} a letter); {one.letters_a_token:.2f} letters of Japanese say "
            f"what a token of English says; {ASKED} tokens have {one.before} letters, and a reply "
            f"may have {one.reply} tokens with {one.letters} letters"
        )


def count(name: str, tokenizer: AnyTokenizer, positions: int) -> Result:
    """What one tokenizer makes of the sentences; its model has so many positions."""
    texts = list(zip(*SENTENCES, strict=True))
    english, japanese = (
        sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in side)
        for side in texts
    )
    letters = sum(map(len, texts[1]))
    replies = [
        max_reply_tokens(tokenizer, [Message(Role.USER, text)], ASKED, positions)
        for text in texts[1]
    ]
    reply = round(sum(replies) / len(replies))
    a_letter = japanese / letters
    return Result(
        name=name,
        english=english,
        japanese=japanese,
        a_letter=round(a_letter, 2),
        letters_a_token=round(letters / english, 2),
        before=round(ASKED / a_letter),
        reply=reply,
        letters=round(reply / a_letter),
    )


def _of_folder(folder: Path) -> AnyTokenizer:
    from transformers import AutoTokenizer, GPT2Tokenizer

    whole = (folder / "config.json").is_file()
    made: AnyTokenizer = (AutoTokenizer if whole else GPT2Tokenizer).from_pretrained(folder)
    return made


def _sentencepiece() -> AnyTokenizer:
    import sentencepiece

    from model.convert.sentencepiece import load_sentencepiece
    from model.tokenizer import Tokenizer
    from training.sources import load_conversations

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            message.content
            for turns in load_conversations("chatterbot:japanese")
            for message in turns
        ),
        model_writer=written,
        vocab_size=PIECES,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        model, whole = Path(folder, "spiece.model"), Path(folder, "tokenizer.json")
        model.write_bytes(written.getvalue())
        load_sentencepiece(model, {}).save(str(whole))
        return Tokenizer(whole, special_tokens={"eos_token": "</s>"}, chat_template="")


if __name__ == "__main__":
    main()
