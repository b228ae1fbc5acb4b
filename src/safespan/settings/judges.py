"""Settings of the judges."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, RootModel, field_validator, model_validator

from safespan.settings.base import Names, Settings


class RulesConfig(Settings):
    """The rule judge: no model, no cost."""

    kind: Literal["rules"] = "rules"


class LLMConfig(Settings):
    """A language model that scores by a rubric, asked through inspect-ai (extra `judge`)."""

    kind: Literal["llm"] = "llm"
    model: str = Field(description="PROVIDER/MODEL as inspect-ai names it; with base_url the server's name for it")
    base_url: str | None = Field(None, description="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1")
    api_key_env: str | None = Field(
        None, description="environment variable with the API key; unset: the provider's own, or none with base_url"
    )
    concurrency: int = Field(8, ge=1, description="requests at the same time")
    timeout: int = Field(120, ge=1, description="seconds until an unanswered request is given up")
    retries: int = Field(4, ge=0, description="times that a failed request is repeated, each after a longer wait")
    temperature: float | None = Field(
        0.0, ge=0, description="temperature; null: none is sent, for models that refuse one"
    )
    max_tokens: int = Field(256, ge=8, description="tokens of the longest reply")
    structured_output: bool = Field(True, description="ask for JSON by schema; false for servers that refuse that")
    # Prices and cap change no reply: they are no part of the keys that finished work stands under (`study.keys`).
    input_price: float | None = Field(None, ge=0, repr=False, description="price of a million input tokens")
    output_price: float | None = Field(None, ge=0, repr=False, description="price of a million output tokens")
    max_cost: float | None = Field(
        None,
        gt=0,
        repr=False,
        description="what the replies of a run may cost, in the currency of the prices: the run stops before the next "
        "point would pass it, and goes on once this is raised; unset: no limit. Not counted, though a provider may "
        "bill them: requests that fail or are repeated, and replies whose server does not say their tokens",
    )

    @model_validator(mode="after")
    def _cap_has_prices(self) -> "LLMConfig":
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("max_cost: needs input_price and output_price, to count the cost; give both")
        return self

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("expected the name of an environment variable, not the key itself")
        return name

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is not None and (not url.startswith(("http://", "https://")) or "@" in url):
            raise ValueError("expected http(s)://HOST/v1, with the key in the variable named by api_key_env")
        return url


class ClassifierConfig(Settings):
    """A local classifier of (prompt, response): a causal model that answers with one word, or a sequence classifier."""

    kind: Literal["classifier"] = "classifier"
    model: Annotated[str, Names("folder")] = Field(description="a folder or hub id[@revision]")
    template: str | None = Field(
        None, description="text with {prompt} and {response}; unset: the model's chat template, user then assistant"
    )
    suffix: str = Field("", description="put after the template; what the model says before its word, such as '\\n\\n'")
    harmful: str = Field("unsafe", description="the word, or a sequence classifier's label, for a harmful response")
    harmless: str = Field("safe", description="the word for a harmless one; unused by sequence classifiers")
    batch_size: int = Field(8, ge=1, description="exchanges in one forward pass")

    @field_validator("template")
    @classmethod
    def _holds_both(cls, template: str | None) -> str | None:
        if template is not None and not ("{prompt}" in template and "{response}" in template):
            raise ValueError("expected a text with {prompt} and {response}")
        return template


def _kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


JudgeConfig = Annotated[
    Annotated[RulesConfig | LLMConfig | ClassifierConfig, Field(discriminator="kind")], BeforeValidator(_kind)
]
"""The `kind` of a judge and the fields of that kind. A string is the kind alone."""


class JudgeFile(RootModel[JudgeConfig]):
    """The configuration of a judge in a separate file."""
