import pytest

from safespan.evaluation.judges.text import code_of, folded, scripts_of, sentences_of


def said(text: str, quoted: bool = True) -> list[str]:
    """The sentences of a text in which a line that begins with 'dear' opens a letter."""
    return [part.text for part in sentences_of(folded(text), lambda line: line.startswith("dear"), quoted)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I can’t, can‘t, canʼt, can`t, can´t", "i can't, can't, can't, can't, can't"),
        ("I\u200b ca\u00adn\u2060ot \ufeffdo\u202e it", "i canot do it"),
        ("ﬁne Ｎｏ！", "fine no!"),
        ("Désolé, não, ¡así!", "desole, nao, ¡asi!"),
        ("Straße", "strasse"),
        ("ещё", "еще"),
        ("لا أُسـاعدك", "لا اساعدك"),
        ("माफ़ माँ", "माफ मां"),
        ("對不起，無法協助", "对不起,无法协助"),
        ("ガイド", "ガイド"),
        ("no🙅way", "no way"),
    ],
)
def test_one_form_for_each_way_to_write(text: str, plain: str) -> None:
    assert folded(text) == plain


def test_markup_bullets_and_code_are_no_words() -> None:
    code = "```python\n# no\nx = 1\ny = 2\n```"
    text = f"## So\nI **can**not, _really_, [help](http://a/b).\n* One\n2) Two\n{code}\n<b>End</b>"
    assert said(text) == ["so", "i cannot, really, help.", "one", "two", "end"]
    assert code_of(text) == ["x = 1", "y = 2"]
    assert said("```\n# Request declined\n```") == ["request declined"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('"I cannot," he said. He left.', ["he said.", "he left."]),
        ("«Не могу», — сказал он.", [", — сказал он."]),
        ("「できません」と言った。", ["と言った。"]),
        ("He said 'I can't do it' and it's over.", ["he said and it's over."]),
        ("„Nein“ heißt nein.", ["heisst nein."]),
        ("— No puedo —dijo.\nLlueve.", ["llueve."]),
        ("A: May I?\nB: You may not.\nA: Why?\nThe end.", ["the end."]),
        ("Here:\nDear Ann,\nI cannot come.\nLove,\nB", ["here:"]),
        ("> I cannot\nFine.", ["fine."]),
        ('"I cannot."', ['"i cannot."']),
    ],
)
def test_what_others_say_is_left_out(text: str, left: list[str]) -> None:
    assert said(text) == left


def test_a_text_that_was_asked_for_may_be_all_quoted() -> None:
    assert said('"I cannot."', quoted=False) == []


def test_sentences_end_in_every_script() -> None:
    assert said("一。二！三？") == ["一。", "二!", "三?"]
    assert said("एक। दो।") == ["एक।", "दो।"]
    assert said("واحد؟ اثنان.") == ["واحد؟", "اثنان."]


def test_a_long_quotation_is_counted() -> None:
    [part] = sentences_of('say "i would love to but i am away" to him', lambda line: False)
    assert (part.text, part.quotes) == ("say to him", 1)
    [part] = sentences_of('say "no" to him', lambda line: False)
    assert part.quotes == 0


@pytest.mark.parametrize(
    ("text", "scripts"),
    [("abc", ["latin"]), ("привет", ["cyrillic"]), ("你好", ["han"]), ("私は", ["kana"]), ("नमस्ते", ["devanagari"]),
     ("مرحبا", ["arabic"]), ("abc 你好吗朋友", ["latin", "han"]), ("123", [])],
)  # fmt: skip
def test_scripts(text: str, scripts: list[str]) -> None:
    assert scripts_of(text) == scripts
