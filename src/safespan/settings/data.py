"""Settings of the sources of rows and prompts."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from safespan.settings.base import Names, Settings, fill_preset
from safespan.settings.presets import PRESETS

FILES = "a .txt (a prompt a line), .json, .jsonl, .csv, .tsv or .parquet file"
"""The files that rows are read from."""


class RowSource(Settings):
    """A source of rows and its filters. In YAML also a preset's name, a file's path, or `{preset: NAME}` with fields
    that differ from the preset's. A `file` beside a preset is a local copy of its data set.
    """

    in_files: ClassVar[tuple[str, ...]] = ("preset",)

    file: Annotated[str | None, Names("file")] = Field(None, description=f"{FILES}, or a folder as for `dataset`")
    dataset: Annotated[str | None, Names("folder")] = Field(
        None, description="a data set of the Hugging Face hub, a folder of data files, or one of `save_to_disk`"
    )
    subset: str | None = Field(None, description="the data set's subset (its configuration)")
    split: str = Field("train", description="the data set's split")
    revision: str | None = Field(None, description="branch, tag or commit of the data set")
    where: dict[str, Any] = Field(
        {}, description="keep rows whose field has this value; a.b is the field b inside of a"
    )
    any_of: tuple[str, ...] = Field((), description="keep rows in which at least one of these fields is true")
    none_of: tuple[str, ...] = Field((), description="keep rows in which none of these fields is true")
    shuffle: int | None = Field(
        None, ge=0, description="seed to shuffle the rows before `rows` are taken; unset: not shuffled"
    )
    rows: int | None = Field(None, ge=1, description="use only this many rows, from the first; unset: all")
    prompt_field: str = Field(
        "prompt",
        description="the field that holds the prompt, a text or a list of turns; `messages` or `conversations` where "
        "there is no `prompt`. If the last turn is the assistant's, it is the response or the target answer",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return fill_preset(value, cls, PRESETS, "file")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.dataset is None):
            raise ValueError(f"give a file, a dataset or a preset ({', '.join(PRESETS)}), and one of them only")
        return self

    @property
    def name(self) -> str:
        """Name of the source in messages and records."""
        revision = self.revision and f"@{self.revision}"
        return self.file or " ".join(filter(None, [self.dataset, self.subset, self.split, revision]))


class TrainingData(RowSource):
    """Rows for training: a prompt and its response."""

    response_field: str = Field("response", description="the field that holds the response")


class PromptSource(RowSource):
    """Prompts for evaluation, with target answers where there are any."""

    target_field: str | None = Field(
        None, description="the field that holds the target answer; unset: `target`, in rows that have it"
    )
