"""The end of a training that diverges."""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerState, TrainingArguments

from safespan.errors import ConfigError
from safespan.settings.training import TrainingConfig
from safespan.training.resume import COMPLETE, step_of


class StopIfDiverged(TrainerCallback):
    """Ends a training at the first step whose loss or weights are not finite, before they are saved or looked at.

    A gradient that is not finite ends it if weights are lost by it: a scaler of fp16 passes such steps over.

    Args:
        name: of the training, for messages.
        config: of the training.
    """

    def __init__(self, name: str, config: TrainingConfig) -> None:
        self._name, self._config = name, config

    def on_log(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: Any) -> None:
        """Check a step; the trainer logs each, with the loss of all processes.

        Raises:
            ConfigError: the training diverged; says where, and what to do.
        """
        logs = kwargs["logs"]
        if "loss" not in logs or (math.isfinite(logs["loss"]) and _all_finite(kwargs["model"])):
            return
        last = max(Path(str(args.output_dir)).glob(f"checkpoint-*/{COMPLETE}"), key=_step, default=None)
        kept = (
            f"; the weights after step {_step(last)} stay in {last.parent} until other settings are tried"
            if last
            else ""
        )
        norm, rate = logs.get("grad_norm", math.nan), logs["learning_rate"]
        raise ConfigError(
            f"{self._name}: the training diverged in step {state.global_step} of {state.max_steps}: "
            f"loss {logs['loss']:.4g}, gradient norm {norm:.4g}, learning rate {rate:.4g}; no model is written{kept}. "
            f"{self._advice(state.global_step, logs['loss'])}"
        )

    def _advice(self, step: int, loss: float) -> str:
        precise = " or set compute to fp32" if self._config.compute != "fp32" else ""
        if step == 1 and not math.isfinite(loss):  # no weight has changed yet
            return f"Look at the start and the rows{precise}: no learning rate has played a part"
        return f"Lower learning_rate ({self._config.learning_rate:g}), raise warmup_ratio{precise}"


def _all_finite(model: torch.nn.Module) -> bool:
    """Whether all trained weights are, in every process: each may have a shard of them."""
    trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained]
    # A sum takes no memory beside the weights, as a mask would, and is finite only if every term is.
    return all(gather_object([bool(torch.stack([weight.sum() for weight in own]).isfinite().all())]))


def _step(mark: Path) -> int:
    return step_of(mark.parent)
