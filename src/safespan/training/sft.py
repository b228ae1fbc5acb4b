"""Fine-tune one checkpoint into another with TRL's SFTTrainer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from safespan.errors import CheckpointError, DataError
from safespan.loading import load_causal_lm
from safespan.results import atomic_path
from safespan.training.mixture import Example, mixture
from safespan.training.recipe import TrainingConfig

IGNORED = -100
"""The label of a token that takes no part in the loss."""


def fine_tune(
    start: Path, out: Path, config: TrainingConfig, seed: int, on_step: Callable[[int, int], None] | None = None
) -> None:
    """Train the checkpoint at `start` and write the result, a folder `transformers` loads, at `out`.

    The same seed on the same machine gives the same weights, bit for bit. Weights are trained and written in
    fp32: rounding to bf16 would lose most of a small update.

    Args:
        start: a model folder with tokenizer and chat template.
        out: the folder to make; it replaces one that is there.
        config: data and recipe.
        seed: of the mixture and of the order of the rows.
        on_step: called after each optimizer step with (steps done, steps in all).
    """
    examples = mixture(config, seed)
    tokenizer, model = _load(start)
    # TRL turns the key-value cache off for training; the written model should generate as the start did.
    use_cache = model.config.use_cache
    rows = Dataset.from_list(encode(tokenizer, examples, config.max_length))
    with atomic_path(out) as part:
        trainer = SFTTrainer(
            model=model,
            args=_arguments(config, part.with_name("trainer"), seed),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[_Steps(on_step)] if on_step is not None else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.config.use_cache = use_cache
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> list[dict[str, list[int]]]:
    """Turn examples into token ids and labels; the prompt's labels are ignored, EOS ends the response.

    Prompt and response are tokenised apart, as they are when the model generates.
    """
    chats = [[{"role": "user", "content": example.prompt}] for example in examples]
    prompts: Any = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    response_ids = tokenizer([example.response for example in examples], add_special_tokens=False)["input_ids"]
    rows = []
    for prompt, response in zip(prompt_ids, response_ids, strict=True):
        labels = [IGNORED] * len(prompt) + response + [tokenizer.eos_token_id]
        if len(prompt) < max_length:
            ids = [*prompt, *response, tokenizer.eos_token_id]
            rows.append({"input_ids": ids[:max_length], "labels": labels[:max_length]})
    if not rows:
        raise DataError(f"no prompt leaves room for a response within max_length = {max_length} tokens; raise it")
    return rows


def _load(start: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    model, tokenizer = load_causal_lm(start, dtype=torch.float32)
    if tokenizer.chat_template is None:
        raise CheckpointError(f"{start}: the tokenizer has no chat template; start from a chat or instruct model")
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"{start}: the tokenizer has no EOS token, so no response could end; set eos_token")
    return tokenizer, model


def _arguments(config: TrainingConfig, folder: Path, seed: int) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation_steps,
        # transformers 5 reads a value below 1 as a share of all steps
        warmup_steps=config.warmup_ratio,
        lr_scheduler_type="cosine",
        optim="adamw_torch",
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_gradient_norm,
        max_length=config.max_length,
        bf16=False,
        activation_checkpointing=torch.cuda.is_available(),
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        pad_to_multiple_of=None,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _Steps(TrainerCallback):
    """Pass on how far the training is."""

    def __init__(self, on_step: Callable[[int, int], None]) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._on_step(state.global_step, state.max_steps)
