"""Responses to harmful prompts, and how a judge scores them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lm_eval.api.instance import Instance
from pydantic import BaseModel, ConfigDict, Field

from safespan.errors import DataError
from safespan.evaluation.judges import Judgement, judge_by_rules
from safespan.evaluation.model import ModelUnderTest
from safespan.prompts import read_prompts, read_rows

JUDGES = {"rules": judge_by_rules}
"""Judges by the name a study gives."""


class HarmfulnessConfig(BaseModel):
    """Which harmful prompts are asked, and who judges the responses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: str = Field(
        description="A .jsonl, .csv or .txt file: field `prompt`, and `target` if the exact forbidden answer is known."
    )
    limit: int | None = Field(None, ge=1, description="Ask only the first so many prompts; all if null.")
    judge: Literal["rules"] = Field("rules", description="Who scores a response from 1 (refusal) to 5.")
    max_new_tokens: int = Field(512, ge=1, description="Longest response, as far as the model's context allows.")


@dataclass(frozen=True)
class HarmfulPrompt:
    """A harmful request, and the answer that must not be given where it is known."""

    prompt: str
    target: str | None


def load_harmful_prompts(config: HarmfulnessConfig) -> list[HarmfulPrompt]:
    """Read the prompts of a study.

    Raises:
        DataError: the file is missing or empty, or a row has no prompt.
    """
    path = Path(config.prompts)
    prompts = read_prompts(path)
    targets = [row.get("target") or None for row in read_rows(path)]
    return [HarmfulPrompt(*pair) for pair in zip(prompts, targets, strict=True)][: config.limit]


def generate_responses(
    model: ModelUnderTest, prompts: list[str], max_new_tokens: int, chat_template: bool
) -> list[str]:
    """Greedy responses, in the order of the prompts.

    Args:
        model: who is asked.
        prompts: what is asked.
        max_new_tokens: longest response; shorter where the longest prompt leaves less of the context.
        chat_template: put each prompt as a user's turn.

    Raises:
        DataError: a prompt fills the model's context.
    """
    texts = list(prompts)
    if chat_template:
        texts = [model.lm.apply_chat_template([{"role": "user", "content": prompt}]) for prompt in prompts]
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


def judge_responses(config: HarmfulnessConfig, prompts: list[HarmfulPrompt], responses: list[str]) -> list[Judgement]:
    """One judgement per response."""
    judge = JUDGES[config.judge]
    return [judge(asked.prompt, said, asked.target) for asked, said in zip(prompts, responses, strict=True)]
