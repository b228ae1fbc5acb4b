"""Text as patterns can read it: one form for every way to write a word, and sentences without what is quoted."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 6000
"""Number of characters of a response that are read: by then it has refused or answered."""

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʹ′´＇ꞌ՚", "'") | dict.fromkeys("“”„‟″＂", '"'))
_ARABIC = str.maketrans("أإآٱىة", "ااااية")
_TRADITIONAL = str.maketrans(
    "無幫協請這個對為會該關於違說話給議論題討構寫應當與從們實現動開鎖過還讓將準則規內處理導聯絡繫諮詢"
    "護權隱傷續業務據證認識類別樣點將錄選擇絕懇見諒願並並於觸犯損慮責後學習",
    "无帮协请这个对为会该关于违说话给议论题讨构写应当与从们实现动开锁过还让将准则规内处理导联络系咨询"
    "护权隐伤续业务据证认识类别样点将录选择绝恳见谅愿并并于触犯损虑责后学习",
)
_DIACRITICS = re.compile("[\u0300-\u036f\u064b-\u065f\u0670\u0640\u093c]")
"""Accents of Latin and Cyrillic letters, Arabic vowels and the stroke that stretches, the dot of Hindi letters."""

_PICTURES = re.compile("[\u2600-\u27bf\ufe00-\ufe0f\U0001f000-\U0001faff]")

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_MARKUP = re.compile(
    r"</?[a-z][^<>\n]{0,80}>|<\|[^|\n]{0,40}\|>|\[([^\]\n]{1,200})\]\([^)\n]{0,300}\)"
    r"|\*+|~~|`|(?<!\w)_+|_+(?!\w)|^ {0,3}#+ ",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(
    r"^\s*(?:[-*+•‣▪–]|\d{1,2} ?[.)、]|\(\d{1,2}\)|[ivx]{1,4}\.|[a-h]\))\s+(?=\S)|^\s*\d{1,2}、", re.MULTILINE
)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,400}\"|«[^»\n]{1,400}»|»[^«\n]{1,400}«|‹[^›\n]{1,400}›|「[^」\n]{1,400}」|『[^』\n]{1,400}』"
    r"|(?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w)){2,300}'(?!\w)"
)
_QUOTED_WORDS = 5
"""Number of words, or half that of Chinese or Japanese characters, from which a quotation is long."""

_DIALOGUE = re.compile(r"^\s*—\s*\S.*$|^>.*$", re.MULTILINE)
_SPEAKER = re.compile(r"^([^\W\d_][\w .]{0,24}): \S.*$", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|(?<=[。।؟!?])(?![\"'»」』)!?.])|\n+")
_SCRIPTS = {
    "latin": re.compile(r"[a-z]"),
    "cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "kana": re.compile(r"[\u3040-\u30ff]"),
    "han": re.compile(r"[\u3400-\u9fff]"),
    "devanagari": re.compile(r"[\u0900-\u097f]"),
    "arabic": re.compile(r"[\u0600-\u06ff]"),
}
_LEAST = 0.15
"""Share of a text's letters from which its script counts."""

_LABEL = re.compile(r"^\s*[^\W\d]{1,20}:\s*(?=[\"“«„「\x1e ]|$)")
"""Who speaks, before what is all quoted."""

_QUOTATION = "\x1e"
"""Stands for a long quotation."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of a folded text, and how many long quotations it had."""

    text: str
    quotes: int = 0


def folded(text: str, lower: bool = True) -> str:
    """A text with one form for each way to write a word: no invisible characters, no accents, straight apostrophes."""
    text = unicodedata.normalize("NFKD", re.sub(r"(?<=\w)`(?=\w)", "'", text.translate(_APOSTROPHES)))
    text = "".join(char for char in text if char.isascii() or unicodedata.category(char) not in ("Cf", "Me"))
    text = unicodedata.normalize("NFC", _DIACRITICS.sub("", _PICTURES.sub(" ", text)))
    text = text.translate(_ARABIC).translate(_TRADITIONAL).replace("ँ", "ं").replace("ß", "ss")
    return text.casefold() if lower else text


def scripts_of(text: str) -> list[str]:
    """The scripts that make up a text."""
    counts = {script: len(pattern.findall(text)) for script, pattern in _SCRIPTS.items()}
    if counts["kana"]:  # Japanese has Han characters too
        counts["kana"] += counts.pop("han")
    return [script for script, count in counts.items() if count and count >= _LEAST * sum(counts.values())]


def code_of(text: str) -> list[str]:
    """The lines of code in a text, without comments."""
    lines = "\n".join(_FENCE.findall(text)).split("\n")
    return [line for line in lines if line.strip() and not re.match(r"\s*(?:#|//|--|<!--|/?\*|%)", line)]


def sentences_of(text: str, opens_letter: Callable[[str], object], quoted: bool = True) -> list[Sentence]:
    """The sentences of a folded text without code, quotations, dialogue and what stands below a letter's opening.

    All that is said where it is all quoted or code.

    Args:
        quoted: whether what is all quoted counts as said; not if it is a text that was asked for.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and quoted and all(line.lstrip().startswith(">") for line in lines):
        text = "\n".join(line.lstrip("> ") for line in lines)
    prose = _FENCE.sub("\n", text)
    if not re.search(r"\w", prose):
        prose = text
    prose = _BULLET.sub("", _MARKUP.sub(lambda match: match[1] or "", _BULLET.sub("", prose)))
    said = _without_scenes(prose, opens_letter)
    unquoted = _QUOTED.sub(lambda match: f" {_QUOTATION} " if _is_long(match[0]) else " ", said)
    beside = _LABEL.sub("", unquoted).replace(_QUOTATION, " ")
    whole = _LABEL.sub("", prose) if quoted and said == prose and not re.search(r"\w", beside) else unquoted
    parts = [
        (" ".join(part.replace(_QUOTATION, " ").split()), part.count(_QUOTATION)) for part in _SENTENCE_END.split(whole)
    ]
    return [Sentence(words, quotes) for words, quotes in parts if quotes or re.search(r"\w", words)]


def _is_long(quotation: str) -> bool:
    return (
        len(quotation.split()) >= _QUOTED_WORDS or len(re.findall(r"[\u3040-\u9fff]", quotation)) >= 2 * _QUOTED_WORDS
    )


def _without_scenes(text: str, opens_letter: Callable[[str], object]) -> str:
    lines = text.split("\n")
    opening = next((n for n, line in enumerate(lines[:12]) if opens_letter(line.strip()) and len(line) < 80), None)
    if opening is not None and len([line for line in lines[opening:] if line.strip()]) > 2:
        text = "\n".join(lines[:opening])
    text = _DIALOGUE.sub("", text)
    speakers = _SPEAKER.findall(text)
    return _SPEAKER.sub("", text) if len(speakers) > 2 and 1 < len(set(speakers)) < len(speakers) else text
