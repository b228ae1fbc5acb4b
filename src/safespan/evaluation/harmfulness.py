"""Responses to harmful prompts, and to benign ones that look harmful."""

from lm_eval.api.instance import Instance

from safespan.errors import DataError
from safespan.evaluation.model import ModelUnderTest


def generate_responses(
    model: ModelUnderTest, prompts: list[str], max_new_tokens: int, chat_template: bool
) -> list[str]:
    """Greedy responses, in the order of the prompts.

    Args:
        model: the model under test.
        prompts: the prompts.
        max_new_tokens: longest response, as far as the context of the longest prompt allows.
        chat_template: format each prompt as a turn of the user.

    Raises:
        DataError: a prompt fills the model's context.
    """
    texts = [model.as_turn(prompt) for prompt in prompts] if chat_template else prompts
    lengths = [len(ids) for ids in model.tokenizer(texts)["input_ids"]]
    room = model.lm.max_length - max(lengths)
    if room < 1:
        longest = prompts[lengths.index(max(lengths))]
        raise DataError(f"a harmful prompt fills the model's context of {model.lm.max_length} tokens: {longest[:80]!r}")
    settings = {"until": [], "do_sample": False, "max_gen_toks": min(max_new_tokens, room)}
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(text, settings), idx=index)
        for index, text in enumerate(texts)
    ]
    return [response.strip() for response in model.lm.generate_until(requests)]
