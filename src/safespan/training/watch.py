"""A look at the model while it is trained, which changes nothing of the training."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState

Call = Callable[[PreTrainedModel, PreTrainedTokenizerBase, int, int], None]


@dataclass(frozen=True)
class Watch:
    """What is called as a training goes on.

    Attributes:
        call: with the model, its tokenizer, the optimizer steps done and all steps. The model is in eval mode, without
            gradients, and answers as the model that would be written at that step, its LoRA included.
        at: the shares of all steps, in (0, 1], after which it is called; by default six points and the end.
    """

    call: Call
    at: tuple[float, ...] = tuple(point / 7 for point in range(1, 8))

    def steps(self, max_steps: int) -> set[int]:
        """The optimizer steps after which it is called."""
        return {max(1, round(share * max_steps)) for share in self.at}


class Watching(TrainerCallback):
    """Calls a watch at the end of its steps, whose loss is known by then; every process of a run on several does."""

    def __init__(self, watch: Watch, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self._watch, self._tokenizer = watch, tokenizer
        # The LoRA's layers stand in the body, so that it answers as the whole.
        self._model: Any = model.get_base_model() if isinstance(model, PeftModel) else model

    def on_log(self, args: object, state: TrainerState, control: object, **kwargs: Any) -> None:
        """Call the watch, if what is logged is one of its steps."""
        if "loss" in kwargs["logs"] and state.global_step in self._watch.steps(state.max_steps):
            with _as_written(self._model), _same_randomness(), torch.no_grad():
                self._watch.call(self._model, self._tokenizer, state.global_step, state.max_steps)


@contextmanager
def _as_written(model: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode, without what TRL and Accelerate put around its forward pass (bf16 arithmetic)."""
    around = model.__dict__.pop("forward", None)
    model.eval()
    try:
        yield
    finally:
        model.train()
        if around is not None:
            model.__dict__["forward"] = around


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Random numbers go on afterwards as if none had been drawn inside."""
    own, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)
