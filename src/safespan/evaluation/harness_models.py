"""lm-eval's models, made to ask all of a prompt, to begin it with one BOS, and to give the answer alone."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.api_models import TemplateAPI
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from transformers import PreTrainedTokenizerBase

from safespan.data.conversations import Turn
from safespan.errors import DataError
from safespan.evaluation.prompting import ChatFormat
from safespan.models.prompt_ids import prompt_ids

_SHOWN = 80
"""Characters of a prompt in a message."""


@functools.cache
def under_test(kind: type[Any]) -> type[Any]:
    """A class of lm-eval's models with the changes of this module. A model without a tokenizer of its own has few."""
    own: tuple[type, ...] = (_UnderTest,)
    if issubclass(kind, HFLM):
        own = (_OfTransformers,)
    elif kind.__module__ == "lm_eval.models.vllm_causallms":  # to import it takes seconds
        own = (_OfVllm,)
    return type(kind.__name__, (*own, kind), {})


class _UnderTest:
    """What replaces methods of an lm-eval model."""

    chat_format: ChatFormat
    tokenizer: Any
    max_length: int
    max_gen_toks: int
    beyond_context = 1
    """Tokens that a prompt and its answer may have beyond the context, for a likelihood: the last one is not read."""

    def use(self, chat_format: ChatFormat) -> None:
        """Prompt the model in this format."""
        self.chat_format = chat_format
        if self._encodes:
            self.tokenizer = chat_format.tokenizer

    @property
    def _encodes(self) -> bool:
        """Whether texts become tokens here, and not on a server."""
        return isinstance(getattr(self, "tokenizer", None), PreTrainedTokenizerBase)

    def apply_chat_template(self, chat_history: list[Turn], add_generation_prompt: bool = True) -> Any:
        """A prompting as text; for a server that has the template itself, as it is."""
        on_server = isinstance(self, TemplateAPI) and not self.tokenized_requests
        if on_server or not self._encodes:
            return super().apply_chat_template(chat_history, add_generation_prompt)  # type: ignore[misc]
        return self.chat_format.chat(chat_history, add_generation_prompt)

    def tok_encode(self, string: Any, *given: Any, **options: Any) -> Any:
        """Token ids of a text, or of each of several, that a prompt begins with."""
        bare = options.get("add_special_tokens") is False and not isinstance(self, TemplateAPI)
        if bare or not self._encodes:  # an answer without a prompt; a server's default is False for prompts too
            return super().tok_encode(string, *given, **options)  # type: ignore[misc]
        texts = [string] if isinstance(string, str) else list(string)
        ids = prompt_ids(self.tokenizer, texts)
        return ids[0] if isinstance(string, str) else ids

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, without thinking; each as long as its own prompt leaves room for.

        Raises:
            DataError: a prompt fills the model's context.
        """
        settings = [self._settings(request) for request in requests]
        prompts, chat_format = [str(request.args[0]) for request in requests], self.chat_format
        # What ends an answer may stand in the thinking before it, so it is looked for in the answer alone.
        said = self._said(requests, settings, chat_format.may_think, disable_tqdm)
        thinks = list(range(len(requests))) if chat_format.may_think else []
        if not thinks:  # of a model that thinks though its template does not say so, such an end was taken for one
            cut = zip(range(len(requests)), prompts, said, strict=True)
            thinks = [n for n, prompt, text in cut if settings[n]["until"] and chat_format.is_thinking(prompt, text)]
            again = self._said([requests[n] for n in thinks], [settings[n] for n in thinks], True, disable_tqdm)
            for n, text in zip(thinks, again, strict=True):
                said[n] = text
        answers = [chat_format.answer(prompt, text) for prompt, text in zip(prompts, said, strict=True)]
        for n in thinks:
            answers[n] = postprocess_generated_text(answers[n], settings[n]["until"], None).strip()
        return answers

    def _said(
        self, requests: list[Instance], settings: list[dict[str, Any]], whole: bool, disable_tqdm: bool
    ) -> list[str]:
        """What the model says; `whole`: to the end of its turn, whatever the task takes for an end."""
        later: dict[str, list[str]] = {"until": []} if whole else {}
        pairs = zip(requests, settings, strict=True)
        asked = [replace(request, arguments=(request.args[0], given | later)) for request, given in pairs]
        return list(super().generate_until(asked, disable_tqdm=disable_tqdm)) if asked else []  # type: ignore[misc]

    def _settings(self, request: Instance) -> dict[str, Any]:
        """Of one request: greedy, whatever the task says, and no longer than the context allows."""
        prompt, given = request.args
        known = normalize_gen_kwargs(given, self.max_gen_toks)
        longest = int(known["max_gen_toks"])
        if self._encodes:
            longest = min(longest, self._room(prompt))
        return {"until": list(known["until"]), "do_sample": False, "max_gen_toks": longest}

    def _room(self, prompt: str) -> int:
        length = len(self.tok_encode(prompt))
        if length >= self.max_length:
            raise DataError(
                f"a prompt of {length} tokens fills the model's context of {self.max_length} tokens: "
                f"{prompt[:_SHOWN]!r}; leave it out, or give fewer worked examples"
            )
        return self.max_length - length

    def _loglikelihood_tokens(self, requests: Sequence[Any], *given: Any, **options: Any) -> Any:
        """Likelihoods, after a check that nothing would be cut."""
        room = self.max_length + self.beyond_context
        for (context, answer), context_ids, answer_ids in requests:
            length = len(context_ids) + len(answer_ids)
            if length > room:
                limit = f", of which the engine can score {room}" if room < self.max_length else ""
                raise DataError(
                    f"a prompt and its answer of {length} tokens do not fit into the model's "
                    f"context of {self.max_length}{limit}: {(context or answer)[:_SHOWN]!r}"
                )
        return super()._loglikelihood_tokens(requests, *given, **options)  # type: ignore[misc]


class _Decoding(_UnderTest):
    """What replaces the text of an answer, where its tokens are known."""

    @property
    def eot_token_id(self) -> int:
        """The first token that ends an answer."""
        return self.chat_format.ends[0]

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Text of tokens; the markers of thinking stay in it where they are special tokens."""
        thinking = self.chat_format.config.thinking
        markers = [one for one in (thinking.start, thinking.end) if one in self.tokenizer.all_special_tokens]
        special = {self.tokenizer.convert_tokens_to_ids(one): one for one in markers}
        ids = [tokens] if isinstance(tokens, int) else list(tokens)
        if not skip_special_tokens or special.keys().isdisjoint(ids):
            return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
        pieces: list[str] = []
        current: list[int] = []
        for one in ids:
            if one in special:
                pieces += [str(self.tokenizer.decode(current, skip_special_tokens=True)), special[one]]
                current = []
            else:
                current.append(one)
        return "".join([*pieces, str(self.tokenizer.decode(current, skip_special_tokens=True))])


class _OfTransformers(_Decoding):
    """What replaces methods of lm-eval's model of Transformers."""

    model: Any

    def use(self, chat_format: ChatFormat) -> None:
        """Prompt the model in this format; its own generation configuration is replaced."""
        super().use(chat_format)
        self.model.generation_config = chat_format.generation_config

    def tok_batch_encode(
        self, strings: Sequence[str], padding_side: str = "left", **_options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids of several prompts, padded, and their attention mask; they fit, as each has been checked."""
        rows = prompt_ids(self.tokenizer, strings)
        width = max(map(len, rows))
        pad = int(self.chat_format.generation_config.pad_token_id)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            place = slice(width - len(row), width) if padding_side == "left" else slice(len(row))
            ids[number, place], mask[number, place] = torch.tensor(row), 1
        return ids, mask


class _OfVllm(_Decoding):
    """What replaces methods of lm-eval's model of vLLM."""

    beyond_context = -1  # it generates a token behind what it scores, and lm-eval cuts what leaves no room for it

    def _model_generate(self, requests: list[list[int]], generate: bool = False, *given: Any, **options: Any) -> Any:
        """Outputs whose texts are what Transformers makes of the tokens."""
        outputs = super()._model_generate(requests, generate, *given, **options)  # type: ignore[misc]
        for output in outputs if generate else ():
            [said] = output.outputs
            said.text = self.tok_decode(list(said.token_ids))
        return outputs
