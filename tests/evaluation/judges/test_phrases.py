import re
from pathlib import Path

import pytest

from safespan.evaluation.judges import phrases
from safespan.evaluation.judges.phrases import SECTIONS, language_of, phrases_for

LANGUAGES = [language for script in phrases.SCRIPTS.values() for language in script]


def test_every_language_has_a_file_and_every_file_a_language() -> None:
    files = sorted((Path(phrases.__file__).parent / "phrases").glob("*.txt"))
    assert [path.stem for path in files] == sorted(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_section_is_known_and_no_pattern_matches_nothing(language: str) -> None:
    sections = phrases._sections(language)
    assert set(sections) <= SECTIONS | {"pronoun", "prefix", "begin"}
    assert {"refusal", "soft", "moral", "offer", "answer", "step", "deed"} <= set(sections)
    for section in set(sections) & SECTIONS:
        assert not re.compile(phrases._pattern(language, section)).search(" "), section
        assert not phrases._pattern(language, section).search("zzz zzz"), section


def test_a_continued_line_is_one_pattern_and_words_are_put_in(tmp_path, monkeypatch) -> None:
    (tmp_path / "made.txt").write_text(
        "# Made up.\n[words]\nnot = nope\n    |nay\n\n[refusal]\ni {not} {verb}\n\n[verb]\ndo\n    |go\n"
    )
    monkeypatch.setattr(phrases, "_FOLDER", tmp_path)
    pattern = phrases._pattern.__wrapped__
    monkeypatch.setattr(phrases, "_sections", phrases._sections.__wrapped__)
    refusal = pattern("made", "refusal")
    assert refusal.search("well, i nay go.")
    assert not refusal.search("i nay gone")
    assert not refusal.search("xi nay go")


@pytest.mark.parametrize(
    ("response", "language"),
    [
        ("I cannot help you with that.", "english"),
        ("Das kann ich leider nicht.", "german"),
        ("Lo siento, no puedo ayudarte con eso.", "spanish"),
        ("Je ne peux pas vous aider.", "french"),
        ("Não posso ajudar você com isso.", "portuguese"),
        ("Не могу.", "russian"),
        ("我不能。", "chinese"),
        ("できません。", "japanese"),
        ("नहीं।", "hindi"),
        ("لا أستطيع.", "arabic"),
        ("123", "english"),
    ],
)
def test_the_language_of_a_response(response: str, language: str) -> None:
    assert language_of(response) == language


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = phrases_for("a").nonsense
