"""Token ids of prompts: one BOS, and a date that stays."""

from datetime import date, datetime

import pytest
from tokenizers.processors import TemplateProcessing

from safespan.errors import ConfigError
from safespan.models.chat import chat_texts, fill_in, with_fixed_date
from safespan.models.prompt_ids import prompt_ids
from tiny_model import CHAT_TEMPLATE, build_tiny_tokenizer

DAY = date(2025, 1, 1)
BOS, A = 1, 6


def tokenizer_that(adds: bool, template: str | None):
    """A tokenizer that adds BOS or does not, with a template that writes it or does not."""
    tokenizer = build_tiny_tokenizer()
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", 2)]
        )
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHAT_TEMPLATE.removeprefix("<bos>"), None])
@pytest.mark.parametrize("adds", [True, False])
def test_a_prompt_begins_with_one_bos_if_the_model_uses_one(adds, template):
    tokenizer = tokenizer_that(adds, template)
    uses = adds or template == CHAT_TEMPLATE
    assert prompt_ids(tokenizer, ["a b", "<bos> a", "<bos> <bos> a"]) == [
        [BOS, A, A + 1] if uses else [A, A + 1],
        [BOS, A],
        [BOS, A] if uses else [BOS, BOS, A],
    ]
    if template:
        [text] = chat_texts(tokenizer, ["a"], DAY)
        [ids] = prompt_ids(tokenizer, [text])
        assert ids.count(BOS) == uses
        assert ids[uses:] == tokenizer.convert_tokens_to_ids(["<user>", "a", "<bot>"])


def test_a_tokenizer_may_put_other_tokens_before_a_text():
    """As ChatGLM does: [gMASK] <sop>."""
    tokenizer = tokenizer_that(adds=False, template=None)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<user> <bot> $A", special_tokens=[("<user>", 4), ("<bot>", 5)]
    )
    assert prompt_ids(tokenizer, ["a", "<user> <bot> a"]) == [[4, 5, A], [4, 5, A]]


def test_the_date_in_a_template_is_the_one_that_is_set():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = "{% set today = strftime_now('%d %b %Y') %}{{ today }} {{ strftime_now(\"%Y\") }}"
    turns = [{"role": "user", "content": "a"}]
    assert fill_in(tokenizer, turns, DAY) == "01 Jan 2025 2025"
    now = str(tokenizer.apply_chat_template(turns, tokenize=False))
    assert now == f"{datetime.now():%d %b %Y %Y}"  # what it would be otherwise


def test_a_date_with_a_computed_format_is_refused():
    with pytest.raises(ConfigError, match="in another way than strftime_now"):
        with_fixed_date("{{ strftime_now(form) }}", DAY)
    with pytest.raises(ConfigError, match="in another way than strftime_now"):
        with_fixed_date("{% set now = strftime_now %}{{ now('%Y') }}", DAY)


def test_a_date_with_a_space_and_a_question_whether_there_is_one():
    template = "{% if strftime_now is defined %}{{ strftime_now ('%Y') }}{% endif %}"
    assert f'"{DAY.year}"' in with_fixed_date(template, DAY)
    assert "strftime_now is defined" in with_fixed_date(template, DAY)
