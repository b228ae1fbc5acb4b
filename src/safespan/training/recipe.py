"""What a fine-tuning run is made of. The defaults are the paper's (METHODS §1)."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DataSource(BaseModel):
    """Rows of a JSON-lines file: a prompt and the response to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="path of a .jsonl file, one JSON object a line")
    prompt_field: str = Field("prompt", description="the field that holds the prompt")
    response_field: str = Field("response", description="the field that holds the response")
    rows: int | None = Field(None, ge=1, description="use only the first so many rows; all of them if not given")


class TrainingConfig(BaseModel):
    """Full fine-tuning with fp32 weights, AdamW and a cosine schedule; loss on the response only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataSource = Field(description="the rows to learn")
    contaminate_with: DataSource | None = Field(None, description="rows of another kind, mixed into the data")
    contamination_percent: float = Field(
        20.0, gt=0, description="how many contaminating rows, in percent of the number of rows in `data`"
    )
    learning_rate: float = Field(1e-5, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes over the data; not together with max_steps")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, whatever the number of rows")
    batch_size: int = Field(1, ge=1, description="rows a forward pass")
    accumulation_steps: int = Field(32, ge=1, description="forward passes an optimizer step")
    warmup_ratio: float = Field(0.02, ge=0, lt=1, description="share of the steps over which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    max_gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_length: int = Field(512, ge=2, description="tokens of prompt and response together; the rest is cut off")

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: object) -> object:
        if isinstance(values, dict) and "epochs" in values and values.get("max_steps") is not None:
            raise ValueError("give either epochs or max_steps, not both")
        return values
