"""Where the user's instruction ends in a prompt, before what the chat template writes behind it (arXiv 2507.11878)."""

from collections.abc import Sequence
from datetime import date

from transformers import PreTrainedTokenizerBase

from safespan.data import turns_of
from safespan.models.chat import chat_texts
from safespan.models.prompt_ids import prompt_ids
from safespan.settings.base import TEMPLATE_DATE


def instruction_ends(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    encoded: Sequence[Sequence[int]],
    day: date = TEMPLATE_DATE,
) -> list[int] | None:
    """The place of the last token of each prompt's last instruction; without a chat template, the last token.

    A token that holds the end of the instruction and what follows counts as its last.

    Args:
        tokenizer: of the model.
        prompts: texts, some of which may carry several turns.
        encoded: their token ids, in the chat template if there is one.
        day: today, for templates that ask for it.

    Returns:
        Indices into each prompt's ids; None where the template does not write some instruction as it is.
    """
    if tokenizer.chat_template is None:
        return [len(ids) - 1 for ids in encoded]
    beginnings = []
    for prompt, text in zip(prompts, chat_texts(tokenizer, prompts, day), strict=True):
        asked = [turn["content"].strip() for turn in turns_of(prompt) if turn["role"] == "user"]
        start = text.rfind(asked[-1]) if asked and asked[-1] else -1
        if start < 0:
            return None
        beginnings.append(text[: start + len(asked[-1])])
    pairs = zip(prompt_ids(tokenizer, beginnings), encoded, strict=True)
    return [_end(beginning, whole) for beginning, whole in pairs]


def _end(beginning: Sequence[int], whole: Sequence[int]) -> int:
    """The last token of a prompt that begins with these ids, but for those that the text behind them has changed."""
    same = 0
    while same < min(len(beginning), len(whole)) and beginning[same] == whole[same]:
        same += 1
    return same - 1 if same == len(beginning) else min(same, len(whole) - 1)
