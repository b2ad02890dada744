"""What a question is made of: its question word, its content words, courtesy left out. Pure.

English is read here, Japanese in `japanese.py`. Nothing is looked up but the lists of this folder:
lemmas are cut by rules, alike for all forms of a word, so they need not be words themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import cache, lru_cache

from core.japanese import has_japanese_letter
from core.text_caches import keeps_texts
from data.questions import japanese
from data.questions.question import Asks, Question, Word
from data.questions.synonyms import SYNONYMS_EN, Synonyms, common_words, read_synonyms, word_set

MARKUP = re.compile(r"<a?:\w+:\d+>|<[@#][!&]?\d+>|https?://\S+|(?<!\w):\w{2,32}:(?!\w)")
"""Emoji, mentions and links: they say nothing about what is asked."""
WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*[+#]*")
SENTENCE_END = re.compile(r"(?<=[.!?\n])\s+|\n")
DRAWN_OUT = re.compile(r"([^\W\d_])\1{2,}")

CONTRACTIONS = {
    **{f"{word}{mark}s": f"{word} is" for word in ("what", "who", "where", "when", "why", "how",
       "that", "there", "it", "here", "he", "she") for mark in ("'", "")},
    **{f"{word}nt": f"{word} not" for word in ("do", "does", "did", "is", "are", "was", "were",
       "could", "would", "should", "have", "has", "had")},
    "its": "its", "hes": "hes", "shes": "shes",
    "cant": "can not", "can't": "can not", "cannot": "can not", "won't": "will not",
    "wont": "will not", "ain't": "is not", "aint": "is not", "shan't": "shall not",
    "im": "i am", "ive": "i have", "youre": "you are", "theyre": "they are", "thats": "that is",
    "whatre": "what are", "whod": "who would", "whove": "who have", "howd": "how did",
    "u": "you", "ur": "your", "r": "are", "y": "why", "wut": "what", "wat": "what", "wen": "when",
    "pls": "please", "plz": "please", "thx": "thanks", "ty": "thanks", "wanna": "want to",
    "gonna": "going to", "gotta": "have to", "gimme": "give me", "lemme": "let me", "dunno":
    "do not know", "abt": "about", "ppl": "people", "tho": "though", "bc": "because", "cuz":
    "because", "idk": "i do not know", "y'all": "you all", "yall": "you all", "whats up": "what is",
}  # fmt: skip
"""How people write, and what it stands for. “its” is nearly always the possessive."""
CONTRACTED = re.compile(r"^(.+)(n't|'re|'ve|'ll|'d|'m|'s)$")
CONTRACTED_ENDS = {"n't": "not", "'re": "are", "'ve": "have", "'ll": "will", "'d": "would",
                   "'m": "am", "'s": ""}  # fmt: skip

GREETINGS = (
    r"hey|hi|hello|hiya|yo|sup|ok|okay|so|um|uh|well|sorry|excuse me|btw|by the way|"
    r"(?:just )?(?:a |one )?(?:quick |last |more |another |random |dumb |stupid )*question|please|"
    r"and|but|also|hmm+|oh|bot|dear bot|dear|guys|everyone|everybody|all|folks|there|mate|dude|bro|"
    r"anyone|thanks|good (?:morning|evening|afternoon)|now|then|actually|again|alright|listen"
)
REQUESTS = (
    r"(?:can|could|would|will|may) (?:you|someone|anyone|anybody|somebody|i|we)(?: please| maybe)? "
    r"(?:tell|explain|remind|show|let|help|ask|answer|give|say|share)(?: to)?"
    r"(?: (?:me|us|you))?(?: know| understand)?(?: please)?(?: (?:about|of|on|with))?",
    r"(?:(?:do|does|did|would) )?(?:you|anyone|anybody|someone|somebody|any of you|one of you|"
    r"you all)(?: guys| all| here| happen to| perhaps| maybe| by chance)* "
    r"(?:know|remember|recall|knows)(?: anything)?(?: about| of)?",
    r"(?:i|we) (?:was |am |were |are )?(?:just )?(?:wondering|wonder|curious|asking)(?: about)?"
    r"(?: if (?:you|anyone|someone) (?:know|could tell me))?",
    r"(?:i|we) (?:would |really |just )*(?:like|want|need|love|wish|have) to "
    r"(?:know|ask|learn|hear|find out|understand)(?: more)?(?: about)?",
    r"(?:i|we) (?:totally |just |really |kinda |have |always )*"
    r"(?:forgot|forget|forgotten)(?: about)?",
    r"(?:i|we) (?:do|can|did|could) not (?:really |quite )?(?:know|remember|recall|get|understand)",
    r"(?:please )?(?:tell|remind|teach) (?:me|us)(?: again)?(?: please)?(?: (?:about|of))?",
    r"(?:does anyone have |do you have |have you got |got |has anyone got )?"
    r"any (?:idea|clue|info|information|details|thoughts)(?: on| about| of)?",
    r"let (?:me|us) know(?: about)?|please explain|explain|describe|(?:give|show) (?:me|us)|"
    r"(?:can|could|may) (?:i|we)(?: please)? (?:have|get|see)(?= the )|"
    r"what about|how about|what can you (?:tell me|say) about|what (?:do|did) you know about|"
    r"what is the deal with|i have (?:a|one) question(?: about| on)?|"
    r"(?:may|can|could) i ask(?: you)?|"
    r"mind telling (?:me|us)|do you mind telling (?:me|us)|i need (?:info|information|help) "
    r"(?:on|about|with)|help me understand|i am (?:not sure|unsure|confused about)|"
    r"not sure|no idea|i have no idea|is there anyone who knows|it would be nice to know|"
    r"who knows|anyone knows|info on|info about|hear about",
)
ENDINGS = (
    r"please|thanks|thank you|again|lol|lmao|haha|xd|exactly|actually|anyway|though|btw|"
    r"by the way|right now|now|bro|man|dude|guys|do you know|you know|does anyone know|anyone know|"
    r"i forgot|i forget|any idea|any ideas|anyone|tell me|please tell me|then|bot|mate|huh|eh|"
    r"can you tell me|in advance|if i may ask|if you know|i wonder|and stuff|or something|"
    r"thanks in advance|thank you so much|so much|a lot|these days|at the moment|currently|"
    r"on this server|in this server|on the server|here|around here|on here|right|ok|okay|hm+"
)
GREETING = re.compile(rf"^(?:{GREETINGS})\b ?")
REQUEST = re.compile(rf"^(?:{'|'.join(REQUESTS)})(?: |$)")
ENDING = re.compile(rf"(?:^| )(?:{ENDINGS})$")

WH_WORDS = {
    "who": Asks.PERSON, "whom": Asks.PERSON, "whose": Asks.PERSON, "what": Asks.THING,
    "which": Asks.CHOICE, "where": Asks.PLACE, "when": Asks.TIME, "why": Asks.REASON,
    "how": Asks.WAY,
}  # fmt: skip
_IS = r"(?:is|was|are|were)"
_WHO = r"(?:i|we|you|one|someone|people)"
SPECIAL_FORMS = tuple(
    (asks, re.compile(rf"^(?:{'|'.join(patterns)})(?:(?<= )| |$)"))
    for asks, patterns in (
        (Asks.CASE, (
            r"what (?:happens|happen|(?:will|would|does) happen)(?: to (?:me|us|you|\w+))? ?"
            r"(?:if|when)",
            r"what if",
            rf"what {_IS} the (?:punishment|penalty|consequences?) (?:for|of)",
        )),
        (Asks.AMOUNT, (
            r"how (?:many|much)",
            rf"(?:what|which) number of|what {_IS} the (?:number|amount|count) of",
            rf"what {_IS} the (?=length|height|age|size|duration|price|cost|frequency)",
            r"how (?=old|long|often|far|big|tall|large|high|expensive|fast|heavy|late|early|freq)",
        )),
        (Asks.REASON, (
            r"how come",
            rf"(?:for )?what reason|what {_IS} the reason(?: for| that| why)?|what for",
        )),
        (Asks.TIME, (
            r"(?:at |on |from |until |in )?(?:what|which) (?:exact )?"
            r"(?=time|day|date|hour|year|month|weekday)",
            rf"what {_IS} the (?=time|day|date)|since when|until when",
        )),
        (Asks.PLACE, (
            r"(?:in |on |to )?(?:what|which) (?=channel|place|location|room|category)",
            rf"what {_IS} the (?=location|place|channel for)|in which",
        )),
        (Asks.PERSON, (
            r"(?:what|which) (?:person|people|members?|user|guy|girl)(?= )",
            r"(?:to|with|by|for) whom|is there (?:someone|anyone|somebody) who",
        )),
        (Asks.WAY, (
            r"how to|(?:in )?(?:what|which) way",
            rf"what (?:do|must|should|can) {_WHO} (?:have to |need to )?do (?:in order )?to",
            rf"what {_IS} the (?:best |right |easiest )?(?:way|trick) to",
            r"is there (?:a|any) way to|what does it take to|(?:the )?(?:way|steps) to",
        )),
        (Asks.CHOICE, (r"which one(?: of)?(?: is)?",)),
        (Asks.WHETHER, (r"(?:if|whether)",)),
    )
)  # fmt: skip
CASE_FIRST = re.compile(
    r"^(?:if|when) (?P<case>.+?) what (?:happens|happen|(?:will|would|does) happen)$"
)
IMPLIED = {
    Asks.TIME: "start begin hold held take_place",
    Asks.AMOUNT: "last",
    Asks.WHETHER: "allow okay ok fine allow_to ok_to okay_to fine_to permit",
    Asks.REASON: "reason",
    Asks.THING: "stand_for",
}
"""Words that a question of a kind may leave out: “when does it start”, “is it allowed”."""
AUXILIARIES = word_set(
    "is are was were am be been being do does did done can could will would shall should "
    "may might must has have had ought"
)
NEEDS_MORE = word_set(
    "a an the our my your his her their of this "
    "that in on for to with at by which what whose every "
    "no any some is are was were"
)
SUBJECTS = word_set("i you he she we they it")
NEGATIONS = word_set("not never no without nobody nothing none neither nor")
STOP = (
    AUXILIARIES
    | SUBJECTS
    | frozenset(WH_WORDS)
    | NEGATIONS
    | word_set(
        "a an the of our my your his her hers their theirs its mine yours ours this that these "
        "those in on at to for with from by and or if whether when as than then there here me "
        "us him them so up out about into onto some any one ones else s t own such very just "
        "also too ever yet still once per via like"
    )
)
WEAK = word_set(
    "get got gets give go come make have know tell say see look use take put need want "
    "happen call name thing heck hell earth stuff "
    "way person people someone somebody anyone server discord "
    "please really again today now exactly actually time day place channel current "
    "currently people guy here question answer find supposed possible able exist kind type "
    "sort mean be try let able guild location date hour room chat"
)
NUMBERS = {
    word: str(number)
    for number, forms in enumerate(
        (
            "zero zeroth", "one first", "two second", "three third", "four fourth", "five fifth",
            "six sixth", "seven seventh", "eight eighth", "nine ninth", "ten tenth",
            "eleven eleventh", "twelve twelfth",
        )
    )
    for word in word_set(forms)
}  # fmt: skip
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)$")
NO_NUMBER = word_set(
    "do does did can could should would if as this that which the any every no each some another"
)
"""Before “one”, which then is a pronoun."""
LIKERS = SUBJECTS | word_set("who not really also people")
"""Before “like”, which then is a verb."""
IRREGULAR = {
    form: base
    for base, forms in (pair.split(": ") for pair in """
win: won; run: ran running; make: made; hold: held; write: wrote written; begin: began
begun; meet: met; pay: paid; buy: bought; get: got gotten; go: went gone; say: said; teach:
taught; child: children; person: persons; man: men; woman: women; mouse: mice; foot: feet;
lead: led; build: built; draw: drew drawn; eat: ate eaten; drink: drank drunk; speak: spoke
spoken; steal: stole stolen; break: broke broken; choose: chose chosen; take: took taken;
give: gave given; see: saw seen; know: knew known; grow: grew grown; throw: threw thrown;
sing: sang sung; swim: swam swum; sell: sold; tell: told; send: sent; spend: spent; lose:
lost; leave: left; keep: kept; sleep: slept; feel: felt; mean: meant; bring: brought; think:
thought; catch: caught; fight: fought; come: came; become: became; drive: drove driven;
ride: rode ridden; wear: wore worn; beat: beaten; hide: hid hidden; forget: forgot
forgotten; fall: fell fallen; stand: stood; have: having; die: died dying; lie: lied lying;
bear: borne; wife: wives; knife: knives; wolf: wolves; leaf: leaves
""".replace("\n", " ").strip().split("; "))
    for form in word_set(forms)
}  # fmt: skip
REFERENCE = re.compile(
    r" (?:he|she|they|these|those) "
    r"| (?:this|that)(?! (?:server|discord|guild|place|channel|bot)\b) "
    r"|(?<! is) it | is it (?!ok|okay|fine|allowed|possible|permitted|legal|forbidden)"
)
PERSONS = {
    **dict.fromkeys(("my", "mine"), "my"),
    **dict.fromkeys(("your", "yours"), "your"),
    **dict.fromkeys(("his", "her", "hers", "their", "theirs", "him", "them"), "their"),
    "i": "i",
    "you": "you",
}


class End(Enum):
    """How a text ends."""

    QUESTION = auto()
    STATEMENT = auto()
    OPEN = auto()


def _end(text: str) -> End:
    mark = text.rstrip()[-1:]
    if mark in ("?", "？"):
        return End.QUESTION
    return End.STATEMENT if mark in (".", "!", "…") else End.OPEN


@keeps_texts
@lru_cache(maxsize=4096)
def read_question(text: str) -> Question:
    """What a text asks."""
    if has_japanese_letter(text):
        return japanese.read_question(text)
    words = _words(_asking_sentence(MARKUP.sub(" ", _plain(text))))
    return _question(words, _end(text))


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return DRAWN_OUT.sub(r"\1\1", text.replace("’", "'").replace("`", "'").replace("´", "'"))


def _asking_sentence(text: str) -> str:
    """The only sentence that asks something, else all of them."""
    sentences = [one for one in SENTENCE_END.split(text.strip()) if WORD.search(one)]
    asking = [one for one in sentences if one.endswith("?")]
    if not asking:
        asking = [one for one in sentences if _words(one)[0] in WH_WORDS]
    return asking[0] if len(sentences) > 1 and len(asking) == 1 else text


def _words(text: str) -> list[str]:
    """The words, contractions written out."""
    return [word for found in WORD.findall(text) for word in _written_out(found)]


@keeps_texts
@lru_cache(maxsize=4096)
def _written_out(word: str) -> tuple[str, ...]:
    if word in CONTRACTIONS:
        return tuple(CONTRACTIONS[word].split())
    if contracted := CONTRACTED.match(word):
        return tuple(filter(None, (*contracted[1].split("-"), CONTRACTED_ENDS[contracted[2]])))
    halves = word.replace("'", "").split("-")
    return tuple(halves) if all(len(half) > 2 for half in halves) else ("".join(halves),)


def _question(words: Sequence[str], end: End) -> Question:
    text, requested = _without_courtesy(" ".join(words))
    asks, rest = _what_it_asks(text, requested, end)
    core = _lemmas(text.split())
    content = english().join_phrases(_content_lemmas(rest))
    found = [_as_asked(word_of(one), asks) for one in dict.fromkeys(content)]
    plain = text.split()
    return Question(
        core=tuple(core),
        strong=tuple(word for word in found if not word.weak),
        weak=tuple(word for word in found if word.weak),
        asks=asks,
        negated=not NEGATIONS.isdisjoint(plain),
        refers=REFERENCE.search(f" {text} ") is not None,
        persons=frozenset(
            PERSONS[word]
            for word in plain
            if word in PERSONS and not (asks is Asks.WAY and word in SUBJECTS)
        ),
    )


def _without_courtesy(text: str) -> tuple[str, bool]:
    """A text without greetings and politeness, and whether it was a request to tell something."""
    requested = False
    while True:
        shorter = GREETING.sub("", text, count=1)
        if (request := REQUEST.match(shorter)) and request.end() < len(shorter):
            shorter, requested = shorter[request.end() :], True
        if (ending := ENDING.search(shorter)) and _is_complete(shorter[: ending.start()]):
            shorter = shorter[: ending.start()]
        if not shorter or shorter == text:
            return text, requested
        text = shorter


def _is_complete(text: str) -> bool:
    """Whether a text may end there: “the prefix of the” lacks its last word."""
    return bool(text) and text.split()[-1] not in NEEDS_MORE


def _what_it_asks(text: str, requested: bool, end: End) -> tuple[Asks, str]:
    """What is asked for, and the text without the words that say so."""
    if found := CASE_FIRST.match(text):
        return Asks.CASE, found["case"]
    for asks, form in SPECIAL_FORMS:
        if found := form.match(text):
            return asks, text[found.end() :].strip()
    words = text.split()
    places = [at for at, word in enumerate(words) if word in WH_WORDS]
    if places and (places[0] <= 1 or _may_end_with_it(words, places[0])):
        return _wh_question(words, places[0])
    if words and words[0] in AUXILIARIES and not requested:
        return Asks.WHETHER, text
    if requested:
        return Asks.ANYTHING, text
    is_question = not _is_statement(words) if end is End.OPEN else end is End.QUESTION
    return (Asks.KEYWORDS if is_question else Asks.NOTHING), text


def _may_end_with_it(words: Sequence[str], at: int) -> bool:
    """Whether a topic comes before the question word (“movie night, when is it”)."""
    return (SUBJECTS | AUXILIARIES).isdisjoint(words[:at]) or at == len(words) - 1


def _wh_question(words: Sequence[str], at: int) -> tuple[Asks, str]:
    before, rest = " ".join(words[:at]), " ".join(words[at:])
    for asks, form in SPECIAL_FORMS:
        if found := form.match(rest):
            return asks, f"{before} {rest[found.end() :]}".strip()
    if "happens" in words and ("if" in words or "when" in words):
        return Asks.CASE, " ".join(word for word in words if word != "happens")
    return WH_WORDS[words[at]], " ".join((*words[:at], *words[at + 1 :]))


def _is_statement(words: Sequence[str]) -> bool:
    return not (SUBJECTS | AUXILIARIES).isdisjoint(words) or len(words) > 5


def _lemmas(words: Iterable[str]) -> list[str]:
    return [word if word in STOP else lemma(word) for word in words]


def _content_lemmas(text: str) -> list[str]:
    """The lemmas of the words that matter, and of the small words inside a known phrase."""
    words = text.split()
    plain = [
        "1" if word == "one" and not (at and words[at - 1] in NO_NUMBER) else word
        for at, word in enumerate(words)
    ]
    plain = [
        "liking" if word == "like" and at and plain[at - 1] in LIKERS else word
        for at, word in enumerate(plain)
    ]
    joined = english().join_phrases(_lemmas(plain))
    return [one for one in joined if " " in one or one not in STOP]


def _as_asked(word: Word, asks: Asks) -> Word:
    implied = word_set(IMPLIED.get(asks, ""))
    return replace(word, weak=True) if word.lemma.replace(" ", "_") in implied else word


@keeps_texts
@lru_cache(maxsize=65536)
def word_of(lemma_: str) -> Word:
    return Word(
        lemma_, english().keys(lemma_), lemma_ in _weak_lemmas(), lemma_ in _common_lemmas()
    )


@keeps_texts
@lru_cache(maxsize=65536)
def lemma(word: str) -> str:
    """What all forms of a word have in common; not always a word."""
    if word in NUMBERS:
        return NUMBERS[word]
    if ordinal := ORDINAL.match(word):
        return ordinal[1]
    word = IRREGULAR.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}i"
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and not VOWEL.isdisjoint(stem):
            return _bare(stem[:-1] if stem[-1] == stem[-2] and stem[-1] not in "ls" else stem)
    if len(word) > 3 and word.endswith("s") and word[-2] not in "sui":
        word = word[:-2] if word.endswith(ES_ENDINGS) else word[:-1]
    return _bare(word) if word in common_words() else word


VOWEL = frozenset("aeiouy")
ES_ENDINGS = ("ches", "shes", "xes", "sses", "zzes")


def _bare(stem: str) -> str:
    if len(stem) > 3 and stem.endswith("e"):
        return stem[:-1]
    return f"{stem[:-1]}i" if len(stem) > 2 and stem.endswith("y") else stem


@cache
def english() -> Synonyms:
    """The English groups of synonyms."""
    return read_synonyms(SYNONYMS_EN, lambda member: _lemmas(member.split()))


@cache
def _common_lemmas() -> frozenset[str]:
    return frozenset(map(lemma, common_words()))


@cache
def _weak_lemmas() -> frozenset[str]:
    return frozenset(map(lemma, WEAK))
