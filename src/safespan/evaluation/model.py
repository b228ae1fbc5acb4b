"""The model under test, and the switching of its weights in place."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.checkpoints import Checkpoint
from safespan.checkpoints.updates import rounded
from safespan.errors import CheckpointError
from safespan.evaluation.harness import prepare_harness
from safespan.evaluation.harness_models import under_test
from safespan.evaluation.prompting import ChatFormat, Prompting
from safespan.models.chat import in_template
from safespan.models.loading import load_causal_lm
from safespan.models.padding import fit_pad_token
from safespan.models.stored_names import stored_views


@dataclass(frozen=True)
class ModelUnderTest:
    """An lm-eval language model, how it is prompted, and the torch model if it runs in this process."""

    lm: LM
    chat_format: ChatFormat
    model: PreTrainedModel | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return self.chat_format.tokenizer

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer has a chat template; base models often have none."""
        return self.tokenizer.chat_template is not None

    def as_turn(self, prompt: str) -> str:
        """A prompt as a turn of the user, or the turns that it carries, in the chat template."""
        return in_template(prompt, self.lm.apply_chat_template, self.tokenizer.name_or_path)

    def before_answer(self, prompt: str) -> str:
        """The same, up to where the answer begins: thinking that the template opens is closed."""
        text, thinking = self.as_turn(prompt), self.chat_format.config.thinking
        return f"{text}{thinking.end}\n\n" if text.rstrip().endswith(thinking.start) else text

    def generate(self, prompts: Sequence[str], max_new_tokens: int, chat_template: bool) -> list[str]:
        """Greedy responses, in the order of the prompts.

        Args:
            max_new_tokens: longest response, as far as the context allows beside its prompt.
            chat_template: format each prompt as a turn of the user.

        Raises:
            DataError: a prompt fills the model's context.
        """
        texts = [self.as_turn(prompt) for prompt in prompts] if chat_template else list(prompts)
        requests = _requests(
            "generate_until", [(text, {"until": [], "max_gen_toks": max_new_tokens}) for text in texts]
        )
        return [response.strip() for response in self.lm.generate_until(requests)]

    def check_room(self, prompts: Sequence[str], chat_template: bool, what: str, places: Sequence[str] = ()) -> None:
        """Refuse prompts that leave no room for a response, before any is asked.

        Raises:
            DataError: names the first of them by its row.
        """
        self.chat_format.check_room(prompts, chat_template, self.lm.max_length, what, places)

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """log p(answer | context) of each (context, answer).

        Raises:
            DataError: one does not fit into the model's context.
        """
        return [float(value) for value, _ in self.lm.loglikelihood(_requests("loglikelihood", pairs))]


def _requests(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=given, idx=index) for index, given in enumerate(arguments)]


_ALONE = Prompting()


def load_model(checkpoint: Checkpoint, prompting: Prompting = _ALONE) -> ModelUnderTest:
    """Load a checkpoint into memory, on a GPU if there is one.

    Args:
        checkpoint: the model; an adapter is merged into its weights.
        prompting: how it is prompted.

    Raises:
        CheckpointError: it cannot be loaded.
        ConfigError: nothing ends its answers.
    """
    model, tokenizer = load_causal_lm(checkpoint.folder, prompting.config.engine.dtype, checkpoint.adapter)
    return in_memory(model, prompting.format_of(checkpoint, tokenizer))


def in_memory(model: PreTrainedModel, chat_format: ChatFormat) -> ModelUnderTest:
    """A model that is in memory, to be put under test."""
    prepare_harness()
    kind = under_test(HFLM)
    fit_pad_token(chat_format.tokenizer, model)
    lm = kind(pretrained=model, tokenizer=chat_format.tokenizer, batch_size=chat_format.config.engine.batch_size)
    lm.use(chat_format)
    return ModelUnderTest(lm, chat_format, model)


def add_to_hash(digest: "hashlib._Hash", name: str, tensor: torch.Tensor) -> None:
    """Add a tensor's name and bytes to a hash."""
    digest.update(name.encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


class WeightSwitch(AbstractContextManager["WeightSwitch"]):
    """Replaces the weights of a model in place, tensor by tensor, and restores them.

    As a context manager it restores the model's own weights on leaving. It keeps copies only of tensors that were
    replaced. Tied tensors count once. Names and shapes are those of the files.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._tensors = stored_views(model)
        self._own: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def set(self, weights: Iterable[tuple[str, torch.Tensor]]) -> str:
        """Replace the tensors named in `weights`; all other tensors have the model's own values.

        Args:
            weights: (name, tensor) pairs, cast to the dtype of the model's tensor.

        Returns:
            SHA-256 of these tensors in the model's dtype: equal for equal weights.

        Raises:
            CheckpointError: the model has no tensor of that name or shape, or a number is too large for fp16.
        """
        replaced = set()
        digest = hashlib.sha256()
        for name, tensor in weights:
            if name not in self._tensors:
                raise CheckpointError(f"the model has no tensor named {name}")
            target = self._tensors[name]
            if target.shape != tensor.shape:
                raise CheckpointError(f"{name}: given shape {list(tensor.shape)}, the model's is {list(target.shape)}")
            if name not in self._own:
                self._own[name] = target.clone()
            target.copy_(rounded(name, tensor, target.dtype))
            replaced.add(name)
            add_to_hash(digest, name, target)
        for name in self._own.keys() - replaced:
            self._tensors[name].copy_(self._own[name])
        return digest.hexdigest()

    def restore(self) -> None:
        """Restore the model's own weights, bit for bit."""
        self.set([])

    def __exit__(self, *_: object) -> None:
        """Restore the model."""
        self.restore()
