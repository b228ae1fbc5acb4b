"""The bases that a training's settings ask for, made once in the folder that the training works in."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from accelerate import PartialState

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.data.classes import Classes, read_classes, shared_by_classes
from safespan.data.sources import rows_hash
from safespan.errors import ConfigError, DataError
from safespan.files.content import content_hash
from safespan.files.disk import sync
from safespan.projection import Family
from safespan.projection.protected_file import ProtectedBases
from safespan.projection.protection import Protection, check_fields, check_protectable, write_protection
from safespan.settings.training import ProtectConfig, ProtectPrompts
from safespan.settings.verdict import REFUSALS
from safespan.subspaces import CapturedActivations, SpectrumCache, find_hypothesis
from safespan.training.resume import COMPLETE

_log = logging.getLogger(__name__)


class Capture(Protocol):
    """Writes a model's activations on prompts, by class, to a file: `activations.capture_for_hypotheses`."""

    def __call__(
        self,
        checkpoint: Checkpoint,
        prompts: Mapping[str, Sequence[str]],
        out: Path,
        /,
        *,
        refusals: Sequence[str],
        base: Checkpoint | None = None,
    ) -> None:
        """The model, its prompts, the file, the openings of refusals, and base where the claim reads it on prompts."""


@dataclass(frozen=True)
class ConfiguredProtection:
    """The protection that the field `protect` of a training's settings describes.

    Attributes:
        config: the field.
        family: the start as the aligned model, and the models that the field names.
        prompts: class -> texts, if the field has prompts.
        seed: of the claim's random choices.
    """

    config: ProtectConfig
    family: Family
    prompts: dict[str, list[str]]
    seed: int

    @classmethod
    def read(
        cls, config: ProtectConfig, start: Checkpoint, seed: int, capture: Capture | None
    ) -> "ConfiguredProtection":
        """Open what the field names.

        Raises:
            ConfigError: the claim has no training test, or needs what the field does not name or have.
            SafespanError: a model or a prompt cannot be read.
        """
        named = {"base": config.base, "harmful": config.harmful, "safe": config.safe}
        given = {need for need, name in named.items() if name} | ({"prompts"} if config.prompts else set())
        try:
            claim = check_protectable(config.hypothesis, given)
            check_fields(claim, config.fraction, config.penalty, config.keep)
        except ConfigError as error:
            raise ConfigError(f"protect: {error}") from None
        if config.prompts and capture is None:
            raise ConfigError("protect.prompts: give fine_tune capture=safespan.activations.capture_for_hypotheses")
        models = {need: open_checkpoint(name) for need, name in named.items() if name}
        harmful = {"harmful": models["harmful"]} if "harmful" in models else {}
        family = Family(models.get("base"), start, harmful, models.get("safe"))
        classes = _classes(config.prompts) if config.prompts else {}
        prompts = {name: [prompt.prompt for prompt in of_class] for name, of_class in classes.items()}
        return cls(config, family, prompts, seed if config.seed is None else config.seed)

    def identity(self) -> dict[str, Any]:
        """What the bases depend on beside the settings and the start."""
        models = [self.family.base, self.family.safe, *self.family.finetuned.values()]
        prompts = {name: rows_hash({"prompt": text} for text in texts) for name, texts in self.prompts.items()}
        return {"models": [model.sha256() for model in models if model], "prompts": prompts, "seed": self.seed}

    def made(self, folder: Path, capture: Capture | None) -> Protection:
        """The protection, with its bases in the work folder of a training: made there unless a run before did."""
        place, processes = folder / "protection", PartialState()
        bases = place / "bases.safetensors"
        if processes.is_main_process and not (place / COMPLETE).exists():
            family = self.family
            if self.prompts:
                assert capture is not None
                captured = CapturedActivations(place / "activations.safetensors")
                claim = find_hypothesis(self.config.hypothesis)
                base = family.base if claim.reads_base else None
                refusals = self.config.refusals or REFUSALS
                capture(family.aligned, self.prompts, captured.path, refusals=refusals, base=base)
                if remark := claim.remark_on(captured):
                    _log.warning(f"{claim.name}: {remark}")
                family = Family(family.base, family.aligned, family.finetuned, family.safe, captured)
            asked, decompose = self.config, SpectrumCache().decompose
            write_protection(
                family, asked.hypothesis, asked.fraction, asked.side, self.seed, bases, decompose, asked.penalty
            )
            (place / COMPLETE).touch()
            sync(place)
        processes.wait_for_everyone()
        return Protection(bases, self.config.keep)


def _classes(prompts: ProtectPrompts) -> Classes:
    """The prompts of the claim; warns of those in both classes."""
    try:
        classes = read_classes(prompts.useful, prompts.harmful)
    except DataError as error:
        raise DataError(f"protect.prompts: {error}") from error
    for remark in shared_by_classes(classes):
        _log.warning(f"protect.prompts: {remark}")
    return classes


def identity_of(protection: Protection) -> dict[str, Any]:
    """What a training under made bases depends on."""
    digest = None if protection.bases is None else content_hash(protection.bases)
    return {"bases": digest, "keep": protection.keep}


def described(protection: Protection) -> dict[str, Any]:
    """What a training record says of a protection: the claim, the file of its bases, and where the update is kept."""
    if protection.bases is None:
        return {"vectors": "frozen", "hypothesis": None}
    bases = ProtectedBases(protection.bases)
    about = asdict(bases.about)
    matrices = sum(
        left is not None or right is not None
        for ranks in about.pop("ranks").values()
        for left, right in zip(ranks["left"], ranks["right"], strict=True)
    )
    del about["blocks"]
    matrices += len(bases.tensors) if bases.about.frozen else 0
    return {"vectors": "frozen", **about, "matrices": matrices, **identity_of(protection)}
