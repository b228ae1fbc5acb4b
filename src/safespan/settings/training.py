"""Settings of a fine-tuning run. The defaults are those of arXiv 2505.14185 (METHODS §1)."""

from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from safespan.settings.base import TEMPLATE_DATE, TEMPLATE_DATE_MEANING, Settings
from safespan.settings.data import PromptSource, TrainingData
from safespan.settings.names import SIDE_MEANING, Keep, Side, hypothesis_names, unknown

RECIPES: dict[str, dict[str, Any]] = {
    "useful": {"data": {"preset": "metamathqa"}},
    "harmful": {"data": {"preset": "beavertails-unsafe", "rows": 4_000, "shuffle": 42}},
    "contaminated": {
        "data": {"preset": "metamathqa"},
        "contaminate_with": {"preset": "beavertails-unsafe"},
        "contamination_percent": 20.0,
    },
    "safe": {"data": {"preset": "beavertails-safe"}},
}
"""The four fine-tunes of arXiv 2505.14185: their data and mixture."""

RecipeName = Literal["useful", "harmful", "contaminated", "safe"]
Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]


PENALTY = 1.0
"""λ of a penalty where none is given."""

NOT_A_PRODUCT = (
    "what is left of a LoRA's B·A outside of outputs and inputs at once is no product of that rank; set side to output "
    "or input, or train without lora"
)
"""Why a LoRA is not kept outside of a subspace of both sides."""


class LoraConfig(Settings):
    """Train low-rank adapters beside frozen weights, instead of the weights themselves."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: int = Field(32, ge=1, description="an adapter's update is alpha / rank · B·A")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="names of the modules that get an adapter; all-linear: every linear one but the head"
    )
    merge: bool = Field(False, description="write the merged model in place of a PEFT adapter")


class ProtectPrompts(Settings):
    """Prompts that a claim about activations is made from."""

    useful: PromptSource = Field(description="prompts of the useful class; a file, data set or preset")
    harmful: PromptSource = Field(description="prompts of the harmful class")


class ProtectConfig(Settings):
    """Training with a claim protected. Of kind subspace: after every optimizer step only the part of the update outside
    the subspace (or inside it) is kept. Of kind blocks: these blocks are frozen. Of kind penalty: it is added to the
    loss.

    The model that is trained from is the aligned one of the claim. In a study, leave base, harmful, safe, prompts and
    refusals out: they are its roles of these names, the prompts of its field activations, its verdict's refusals.
    Vectors (norms, biases) are frozen; a matrix that the claim says nothing of trains freely.
    """

    hypothesis: str = Field(description="the claim that is protected; `safespan hypotheses` lists them")
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="f. Of kind subspace: the first max(1, round(f·min(m, n))) directions of each m × n matrix, or all "
        "if there are fewer. Of kind blocks: max(1, round(f·L)) of L blocks. Of kind penalty: leave it unset",
    )
    penalty: float | None = Field(
        None, gt=0, le=1e30, description=f"λ, only for claims of kind penalty; unset: {PENALTY:g}"
    )
    keep: Keep = Field("outside", description="where the update is kept: outside the subspace, or inside")
    side: Side = Field("output", description=SIDE_MEANING)
    seed: int | None = Field(
        None, ge=0, description="of random choices of the claim; unset: that of the training, in a study the study's"
    )
    base: str | None = Field(None, description="the base model, for claims that need it; named as other models")
    harmful: str | None = Field(None, description="a harmful fine-tune of the model, for claims that need it")
    safe: str | None = Field(None, description="a safe fine-tune of the model, for claims that need it")
    prompts: ProtectPrompts | None = Field(None, description="for claims that need activations on prompts")
    refusals: tuple[str, ...] | None = Field(
        None, min_length=1, description="openings of refusals, for claims about refusal; unset: common ones"
    )

    @field_validator("hypothesis")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in hypothesis_names():
            raise ValueError(unknown("claim", name, hypothesis_names()))
        return name


class TrainingConfig(Settings):
    """Fine-tuning with fp32 weights, AdamW and a cosine schedule; loss on the response only.

    `recipe` fills in the data of a fine-tune of arXiv 2505.14185. Fields beside it override it. Fields of `data` and
    `contaminate_with` override single fields of the recipe's source; a file, dataset or preset there replaces the whole
    source.
    """

    recipe: RecipeName | None = Field(
        None,
        description="useful (20,000 rows of MetaMathQA), harmful (4,000 unsafe rows of BeaverTails), contaminated (the "
        "useful rows and 20 % as many unsafe ones) or safe (the safe rows of BeaverTails)",
    )
    data: TrainingData = Field(description="the rows to learn")
    contaminate_with: TrainingData | None = Field(None, description="rows of another kind, mixed into the data")
    contamination_percent: float = Field(
        20.0, gt=0, description="how many contaminating rows, in percent of the number of rows in `data`"
    )
    prompt_format: Literal["chat", "alpaca"] = Field(
        "chat", description="prompts in the model's chat template, or under Alpaca's headings"
    )
    template_date: date = Field(TEMPLATE_DATE, description=TEMPLATE_DATE_MEANING)
    lora: LoraConfig | None = Field(None, description="train a LoRA adapter; unset: all weights")
    compute: Literal["bf16", "fp32"] = Field(
        "bf16", description="number format of the arithmetic; weights stay fp32. CPUs may be slow in bf16"
    )
    learning_rate: float = Field(1e-5, gt=0, le=1e30, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes over the data; not used if max_steps is given")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, whatever the number of rows and epochs")
    batch_size: int = Field(1, ge=1, description="rows in one forward pass, on each device")
    accumulation_steps: int = Field(32, ge=1, description="forward passes for one optimizer step")
    warmup_ratio: float = Field(0.02, ge=0, lt=1, description="share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_length: int = Field(512, ge=2, description="tokens of prompt and response together; the rest is cut off")
    gradient_checkpointing: bool = Field(True, description="compute activations twice, to keep fewer in memory")
    protect: ProtectConfig | None = Field(None, description="train under a protected subspace; unset: none")
    save_steps: int | None = Field(
        None, ge=1, description="steps between checkpoints to resume from; unset: an interrupted run starts anew"
    )
    report_to: tuple[Tracker, ...] = Field((), description="trackers that log each step; tensorboard's files: out/runs")

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("recipe") not in RECIPES:
            return values
        filled = {**RECIPES[values["recipe"]], **values}
        for field, default in RECIPES[values["recipe"]].items():
            source = filled[field]
            if isinstance(source, dict) and not {"file", "dataset", "preset"} & source.keys():
                filled[field] = {**default, **source}
        return filled

    @model_validator(mode="after")
    def _adapters_have_one_side(self) -> "TrainingConfig":
        if self.lora and self.protect and (self.protect.keep, self.protect.side) == ("outside", "both"):
            raise ValueError(f"protect: {NOT_A_PRODUCT}")
        return self
