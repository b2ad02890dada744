"""A Japanese question, taken apart without a tokenizer: by character class. Pure.

Runs of kanji, of katakana, of Latin letters and digits are content words; hiragana is mostly
particles and endings, so only what stands between particles counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache

from core.japanese import KANJI
from core.text_caches import keeps_texts
from data.questions.question import Asks, Question, Word
from data.questions.synonyms import SYNONYMS_JA, Synonyms, read_synonyms, word_set

HIRAGANA, KATAKANA = "\u3041-\u3096\u309d-\u309f", "\u30a1-\u30fa\u30fc-\u30ff"
TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
MARKUP = re.compile(r"<a?:\w+:\d+>|<[@#][!&]?\d+>|https?://\S+")
SIGNS = re.compile(rf"[^\w\s+#{KANJI}{HIRAGANA}{KATAKANA}]|_")
SENTENCE_END = re.compile(r"(?<=[。！？!?\n])\s*")
RUN = re.compile(rf"[{KANJI}]+|[{KATAKANA}]+|[{HIRAGANA}]+|[^\W{KANJI}{KATAKANA}{HIRAGANA}]+[+#]*")

HIRAGANA_RUN, KANJI_RUN = re.compile(f"[{HIRAGANA}]+"), re.compile(f"[{KANJI}]+")

OPENINGS = re.compile(
    r"^(?:ねえ+ね?え?|ねぇ|あの[ーさね]?|すみません(?:が)?|すいません(?:が)?|こんにち[はわ]|こんばん[はわ]|"
    r"おはよう(?:ございます)?|ちょっと|質問(?:です|なんですけど|があります)?|ところで|えっと|ええと|"
    r"そういえば|では|じゃあ|で|ボット(?:さん|くん|君)?|bot(?:さん|くん|君)?|もしもし|教えて)[、,。!！\s]+"
)
TELLING = re.compile(
    r"(?:を|について|に関して|のことを?|って|が|は|か)?"
    r"(?:(?:教|おし)え|説明し|答え|知らせ)て?"
    r"(?:ください|下さい|くださいませんか|下さいませんか|くれ(?:る|ない|ます|ません)か?|"
    r"もらえ(?:る|ない|ます|ません)か?|いただけ(?:ます|ません)か|頂け(?:ます|ません)か|"
    r"(?:ほし|欲し)い(?:です|の)?(?:けど|が)?|ちょうだい|頂戴|くれ|よ|ね|な|や)*$"
    r"|(?:を|が|か|について|のことを?)?(?:知|し|聞|き)りたい(?:です|のです|んです|な)?(?:が|けど|けれど)?$"
    r"|(?:を|か|について|のことを?)?(?:聞き|きき|知り|しり)たい(?:です|のです|んです|な)?(?:が|けど|けれど)?$"
    r"|(?:を|か|が|は|って|について|のことを?)?(?:ご存(?:知|じ)|(?:知|し)って(?:い?る|い?ます)?)"
    r"(?:です)?(?:か|の|人|方|(?:い|居)(?:る|ます)|[?？])*$"
    r"|(?:か|が|は)?(?:分か|わか)(?:る|ります|りません|らない)"
    r"(?:か|の|人|方|です|んです|けど|が|(?:い|居)(?:る|ます))*$"
    r"|(?:か|を)?(?:忘|わす)れ(?:た|ちゃった|てしま(?:った|いました)|ました)"
    r"(?:んです|です|けど|が|の)*$"
)
ENDINGS = re.compile(
    r"(?:んでしたっけ|でしたっけ|ましたっけ|たっけ|だっけ|っけ|んでしょうか|なんでしょうか|のでしょうか|"
    r"でしょうか|でしょう|のですか|なのですか|なんですか|んですか|ですか|ますか|ましたか|ですかね|"
    r"だろうか|だろう|かな[あぁー]?|かしら|なのか|なの|です|ます|だよね?|よね|んだ|のだ|"
    r"かね|か|の|ね|よ|な|さ|w+|笑|じゃない|ではない|お願いします|おねがいします|よろしく(?:お願いします)?|"
    r"って|とは|という(?:の|こと)?は?|っていう(?:の|こと)?は?|は|ということ|こと)$"
)
QUESTION_FORMS = tuple(
    (asks, re.compile(pattern))
    for asks, pattern in (
        (Asks.CASE, r"どうな(?:る|り(?:ます)?|っちゃう)|何が?起(?:こ|き)(?:る|り|ます)*|"
                    r"どんな(?:罰|処分|ペナルティ)"),
        (Asks.TIME, r"いつ(?:ごろ|頃)?|何時(?:ごろ|頃|から)?|なんじ|何曜日?|何日|何月|何年に|"
                    r"どの(?:日|時間|曜日)"),
        (Asks.PLACE, r"どこ|何処|どちら|どの(?:チャンネル|場所|部屋|サイト)|何チャンネル"),
        (Asks.PERSON, r"誰|だれ|どなた|どの(?:人|方|メンバー)|どんな人|何者|なにもの"),
        (Asks.REASON, r"なぜ|何故|どうして|(?:なん|何)で(?!す|しょ|も)|何のため|どんな理由"),
        (Asks.WAY, r"どう(?:やって|やったら|やれば|すれば|したら|すると|する)|どのように|"
                   r"どんな(?:方法|やり方|手順)|何をすれば|何をしたら"),
        (Asks.AMOUNT, r"いくつ|いくら|何[人個回歳才枚本度年円匹台件問種分]|"
                      r"どれ(?:くらい|ぐらい|ほど|だけ)|どの(?:くらい|ぐらい|程度)"),
        (Asks.CHOICE, r"どれ|どっち|どの"),
        (Asks.THING, r"何(?:という|て)?|なに|なん(?=で|だ|の|か|て|と|$|\s)|どんな|どういう"),
        (Asks.WAY, r"どう"),
    )
)  # fmt: skip
ASKING_NOUNS = {
    Asks.TIME: re.compile(r"(?:開始|開催|終了)?(?:時間|時刻|日時|日付|日程|開催日|曜日)"),
    Asks.PLACE: re.compile(r"場所|会場|所在地|在り?処|ありか"),
    Asks.REASON: re.compile(r"理由|わけ|訳"),
    Asks.WAY: re.compile(r"方法|やり方|やりかた|仕方|しかた|手順|[しりきみぎちびめ](?:方|かた)"),
    Asks.AMOUNT: re.compile(r"人数|個数|回数|年齢"),
}  # fmt: skip
"""Nouns that ask by themselves: “読書会の時間を教えて” asks when it is."""
NEGATION = re.compile(r"ない|ません|ずに|なく|なければ|なかった")
PARTICLES = re.compile(
    r"^(?:から|まで|より|って|とは|には|では|での|への|との|にも|でも|とか|など|として|という|っていう|"
    r"[はがをにでともへやの])"
)
DROPPED = word_set(
    "する している してる したら すると しちゃう しても していい もし して した しました "
    "します される されて ある あります いる います なる なります なった こと もの ため "
    "この その あの うち ここ そこ それ これ あれ です ます ました でき できる できます "
    "たい たら れば ください さん くん ちゃん よう ところ とき ほう だけ くらい ぐらい "
    "また もう まだ いい よい とても もっと すぐ やって やる やれば やります いう いって "
    "みんな みなさん わたし ぼく おれ あなた きみ おまえ どの のは のが のを ので のに "
    "てる ている"
)
WEAK = word_set(
    "サーバー サーバ 鯖 人 方 名前 名 大丈夫 可能 始 開始 チャンネル 時 時間 今 今日 日 "
    "私 僕 俺 自分 皆 言 思 使 行 出来 出 discord ディスコード 所 場所 事 物 君 貴方 ヤ "
    "アル 的 分 中 内 呼 知 教 聞 何 合 有 居 在 部 用 予定 開催 実際 一体"
)
VERB_ENDING = re.compile(r"(?<=..)(?:ります|ます|れば|たら|る|た|て)$")
MIN_RARE_CHARS = 4
"""Characters of a word that is hardly part of all talk."""
SUFFIXES = re.compile(r"(?<=.)(?:さん|様|君|氏|達|殿)$|(?<=..)[者員]$")


def read_question(text: str) -> Question:
    """What a Japanese text asks."""
    plain = unicodedata.normalize("NFKC", MARKUP.sub(" ", text)).casefold()
    sentence = _asking_sentence(plain)
    marked = sentence.rstrip().endswith("?")
    bare, requested, ended = _without_courtesy(" ".join(SIGNS.sub(" ", sentence).split()))
    asks, rest = _what_it_asks(bare, requested=requested, ended=ended)
    if marked and asks is Asks.NOTHING:
        asks = Asks.KEYWORDS
    found = list(dict.fromkeys(map(_word, _content(rest))))
    return Question(
        core=tuple(RUN.findall(bare)),
        strong=tuple(word for word in found if not word.weak),
        weak=tuple(word for word in found if word.weak),
        asks=asks,
        negated=NEGATION.search(bare) is not None,
    )


def _asking_sentence(text: str) -> str:
    sentences = [one for one in SENTENCE_END.split(text.strip()) if RUN.search(one)]
    asking = [one for one in sentences if one.rstrip().endswith(("?", "か。", "か"))]
    return asking[0] if len(sentences) > 1 and len(asking) == 1 else text


def _without_courtesy(text: str) -> tuple[str, bool, bool]:
    """A text without politeness; whether it asked to be told; whether it ended as questions do."""
    requested = ended = False
    while True:
        shorter = OPENINGS.sub("", f"{text} ").strip()
        if (telling := TELLING.search(shorter)) and telling.start() > 0:
            shorter, requested = shorter[: telling.start()].rstrip(), True
        elif (ending := ENDINGS.search(shorter)) and ending.start() > 0:
            shorter, ended = shorter[: ending.start()].rstrip(), ended or "か" in ending[0]
        if not shorter or shorter == text:
            return text, requested, ended
        text = shorter


def _what_it_asks(text: str, *, requested: bool, ended: bool) -> tuple[Asks, str]:
    for asks, form in QUESTION_FORMS:
        if found := form.search(text):
            return asks, f"{text[: found.start()]} {text[found.end() :]}"
    for asks, noun in ASKING_NOUNS.items():
        if found := noun.search(text, max(0, len(text) - 8)):
            return asks, f"{text[: found.start()]} {text[found.end() :]}"
    if requested or ended:
        return (Asks.ANYTHING if requested else Asks.WHETHER), text
    if not re.search(rf"[{HIRAGANA}]{{2}}$", text):
        return Asks.KEYWORDS, text
    return Asks.NOTHING, text


def _content(text: str) -> Iterator[str]:
    """The content words: runs of kanji, katakana, letters, and hiragana that is no ending."""
    for run in RUN.finditer(text):
        if not HIRAGANA_RUN.match(run[0]):
            yield SUFFIXES.sub("", run[0])
        elif word := _hiragana_word(run[0], before=text[run.start() - 1 : run.start()].strip()):
            yield word


def _hiragana_word(run: str, *, before: str) -> str:
    """What stands between particles; "" if that is nothing, or the ending of a verb in kanji."""
    bare = PARTICLES.sub("", run) if before or PARTICLES.fullmatch(run) else run
    if before and bare == run and KANJI_RUN.match(before):
        return ""
    bare = re.sub(r"(?:から|まで|より|[はがをにでとも])$", "", bare)
    bare = VERB_ENDING.sub("", bare)
    kept = len(bare) > 1 and bare not in DROPPED and run not in DROPPED
    return bare.translate(TO_KATAKANA) if kept else ""


@keeps_texts
@lru_cache(maxsize=65536)
def _word(lemma: str) -> Word:
    return Word(lemma, japanese().keys(lemma), lemma in WEAK, len(lemma) < MIN_RARE_CHARS)


@cache
def japanese() -> Synonyms:
    """The Japanese groups of synonyms."""
    return read_synonyms(SYNONYMS_JA, lambda member: [member.casefold().translate(TO_KATAKANA)])
