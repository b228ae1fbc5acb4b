"""Prompts in chat templates: turns that are carried, templates that fail, and templates that leave something out."""

import pytest

from safespan.data import Conversation
from safespan.errors import CheckpointError
from safespan.models.chat import chat_texts, turn_end
from tiny_model import build_tiny_tokenizer

TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]
PARTS = "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
NO_SYSTEM = "{% for m in messages if m['role'] != 'system' %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}<bot>"


def tokenizer(template: str | None = None):
    made = build_tiny_tokenizer()
    made.name_or_path = "org/m"
    made.chat_template = template or made.chat_template
    return made


def test_a_text_is_a_turn_and_a_conversation_is_its_turns() -> None:
    texts = chat_texts(tokenizer(), ["a b", Conversation(TURNS)])
    assert texts[0] == "<bos> <user> a b <bot> "
    assert (
        texts[1] == "<bos> <bot> s <user> a <bot> b <eos> <user> c <bot> "
    )  # the tiny template has two kinds of turns


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ tools[0].name }}{{ messages[0]['content'] }}", r"its chat template fails \(None has no element 0\); mend"),
        ("{{ raise_exception('give a date') }}", r"its chat template fails \(give a date\); mend chat_template.jinja"),
        ("{{ 'x' + messages }}", r"its chat template fails \(can only concatenate str"),
        ("{% for m in messages %}", "its chat template fails"),
        (PARTS, "its chat template leaves out what the user says, given as plain text"),
        ("<user> <bot>", "its chat template leaves out what the user says"),
    ],
)
def test_a_template_that_fails_or_drops_the_prompt_is_an_error_of_one_line(template: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^org/m: {says}") as caught:
        chat_texts(tokenizer(template), ["zebra"])
    assert "\n" not in str(caught.value)


def test_a_template_may_change_the_words_but_not_leave_out_the_system() -> None:
    assert chat_texts(tokenizer("{{ messages[0]['content'] | upper }}"), ["ab"]) == ["AB"]
    assert chat_texts(tokenizer(NO_SYSTEM), ["a"]) == ["<user> a <bot>"]
    with pytest.raises(CheckpointError, match="leaves out what the system says, given as plain text \\('s'\\)"):
        chat_texts(tokenizer(NO_SYSTEM), [Conversation(TURNS)])


def test_what_the_template_writes_behind_an_answer() -> None:
    assert turn_end(tokenizer()) == "<eos>"
    assert turn_end(tokenizer(NO_SYSTEM.removesuffix("<bot>"))) == ""
    assert turn_end(tokenizer("{% for m in messages %}{{ m['content'] }}<|end|>\n{% endfor %}")) == "<|end|>"
