"""A base checkpoint with a PEFT LoRA adapter; its update stays the product B·A of two low-rank matrices."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open

from safespan.checkpoints.layout import in_block
from safespan.checkpoints.names import is_head, is_of_vocabulary
from safespan.checkpoints.reader import Checkpoint, read_header
from safespan.errors import CheckpointError, reason
from safespan.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from safespan.settings.base import first_problem

_PREFIX = "base_model.model."
_B_OF = {".lora_A.weight": ".lora_B.weight", ".lora_embedding_A": ".lora_embedding_B"}
_COPY = ".base_layer.weight"
"""Where PEFT stores the base's own embedding beside the LoRA matrices of an embedding."""
_TWICE = (".modules_to_save.weight", ".original_module.weight")
"""Where PEFT stores the parts of an embedding that was trained whole a second time, beside the embedding itself."""
_REFUSED = {
    "use_dora": "it is a DoRA adapter, whose update is not B·A",
    "use_qalora": "it is a QALoRA adapter, whose update is not B·A",
    "use_bdlora": "it is a BD-LoRA adapter, whose update is not B·A",
    "kasa_config": "it is a KaSA adapter, which changes its base as well",
    "velora_config": "it is a VeLoRA adapter, whose update is not B·A",
    "monteclora_config": "it is a MonteCLoRA adapter, whose update is not B·A",
    "alora_invocation_tokens": "it is an activated LoRA, which acts on some tokens only",
    "arrow_config": "it routes between several adapters",
    "layer_replication": "it replicates layers",
    "target_parameters": "it adapts fused parameters (target_parameters)",
    "trainable_token_indices": "it trains rows of the embedding (trainable_token_indices)",
    "megatron_config": "it is made for Megatron",
    "lora_bias": "it trains biases",
}
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations that subtract their first B·A from the base, so that the adapter is not the whole update."""


Factors = tuple[Float[torch.Tensor, "m r"], Float[torch.Tensor, "r n"]]


class _Settings(BaseModel):
    """The fields of adapter_config.json that determine the update; others are only checked against `_REFUSED`."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    peft_type: str | None = None
    bias: str = "none"
    lora_alpha: float = 8
    use_rslora: bool = False
    alpha_pattern: dict[str, float] | None = None
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str = True
    ensure_weight_tying: bool = False


class AdaptedCheckpoint(Checkpoint):
    """The weights of a base model with a LoRA adapter's update added, one tensor at a time.

    A tensor that the adapter changes is loaded in float32, so that the update is not rounded to the base's dtype; other
    tensors keep the base's dtype.

    Args:
        folder: the base model's folder.
        adapter: a PEFT adapter's folder, with adapter_config.json and adapter_model.safetensors.

    Raises:
        CheckpointError: the adapter is broken, of a kind that is not a plain LoRA, or made for another base.
    """

    def __init__(self, folder: Path | str, adapter: Path | str) -> None:
        super().__init__(folder)
        self.adapter: Path = Path(adapter)
        self.name = f"{folder}+{adapter}"
        self._settings = _read_settings(self.adapter)
        if not (self.adapter / ADAPTER_WEIGHTS).is_file():
            raise CheckpointError(f"{self.adapter} has no {ADAPTER_WEIGHTS}: only adapters in safetensors are read")
        self._stored = {name: one.shape for name, one in read_header(self.adapter / ADAPTER_WEIGHTS).items()}
        if self._settings.fan_in_fan_out and not any(form.transposed for form in self._forms.values()):
            raise CheckpointError(
                f"{self.adapter} is made for weights that are stored inputs × outputs (fan_in_fan_out), and those of "
                f"{self.folder} ({self.config.get('model_type')}) are not known to be: merge it, and give that folder"
            )
        self._thin = dict(self._factors())
        self._whole = self._replaced()
        self._check_vocabulary()
        self._check_tied()
        for name in (*self._thin, *self._whole):
            self._check_fits(name)
        if not self._thin and not self._whole:
            raise CheckpointError(f"{self.adapter / ADAPTER_WEIGHTS} changes nothing: it holds no LoRA matrices")

    def load(self, name: str, finite: bool = True) -> torch.Tensor:
        """Return one tensor: float32 where the adapter changes it, in the base's dtype elsewhere."""
        if name in self._whole:
            whole = self._forms[name].read(self._of_adapter(self._whole[name])).float()
            return whole[: self.shapes[name][0]]
        delta = self.update(name)
        weight = super().load(name, finite)
        return weight if delta is None else weight.float() + delta

    def update(self, name: str) -> torch.Tensor | None:
        """The adapter's update of one tensor in float32, scaling·B·A; None where it is not of that form."""
        if name not in self._thin:
            return None
        module, a_key, b_key = self._thin[name]
        copy = module + _COPY
        # An fp16 copy of a bf16 embedding differs in its last digits.
        if copy in self._stored and not torch.allclose(
            self._of_adapter(copy).float(), super().load(name).float(), 1e-2, 1e-5
        ):
            raise CheckpointError(f"{self.adapter} is made for another base: its copy of {name} is not {self.folder}'s")
        right, left = self._of_adapter(a_key).float(), self._of_adapter(b_key).float()
        left = left * self._scaling(module, right.shape[0])
        # An embedding's matrices give the transposed weight.
        delta = right.T @ left.T if self._transposed(a_key) else left @ right
        if not bool(torch.isfinite(delta).all()):
            raise CheckpointError(f"{self.adapter}: the update B·A of {name} is too large for float32")
        return delta[: self.shapes[name][0]]

    def factors(self, name: str) -> Factors | None:
        """Two matrices [m, r] and [r, n] in float32 whose product is the update; None where it is not of that form.

        They are B and A, or Aᵀ and Bᵀ of an embedding, each times the root of the scaling.
        """
        if name not in self._thin:
            return None
        module, a_key, b_key = self._thin[name]
        right, left = self._of_adapter(a_key).float(), self._of_adapter(b_key).float()
        scaling = self._scaling(module, right.shape[0])
        root = abs(scaling) ** 0.5
        left, right = root * left, math.copysign(root, scaling) * right
        return (right.T, left.T) if self._transposed(a_key) else (left, right)

    def linear_ranks(self) -> dict[str, int]:
        """Tensor -> r, of the linear layers' weights that are changed by B·A in all their rows."""
        return {
            name: self._stored[a_key][0]
            for name, (_, a_key, _) in self._thin.items()
            if not self._transposed(a_key) and self._shape(name) == self.shapes[name]
        }

    def keys_of(self, name: str) -> tuple[str, str]:
        """The names of A and of B in the adapter's file, of a tensor that is changed by B·A."""
        _, a_key, b_key = self._thin[name]
        return a_key, b_key

    @property
    def changed(self) -> frozenset[str]:
        """Names of the tensors that differ from the base's."""
        return frozenset((*self._thin, *self._whole))

    def sha256(self) -> str:
        """Hash of the base's weights, and of the adapter's weights and settings."""
        digest = hashlib.sha256(super().sha256().encode())
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            digest.update((self.adapter / file).read_bytes())
        return digest.hexdigest()

    def _factors(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        """(tensor of the base, (module, key of A, key of B)) of every pair of LoRA matrices."""
        for key, (suffix, b_suffix) in product(self._stored, _B_OF.items()):
            if key.endswith(suffix):
                module = key.removesuffix(suffix)
                if module + b_suffix not in self._stored:
                    raise CheckpointError(
                        f"{self.adapter / ADAPTER_WEIGHTS} has {key} but not its B matrix; copy it again"
                    )
                yield self._in_base(f"{module}.weight"), (module, key, module + b_suffix)

    def _replaced(self) -> dict[str, str]:
        """Tensors stored whole (`modules_to_save`), by their name in the base; copies of the base's own left out."""
        left_out = {key for _, a_key, b_key in self._thin.values() for key in (a_key, b_key)}
        left_out |= {key for key in self._stored if key.endswith(_COPY)}
        for key, suffix in product(self._stored, _TWICE):
            if key.endswith(suffix) and f"{key.removesuffix(suffix)}.weight" in self._stored:
                left_out.add(key)
        return {self._in_base(key): key for key in self._stored if key not in left_out}

    def _in_base(self, key: str) -> str:
        """The base's name of a tensor.

        Transformers saves a model with or without the name of its body before it, and the language model of a wrapper
        under names of its own.
        """
        name = key.removeprefix(_PREFIX)
        behind = name.partition(".")[2]
        known = (name, behind, f"model.{name}", f"transformer.{name}")
        ends = tuple(f".{one}" for one in (name, behind, name.rpartition("language_model.")[2]))
        of_text = (other for other in self.shapes if in_block(other) or is_of_vocabulary(other))
        wrapped = [other for other in of_text if f".{other}".endswith(ends)]
        return next((other for other in known if other in self.shapes), wrapped[0] if len(wrapped) == 1 else name)

    def _check_vocabulary(self) -> None:
        """Refuse an adapter that was trained on its base with another number of tokens."""
        for name in sorted(self.changed & self.shapes.keys()):
            given, there = self._shape(name), self.shapes[name]
            if is_of_vocabulary(name) and len(given) == len(there) and given[1:] == there[1:] and given != there:
                raise CheckpointError(
                    f"{self.adapter} was trained after the vocabulary of its base was resized: its {name} is "
                    f"{list(given)}, that of {self.folder} {list(there)}; save a copy of the base with {given[0]} rows "
                    "(resize_token_embeddings of Transformers), and give that copy wherever the base stands"
                )

    def _check_tied(self) -> None:
        """Refuse an adapter that changes only one of two tied tensors, the head or the embedding.

        Unmerged, its LoRA matrices act on that tensor alone; merged by PEFT, on both: these are different models. If it
        stores both whole and equal, as PEFT does where the vocabulary was resized, they are one model.
        """
        if not self.tied:
            return
        whole = [self._of_adapter(key) for name, key in self._whole.items() if is_of_vocabulary(name)]
        as_one = self._settings.ensure_weight_tying or (len(whole) == 2 and torch.equal(*whole))
        for name in sorted(self.changed):
            if is_of_vocabulary(name) and (name in self._thin or not as_one):
                raise CheckpointError(
                    f"{self.adapter} is not supported: it changes {name} alone, which {self.folder} ties to another "
                    "tensor; train it whole, with modules_to_save and ensure_weight_tying, or not at all"
                )
        self._whole = {name: key for name, key in self._whole.items() if not is_head(name)}

    def _check_fits(self, name: str) -> None:
        if name not in self.shapes:
            raise CheckpointError(f"{self.adapter} is made for another base: it changes {name}, {self.folder} has none")
        if name in self._thin and name in self._whole:
            raise CheckpointError(
                f"{self.adapter / ADAPTER_WEIGHTS} holds {name} whole and as B·A: which counts is unknown"
            )
        shape = self._shape(name)
        if shape != self.shapes[name]:
            raise CheckpointError(
                f"{self.adapter} is made for another base: its update of {name} is {list(shape)}, "
                f"{self.folder} has {list(self.shapes[name])}"
            )

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of what the adapter stores or changes of a tensor, as the base's is seen."""
        if name in self._whole:
            stored, form = self._stored[self._whole[name]], self._forms[name]
            return form.seen if stored == form.stored else stored
        _, a_key, b_key = self._thin[name]
        right, left = self._stored[a_key], self._stored[b_key]
        if len(right) != 2 or len(left) != 2 or not right[0] == left[1] > 0:
            raise CheckpointError(
                f"{self.adapter / ADAPTER_WEIGHTS}: A {list(right)} and B {list(left)} of {name} have no product B·A"
            )
        return (right[1], left[0]) if self._transposed(a_key) else (left[0], right[1])

    def _transposed(self, key: str) -> bool:
        return "embedding" in key.rpartition(".")[2]

    def _scaling(self, module: str, rank: int) -> float:
        # The first pattern that matches counts. Ranks are read from the shapes of the matrices.
        patterns = (self._settings.alpha_pattern or {}).items()
        name = module.removeprefix(_PREFIX)
        matching = (alpha for pattern, alpha in patterns if re.match(rf"(.*\.)?({pattern})$", name))
        alpha = next(matching, self._settings.lora_alpha)
        return alpha / (rank**0.5 if self._settings.use_rslora else rank)

    def _of_adapter(self, key: str) -> torch.Tensor:
        with safe_open(self.adapter / ADAPTER_WEIGHTS, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(key)
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{self.adapter / ADAPTER_WEIGHTS}: tensor {key} holds NaN or Inf")
        return tensor


def _plain(pattern: str) -> bool:
    """Whether a pattern is a valid regular expression, and short and simple enough to match quickly."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return len(pattern) <= 500 and len(re.findall(r"[*+?{]", pattern)) <= 3 and not re.search(r"\)[*+?{]", pattern)


def _read_settings(adapter: Path) -> _Settings:
    path = adapter / ADAPTER_CONFIG
    try:
        settings = _Settings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        field, message = first_problem(error)
        where = field or "the file"
        raise CheckpointError(f"{path}: {where} is not as PEFT writes it ({message}); copy it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no readable adapter configuration ({reason(error)}): give a PEFT adapter"
        ) from None
    if settings.peft_type != "LORA":
        kind = settings.peft_type
        raise CheckpointError(f"{adapter} is a {kind} adapter: only plain LoRA has an update B·A; merge it first")
    extra = settings.model_extra or {}
    reasons = [reason for field, reason in _REFUSED.items() if extra.get(field)]
    patterns = settings.alpha_pattern or {}
    reasons += [f"its alpha_pattern {name[:80]!r} is no name of a module" for name in patterns if not _plain(name)]
    if settings.bias != "none":
        reasons.append("it trains biases")
    if str(settings.init_lora_weights).lower().startswith(_CHANGES_BASE):
        reasons.append(f"its initialisation {settings.init_lora_weights} changes its base as well")
    if reasons:
        raise CheckpointError(f"{adapter} is not supported: {reasons[0]}; merge it into its base and give that folder")
    return settings
