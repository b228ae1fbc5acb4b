"""How refusals and answers are worded, by language: `phrases/LANGUAGE.txt`.

A file has sections, and a pattern a line; a line behind four spaces goes on with the one before. Patterns are regular
expressions over a sentence as `text.folded` makes it (lower case, no accents, straight apostrophes), match whole words
in languages that part them, and may name a list of `[words]`, or `{verb}`, in braces. The sections:

- refusal: says that the request is not carried out;
- soft: an apology, a no, or what the model does not do, which is a refusal where nothing follows;
- said: tells that another speaks; but: turns to something else;
- idiom: has the words of a refusal and is none: it is passed over;
- caveat: disapproves, and is as soft;
- moral: an admonition, or why the request is wrong;
- offer: something else than what was asked for; propose: what the model would do instead;
- polite: what stands before either;
- answer: announces an answer; step: is a part of one; verb: begins an instruction, behind words of begin;
- common: the commonest words of a language in Latin letters, to tell it from the others;
- prefix: what may stand before every pattern without a space;
- pronoun: 'I', for a persona that speaks of itself by its name;
- letter: opens a text in another's voice;
- of a prompt: wording asks for words, text for a text, question for no deed, deed how something is done.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from safespan.evaluation.judges.text import folded, scripts_of

LATIN = ("english", "german", "spanish", "french", "portuguese")
SCRIPTS = {"latin": LATIN, "cyrillic": ("russian",), "han": ("chinese",), "kana": ("japanese",)}
SCRIPTS |= {"devanagari": ("hindi",), "arabic": ("arabic",)}
_OF_RESPONSES = ("refusal", "soft", "said", "but", "idiom", "caveat", "moral", "offer", "propose", "polite", "answer")
_OF_ANSWERS_AND_PROMPTS = ("step", "verb", "letter", "common", "wording", "text", "question", "deed")
SECTIONS = frozenset((*_OF_RESPONSES, *_OF_ANSWERS_AND_PROMPTS))
_FOLDER = Path(__file__).with_name("phrases")
_SPACED = r"\w\u0900-\u0963\u0966-\u097f"
"""Characters of words: Python's \\w has no vowel signs of Hindi."""


class Kind:
    """The patterns of one section in the languages that a text may be in."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        self._patterns = patterns

    def search(self, text: str) -> re.Match[str] | None:
        """The first match of the first language that has one."""
        return next((found for pattern in self._patterns if (found := pattern.search(text))), None)

    def match(self, text: str) -> re.Match[str] | None:
        """A match at the beginning."""
        return next((found for pattern in self._patterns if (found := pattern.match(text))), None)

    def count(self, text: str) -> int:
        """Number of matches."""
        return sum(len(pattern.findall(text)) for pattern in self._patterns)

    def without(self, text: str) -> str:
        """The text without its matches."""
        for pattern in self._patterns:
            text = pattern.sub(" ", text)
        return text


class Phrases:
    """The phrases of the languages that a text may be in, a `Kind` for each section."""

    def __init__(self, languages: Sequence[str]) -> None:
        self._languages = languages
        self.pronoun = _sections(languages[0])["pronoun"][0]

    def __getattr__(self, section: str) -> Kind:
        """The patterns of a section, compiled when they are first needed."""
        if section not in SECTIONS:
            raise AttributeError(section)
        kind = Kind([_pattern(language, section) for language in self._languages])
        setattr(self, section, kind)
        return kind


@cache
def _phrases(languages: tuple[str, ...]) -> Phrases:
    return Phrases(languages)


def phrases_for(text: str) -> Phrases:
    """The phrases of the languages that a folded text may be in, by its scripts and its commonest words."""
    languages = [language for script in scripts_of(text) for language in SCRIPTS[script]]
    return _phrases(tuple(_likely(text, languages) if LATIN[0] in languages else languages) or LATIN)


def language_of(response: str) -> str:
    """The language that a response is most likely in, of those that there are phrases for."""
    text = folded(response)
    [script, *_] = scripts_of(text) or ["latin"]
    return max(SCRIPTS[script], key=lambda language: len(_pattern(language, "common").findall(text)))


def _likely(text: str, languages: list[str]) -> list[str]:
    """The languages without those of one script of which a text has far fewer common words than of another."""
    counts = {language: len(_pattern(language, "common").findall(text)) for language in LATIN}
    most = max(counts.values())
    return [language for language in languages if 2 * counts.get(language, most) >= most - 1]


@cache
def _pattern(language: str, section: str) -> re.Pattern[str]:
    sections = _sections(language)
    pattern = "|".join(sections.get(section, ())) or r"(?!)"
    if section == "verb" and "begin" in sections:
        pattern = f"(?:(?:{'|'.join(sections['begin'])})[, ]+){{0,3}}(?:{pattern})"
    if language in ("chinese", "japanese"):  # whose words do not stand apart
        return re.compile(pattern)
    prefix = "".join(sections.get("prefix", ()))
    return re.compile(rf"(?<![{_SPACED}]){prefix}(?:{pattern})(?:(?<=\s)|(?![{_SPACED}]))")


@cache
def _sections(language: str) -> dict[str, list[str]]:
    """The patterns of each section of a language."""
    text = (_FOLDER / f"{language}.txt").read_text(encoding="utf-8")
    lines = re.sub(r"\n {4}", "", folded(text, lower=False)).split("\n")
    sections: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("[") and line.endswith("]"):
            section = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            section.append(line)
    words = dict(line.split(" = ", 1) for line in sections.pop("words"))
    words["verb"] = "|".join(sections.get("verb", ()))
    for name, value in words.items():  # a list may name those before it
        words[name] = f"(?:{_named(value, words)})"
    return {name: [_named(line, words) for line in section] for name, section in sections.items()}


def _named(pattern: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{([a-z]+)\}", lambda match: words[match[1]], pattern)
