"""Fine-tuning of a checkpoint with TRL's SFTTrainer."""

import importlib.util
import shutil
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch.nn import Linear
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainerState
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError, first_line
from safespan.files.atomic import atomic_path, write_json
from safespan.files.disk import explain_disk_full
from safespan.linalg.device import device
from safespan.models.folders import TRAINING
from safespan.models.padding import fit_pad_token
from safespan.progress import Tick, progress_task
from safespan.projection.protection import Protection
from safespan.settings.training import TrainingConfig
from safespan.training.bases import Capture, ConfiguredProtection, described, identity_of
from safespan.training.divergence import StopIfDiverged
from safespan.training.encoding import encode
from safespan.training.mixture import Mixture, mixture
from safespan.training.protect import ProtectedTraining, check_not_sharded
from safespan.training.resume import MarkComplete, step_of, work_folder
from safespan.training.start import check_tokens, end_of_responses, load_start, longest_row, open_start
from safespan.training.watch import Watch, Watching

_CHECKPOINTING = tuple(
    name for name in ("gradient_checkpointing", "activation_checkpointing") if name in SFTConfig.__dataclass_fields__
)
"""The setting's name in Transformers before 5.23, and from then on. Both are set where both are known, as TRL has a
default of its own for the old one.
"""

_RECORDED = ("safespan", "accelerate", "peft", "torch", "transformers", "trl")


@dataclass(frozen=True)
class TrainingRecord:
    """How a model was trained.

    Attributes:
        dropped: examples left out, whose prompts leave no room for a response.
        cut: of the examples trained on, those whose responses lost their end.
        protection: what was protected and where the update was kept; None: nothing was, and vectors were trained too.
    """

    start: str
    seed: int
    config: dict[str, Any]
    data: list[dict[str, Any]]
    mixture_sha256: str
    examples: int
    dropped: int
    cut: int
    steps: int
    resumed_from_step: int
    final_loss: float
    processes: int
    versions: dict[str, str]
    protection: dict[str, Any] | None


def fine_tune(
    start: str | Path,
    out: Path | None,
    config: TrainingConfig,
    seed: int,
    *,
    protection: Protection | None = None,
    capture: Capture | None = None,
    watch: Watch | None = None,
) -> TrainingRecord:
    """Train the checkpoint `start` and write the result at `out`: a folder `transformers` loads, or a PEFT adapter.

    The same seed on the same machine gives the same weights, bit for bit, also after an interruption and a resumption
    (`config.save_steps`). Weights are trained and written in fp32: rounding to bf16 would lose most of a small update.
    Under `accelerate launch` every process calls this, and one of them writes.

    Args:
        start: name of a model with tokenizer.
        out: the folder to make, an existing one is replaced; None: nothing is written, and nothing can be resumed.
        seed: of the mixture and of the order of the rows.
        protection: bases that were made before, to train under; None: those that `config.protect` asks for, if any.
        capture: `activations.capture_for_hypotheses`, which `config.protect.prompts` needs.
        watch: what is called at some of the steps; not again at those that a resumed run has behind it.

    Returns:
        The content of `training.json` beside the weights.

    Raises:
        SafespanError: data, start or configuration are invalid.
    """
    _check(out, config, protection)
    checkpoint = open_start(start, config)
    asked = ConfiguredProtection.read(config.protect, checkpoint, seed, capture) if config.protect else None
    mixed = mixture(config, seed)  # last, as its rows may have to be downloaded
    name, folder = _working_folder(out)
    arguments = _arguments(config if out else config.model_copy(update={"save_steps": None}), folder, name, seed)
    held = protection or asked
    if held:
        check_not_sharded(arguments)
    identity = _identity(checkpoint, config, seed, mixed, held) if out and config.save_steps else None
    with explain_disk_full(folder), work_folder(folder, identity) as interrupted:
        protection = asked.made(folder, capture) if asked else protection
        tokenizer, model = load_start(checkpoint, config)
        # TRL disables the key-value cache for training; the written model should have the setting of the start.
        use_cache = getattr(model.config, "use_cache", None)
        end = end_of_responses(tokenizer, config)
        longest = longest_row(model, config)
        rows = encode(tokenizer, mixed.examples, longest, config.prompt_format, config.template_date)
        check_tokens(tokenizer, model, rows)
        fit_pad_token(tokenizer, model)
        with progress_task("steps") as tick:
            trainer = _trainer(model, tokenizer, rows, arguments, config, [_Steps(tick)])
            _add_callbacks(trainer, tokenizer, protection, watch, StopIfDiverged(str(out or start), config))
            _train(trainer, str(start), interrupted)
        if use_cache is not None:
            model.config.use_cache = use_cache
        cut = sum(row["labels"][-len(end) :] != end for row in rows)
        record = _record(start, seed, config, mixed, len(rows), cut, trainer.state, interrupted, protection)
        if out:
            trainer.save_model(str(folder / "weights"))  # every process: a sharded model is gathered here
            if PartialState().is_main_process:
                _write(folder, out, checkpoint, config, record)
        PartialState().wait_for_everyone()
    return record


def _working_folder(out: Path | None) -> tuple[str, Path]:
    """The name of a run, and the folder that it works in: beside what is written, or a temporary one."""
    place = out.absolute() if out else Path(gettempdir()) / f"safespan-{uuid4().hex}"
    return place.name, place.with_name(f".{place.name}.training")


def _check(out: Path | None, config: TrainingConfig, protection: Protection | None) -> None:
    if config.protect and (protection or not out):
        raise ConfigError("protect: its bases are made beside the model that is written; give out, and no protection")
    for name in config.report_to:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"report_to: {name} is not installed; pip install {name}, or leave it out")


def _record(
    start: str | Path,
    seed: int,
    config: TrainingConfig,
    mixed: Mixture,
    examples: int,
    cut: int,
    state: TrainerState,
    interrupted: Path | None,
    protection: Protection | None,
) -> TrainingRecord:
    return TrainingRecord(
        start=str(start),
        seed=seed,
        config=config.model_dump(mode="json"),
        data=[asdict(part) for part in mixed.parts],
        mixture_sha256=mixed.sha256,
        examples=examples,
        dropped=len(mixed.examples) - examples,
        cut=cut,
        steps=state.global_step,
        resumed_from_step=step_of(interrupted) if interrupted else 0,
        final_loss=[entry["loss"] for entry in state.log_history if "loss" in entry][-1],
        processes=PartialState().num_processes,
        versions={name: version(name) for name in _RECORDED},
        protection=described(protection) if protection else None,
    )


def _identity(
    checkpoint: Checkpoint,
    config: TrainingConfig,
    seed: int,
    mixed: Mixture,
    held: Protection | ConfiguredProtection | None,
) -> dict[str, Any]:
    protection = identity_of(held) if isinstance(held, Protection) else held and held.identity()
    return {
        "start": checkpoint.sha256(),
        "seed": seed,
        "config": config.model_dump(mode="json"),
        "mixture": mixed.sha256,
        "processes": PartialState().num_processes,
        "protection": protection,
    }


def _arguments(config: TrainingConfig, folder: Path, name: str, seed: int) -> SFTConfig:
    checkpointing: dict[str, Any] = dict.fromkeys(_CHECKPOINTING, config.gradient_checkpointing)
    try:
        arguments = SFTConfig(
            output_dir=str(folder),
            run_name=name,
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
            bf16=config.compute == "bf16",
            use_cpu=device().type == "cpu",
            **checkpointing,
            dataset_kwargs={"skip_prepare_dataset": True},
            dataloader_pin_memory=False,
            pad_to_multiple_of=None,
            save_strategy="steps" if config.save_steps else "no",
            save_steps=config.save_steps or 0,
            save_total_limit=2,  # the last complete one stays until the next is complete
            logging_steps=1,
            logging_nan_inf_filter=False,  # it would count such a loss as none
            report_to=list(config.report_to) or "none",
            disable_tqdm=True,
        )
    except ValueError as error:
        raise ConfigError(f"training cannot be set up here: {' '.join(str(error).split())}") from error
    if arguments.deepspeed_plugin is not None and config.compute == "bf16":
        raise ConfigError("compute: DeepSpeed would keep the weights in bf16 too; set compute to fp32, or use FSDP")
    return arguments


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, list[int]]],
    arguments: SFTConfig,
    config: TrainingConfig,
    callbacks: list[TrainerCallback],
) -> SFTTrainer:
    lora = None
    if config.lora:
        targets = config.lora.target_modules
        lora = LoraConfig(
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=_routers(model) or None,
            task_type="CAUSAL_LM",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TRL and PEFT use deprecated names of Transformers
            trainer = SFTTrainer(
                model=model,
                args=arguments,
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
                callbacks=[MarkComplete(), *callbacks],
                peft_config=lora,
            )
    except (ValueError, AttributeError) as error:  # AttributeError: of architectures that TRL does not know
        raise ConfigError(f"training cannot be set up: {' '.join(str(error).split())[:300]}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _train(trainer: SFTTrainer, start: str, interrupted: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(interrupted) if interrupted else None)
    except (AttributeError, NotImplementedError) as error:
        kind = trainer.accelerator.unwrap_model(trainer.model).config.model_type
        raise ConfigError(
            f"{start}: models of the type {kind} cannot be trained by the installed TRL ({first_line(error)[:200]})"
        ) from error


def _routers(model: PreTrainedModel) -> list[str]:
    """Layers that choose experts, and whose output is no tensor, which a LoRA cannot be added to."""
    kinds = ((name, type(module).__name__) for name, module in model.named_modules() if isinstance(module, Linear))
    return [name for name, kind in kinds if kind.endswith("Router")]


def _add_callbacks(
    trainer: SFTTrainer,
    tokenizer: PreTrainedTokenizerBase,
    protection: Protection | None,
    watch: Watch | None,
    stop: StopIfDiverged,
) -> None:
    """The projection, and what looks at the projected weights, before a checkpoint is loaded to resume from."""
    model: Any = trainer.model
    if protection:
        trainer.add_callback(ProtectedTraining(model, protection))
    trainer.add_callback(stop)
    if watch:
        trainer.add_callback(Watching(watch, model, tokenizer))


def _write(folder: Path, out: Path, checkpoint: Checkpoint, config: TrainingConfig, record: TrainingRecord) -> None:
    weights = folder / "weights"
    for extra in ("training_args.bin", "README.md"):
        (weights / extra).unlink(missing_ok=True)
    with atomic_path(out) as part:
        if config.lora and config.lora.merge:
            tokenizer, model = load_start(checkpoint, config)
            PeftModel.from_pretrained(model, weights).merge_and_unload().save_pretrained(part)
            tokenizer.save_pretrained(part)
        else:
            shutil.move(weights, part)
        if (folder / "runs").exists():  # tensorboard's
            shutil.move(folder / "runs", part)
        write_json(part / TRAINING, asdict(record))


class _Steps(TrainerCallback):
    """Reports the progress of the training."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick

    def on_step_end(self, args: object, state: TrainerState, control: object, **kwargs: Any) -> None:
        self._tick(state.global_step, state.max_steps)

    on_train_begin = on_step_end
