"""Where an instruction ends in its prompt, against the characters that a tokenizer gives each token."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from safespan.activations.capture import encode
from safespan.activations.instruction import instruction_ends
from safespan.data import Conversation
from tiny_model import build_tiny_tokenizer

TURNS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}{% endfor %}"


def letters(template: str | None, bos: bool = False) -> PreTrainedTokenizerFast:
    """A token a character, but for `ab`, which may cross the end of an instruction."""
    vocabulary = {letter: number for number, letter in enumerate([*"abcdefghijklmnopqrstuvwxyz[] \n", "<s>", "ab"])}
    core = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>" if bos else None)
    tokenizer.chat_template = template
    return tokenizer


def by_characters(tokenizer, text: str, instruction: str) -> int:
    """The token that holds the last character of the last such instruction."""
    last = text.rindex(instruction) + len(instruction) - 1
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    [found] = [number for number, (start, end) in enumerate(offsets) if start <= last < end]
    return found


@pytest.mark.parametrize("behind", ["[end]", "b", "bbb", " ", ""])
@pytest.mark.parametrize("bos", [False, True])
def test_it_is_the_token_that_holds_the_last_character(behind, bos):
    tokenizer = letters(("<s>" if bos else "") + TURNS + behind, bos)
    prompts = ["do a", "a", "is it\nlate ", "user"]
    encoded = encode(tokenizer, prompts, chat_template=True)
    ends = instruction_ends(tokenizer, prompts, encoded)
    for prompt, end in zip(prompts, ends, strict=True):
        text = ("<s>" if bos else "") + f"[user]{prompt.strip()}{behind}"
        assert end == by_characters(tokenizer, text, prompt.strip())


def test_of_several_turns_it_is_the_last_of_the_user():
    tokenizer = letters(TURNS + "[end]")
    turns = Conversation(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "one"},
        ]
    )
    [end] = instruction_ends(tokenizer, [turns], encode(tokenizer, [turns], chat_template=True))
    assert end == by_characters(tokenizer, "[user]one[assistant]two[user]one[end]", "one")


def test_without_a_template_it_is_the_last_token():
    tokenizer = letters(None)
    assert instruction_ends(tokenizer, ["ab", "cab"], encode(tokenizer, ["ab", "cab"], chat_template=True)) == [0, 1]


def test_a_template_that_rewrites_an_instruction_leaves_no_end():
    tokenizer = letters("{% for m in messages %}{{ m['content'] | replace('x', 'y') }}{% endfor %}[end]")
    prompts = ["one", "xo"]
    assert instruction_ends(tokenizer, prompts, encode(tokenizer, prompts, chat_template=True)) is None
    assert instruction_ends(tokenizer, ["one"], encode(tokenizer, ["one"], chat_template=True)) == [2]


def test_in_the_tiny_models_template_one_token_follows():
    tokenizer = build_tiny_tokenizer()
    encoded = encode(tokenizer, ["a b", "c"], chat_template=True)
    assert torch.equal(torch.tensor(instruction_ends(tokenizer, ["a b", "c"], encoded)), torch.tensor([3, 2]))
