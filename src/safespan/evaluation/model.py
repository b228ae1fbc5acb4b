"""The model under test, and the switch that gives it other weights in place."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import torch
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safespan.checkpoints import Checkpoint
from safespan.checkpoints.updates import rounded
from safespan.errors import CheckpointError
from safespan.evaluation.harness import prepare_harness
from safespan.models.loading import load_causal_lm


@dataclass(frozen=True)
class ModelUnderTest:
    """An lm-eval language model, and what is known of it.

    Attributes:
        lm: what utility and harmfulness are measured through.
        tokenizer: the model's tokenizer.
        model: the torch model in evaluation mode, where it runs in this process's memory.
    """

    lm: LM
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel | None = None

    @property
    def has_chat_template(self) -> bool:
        """Whether prompts can be put as a user's turn; a base model often has no template."""
        return self.tokenizer.chat_template is not None


def load_model(checkpoint: Checkpoint, batch_size: int = 512, dtype: str = "auto") -> ModelUnderTest:
    """Load a checkpoint into memory, on a GPU if there is one.

    Args:
        checkpoint: the model; an adapter is merged into its weights.
        batch_size: prompts generated for together.
        dtype: of the weights in memory, such as float32; the checkpoint's own if `auto`.

    Raises:
        CheckpointError: it is not a whole model.
    """
    prepare_harness()
    model, tokenizer = load_causal_lm(checkpoint.folder, dtype, checkpoint.adapter)
    return ModelUnderTest(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size), tokenizer, model)


def add_to_hash(digest: "hashlib._Hash", name: str, tensor: torch.Tensor) -> None:
    """Add a tensor's name and bytes to a hash."""
    digest.update(name.encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


class WeightSwitch:
    """Gives a model other weights in place, tensor by tensor, and its own back.

    As a context manager it restores the model's own weights on leaving. Copies are kept only of tensors that were
    ever replaced. A tied tensor is one tensor here too, under the name the checkpoint stores.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Start with the weights that the model has now as its own."""
        self._tensors = model.state_dict()  # shares its storage with the model
        self._own: dict[str, torch.Tensor] = {}
        self._replaced: set[str] = set()

    @torch.no_grad()
    def set(self, weights: Iterable[tuple[str, torch.Tensor]]) -> str:
        """Make the model its own weights with `weights` in place of the tensors of these names.

        Args:
            weights: (name, tensor) pairs, cast to the dtype of the model's tensor; each is written once.

        Returns:
            SHA-256 of these tensors as the model now holds them: equal where two models are the same bytes.

        Raises:
            CheckpointError: the model has no tensor of that name, or one of another shape, or in fp16 and too small.
        """
        before, self._replaced = self._replaced, set()
        digest = hashlib.sha256()
        for name, tensor in weights:
            if name not in self._tensors:
                raise CheckpointError(f"the model has no tensor named {name}")
            target = self._tensors[name]
            if target.shape != tensor.shape:
                given, expected = list(tensor.shape), list(target.shape)
                raise CheckpointError(f"{name}: given shape {given}, the model's is {expected}")
            if name not in self._own:
                self._own[name] = target.clone()
            target.copy_(rounded(name, tensor, target.dtype))
            self._replaced.add(name)
            add_to_hash(digest, name, target)
        self._give_back(before - self._replaced)
        return digest.hexdigest()

    def restore(self) -> None:
        """Give the model its own weights back, bit for bit."""
        self._give_back(set(self._own))
        self._replaced = set()

    @torch.no_grad()
    def _give_back(self, names: Iterable[str]) -> None:
        for name in names:
            self._tensors[name].copy_(self._own[name])

    def __enter__(self) -> "WeightSwitch":
        """Return the switch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the model."""
        self.restore()
