"""A model that answers nothing and counts what it is asked, so that counts come from the code that asks."""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedTokenizerBase

from safespan.evaluation.harness import prepare_harness
from safespan.evaluation.harness_models import under_test
from safespan.evaluation.model import ModelUnderTest
from safespan.evaluation.prompting import ChatFormat
from safespan.study.costs.work import Work

_DEFAULT_TOKENS, _DEFAULT_CONTEXT = 256, 2048
"""lm-eval's own, where a task or a model's configuration says nothing."""


class _Counter(TemplateLM):  # type: ignore[misc]
    """Counts requests and tokens.

    Args:
        batch_size: prompts that the model of the run would be given together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int | None, batch_size: int) -> None:
        super().__init__()
        self.tokenizer, self.batch_size = tokenizer, batch_size
        self.max_length, self.max_gen_toks = context or _DEFAULT_CONTEXT, _DEFAULT_TOKENS
        self.counted = Work()

    @property
    def eot_token_id(self) -> int:
        return int(self.chat_format.ends[0])

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=bool(add_special_tokens))
        return ids

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Empty answers; requests of other settings are not in one batch, and the longest of a batch ends it."""
        groups: dict[str, list[int]] = {}
        for request in requests:
            groups.setdefault(str(request.args[1]), []).append(int(request.args[1]["max_gen_toks"]))
        new = sum(sum(lengths) for lengths in groups.values())
        passes = sum(max(lengths) * -(-len(lengths) // self.batch_size) for lengths in groups.values())
        read = sum(len(self.tok_encode(str(request.args[0]))) for request in requests)
        self.counted += Work(responses=len(requests), prompt_tokens=read, new_tokens=new, generation_passes=passes)
        return [""] * len(requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Likelihoods of zero. Answers that differ in their last token alone are read once, as lm-eval does."""
        read = {(*context, *answer[:-1]) for _, context, answer in requests}
        self.counted += Work(
            likelihoods=len(requests),
            scored_tokens=sum(map(len, read)),
            scoring_passes=-(-len(read) // self.batch_size),
        )
        return [(0.0, True)] * len(requests)


def counting_model(chat_format: ChatFormat, context: int | None) -> tuple[ModelUnderTest, _Counter]:
    """A model under test that counts, and what counts in it."""
    prepare_harness()
    lm = under_test(_Counter)(chat_format.tokenizer, context, chat_format.config.engine.batch_size)
    lm.use(chat_format)
    return ModelUnderTest(lm, chat_format), lm
