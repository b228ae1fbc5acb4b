"""Settings of the evaluation."""

from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from safespan.settings.base import TEMPLATE_DATE, TEMPLATE_DATE_MEANING, Names, Settings, fill_preset
from safespan.settings.data import PromptSource
from safespan.settings.judges import JudgeConfig, RulesConfig

UTILITY_PRESETS: dict[str, dict[str, Any]] = {
    "gsm8k": {"task": "gsm8k", "num_fewshot": 1, "metric": "exact_match", "filter": "flexible-extract"}
}
"""The settings of arXiv 2505.14185 (METHODS §2) by name."""


class UtilityConfig(Settings):
    """An lm-eval task and the metric that counts. In YAML also a preset's name, or `{preset: NAME}` and fields."""

    in_files: ClassVar[tuple[str, ...]] = ("preset",)

    task: Annotated[str, Names("task")] = Field(
        description="name of an lm-eval task, such as gsm8k, or path of a task's YAML file"
    )
    num_fewshot: int | None = Field(
        None, ge=0, description="worked examples before each question; null: as the task says"
    )
    limit: int | None = Field(None, ge=1, description="ask only this many questions, from the first; null: all")
    metric: str = Field("exact_match", description="metric of the task; it must be 0 or 1 for each question")
    filter: str | None = Field(None, description="filter of the task, such as flexible-extract; null: its first")

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return fill_preset(value, cls, UTILITY_PRESETS, "task")


class HarmfulnessConfig(Settings):
    """The harmful prompts, and the judge of the responses."""

    prompts: PromptSource = Field(
        description="harmful requests, with the forbidden answer as target where known; a file, data set or preset"
    )
    limit: int | None = Field(None, ge=1, description="ask only this many prompts, from the first; null: all")
    judge: JudgeConfig = Field(RulesConfig(), description="who scores a response from 1 (refusal) to 5")
    max_new_tokens: int = Field(
        512, ge=1, description="tokens of the longest response; fewer if the model's context is full"
    )


class OverRefusalConfig(Settings):
    """Benign prompts that look harmful (as in XSTest). The rule judge detects refusals."""

    prompts: PromptSource = Field(description="benign requests; a file, data set or preset")
    limit: int | None = Field(None, ge=1, description="ask only this many prompts, from the first; null: all")
    max_new_tokens: int = Field(128, ge=1, description="tokens of the longest response; a refusal shows early")


CHECKPOINT = "{checkpoint}"
_OUTSIDE = ("kv_transfer_config", "kv_offloading_size")
"""Arguments by which vLLM keeps keys and values where emptying its prefix cache does not reach them."""


class EngineConfig(Settings):
    """The engine that generates. In memory and in vLLM, weights change in place. Others read a temporary folder."""

    name: str = Field("memory", description="memory, or an lm-eval model such as hf, vllm, sglang, local-completions")
    model_args: dict[str, Any] = Field(
        {"pretrained": CHECKPOINT},
        description=f"arguments of the lm-eval model; {CHECKPOINT} stands for the folder (unused in memory)",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of the weights in memory and in vLLM; auto: the checkpoint's"
    )
    batch_size: int = Field(512, ge=1, description="prompts in one batch")

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.name == "memory" and self.model_args != {"pretrained": CHECKPOINT}:
            raise ValueError(
                "model_args are those of an lm-eval model: name the engine (hf, vllm, …), or leave them out"
            )
        if self.name == "vllm" and (outside := [name for name in _OUTSIDE if self.model_args.get(name)]):
            raise ValueError(
                f"{outside[0]} keeps keys and values of prompts outside vLLM's own cache: those of earlier weights "
                "would be used with other weights; leave it out"
            )
        return self


class ThinkingConfig(Settings):
    """How the answer of a model that thinks is told from its thinking. What stands before the end is no answer."""

    start: str = Field("<think>", min_length=1, description="how thinking begins, in the prompt or in the response")
    end: str = Field(
        "</think>", min_length=1, description="how it ends; the answer is what follows its last occurrence"
    )
    enable: bool | None = Field(
        None,
        description="the chat template's enable_thinking: false switches thinking off, if the template can",
    )


PAPER: dict[str, Any] = {"utility": {"preset": "gsm8k"}, "harmfulness": {"prompts": {"preset": "advbench"}}}
"""Fields of an `EvaluationConfig`: the task and the prompts of arXiv 2505.14185 (METHODS §2), judged by rules."""


class EvaluationConfig(Settings):
    """How every model of a study is evaluated. What is left out is not measured."""

    utility: UtilityConfig | None = Field(None, description="the task that the useful fine-tune is trained for")
    general: UtilityConfig | None = Field(None, description="a task that every model should still be able to do")
    harmfulness: HarmfulnessConfig | None = Field(None, description="harmful prompts and their judge")
    over_refusal: OverRefusalConfig | None = Field(None, description="benign prompts that look harmful")
    engine: EngineConfig = Field(EngineConfig(), description="where models run")
    apply_chat_template: bool = Field(
        True, description="prompt through the chat template; a model without one gets the bare prompt"
    )
    chat_template: Literal["aligned", "own"] = Field(
        "aligned",
        description="whose template and end-of-text tokens: those of the aligned model for all that share its "
        "vocabulary, or each model's own",
    )
    template_date: date = Field(TEMPLATE_DATE, description=TEMPLATE_DATE_MEANING)
    thinking: ThinkingConfig = Field(ThinkingConfig(), description="for models that think before they answer")
