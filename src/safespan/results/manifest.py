"""The record of a run: its configuration, inputs, versions, hardware and times."""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from safespan.errors import DataError, reason
from safespan.files.atomic import write_json
from safespan.settings.base import first_problem


class StageRecord(BaseModel):
    """The time a stage took, and whether its results of an earlier run were reused."""

    name: str
    seconds: Annotated[float, Field(allow_inf_nan=False)]
    reused: bool


class PromptsRecord(BaseModel):
    """How many prompts of one kind were asked, and their hash."""

    rows: int
    sha256: str


class HypothesisRecord(BaseModel):
    """What a hypothesis says, where it was published, and which of the tests its authors made."""

    claim: str
    paper: str
    authors_tests: list[str] = []


class Manifest(BaseModel):
    """`manifest.json` of a run. Absent fields are empty, as in a folder with tables alone.

    Attributes:
        config: of the study, as its file gave it.
        inputs: role -> SHA-256 of the model's weights; field -> SHA-256 of a file that the evaluation reads.
        notes: what users should know of the models: whose tokenizer was taken, what speaks against their roles.
        tables: table -> SHA-256 of its file.
        estimate: time, disk, memory and money as they were expected when the run began, by stage, to be compared with
            `stages` and `judge`; empty where the machine was not calibrated.
        judge: totals of every judge that is paid for.
        training: role -> record of its training.
        hypotheses: name -> what was tested, as `safespan hypotheses` has it.
    """

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    command: str = ""
    config: dict[str, Any] = {}
    seed: int | None = None
    versions: dict[str, str] = {}
    hardware: dict[str, str | int | float | None] = {}
    stages: list[StageRecord] = []
    inputs: dict[str, str] = {}
    notes: list[str] = []
    tables: dict[str, str | None] = {}
    prompts: dict[str, PromptsRecord] = {}
    estimate: dict[str, Any] = {}
    judge: list[dict[str, Any]] = []
    training: dict[str, dict[str, Any]] = {}
    hypotheses: dict[str, HypothesisRecord] = {}
    created: str = ""

    def write(self, path: Path) -> None:
        """Write it in one step."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a manifest.

        Raises:
            DataError: it cannot be read, is not the manifest of a run, or a field has a wrong type.
        """
        try:
            text = path.read_text(encoding="utf-8")
            json.dumps(json.loads(text), ensure_ascii=False).encode()  # half a surrogate pair fails here
            manifest = cls.model_validate_json(text)
        except ValidationError as error:
            field, message = first_problem(error)
            raise DataError(f"{path} has a wrong {field or 'content'} ({message}): run the study again") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot read {path} ({reason(error)}): expected the manifest.json of a run") from None
        if "config" not in manifest.model_fields_set:  # every version wrote it
            raise DataError(
                f"{path} is not the manifest of a run, as it has no field config: put the run's own manifest.json "
                "there, or run the study into this folder again"
            )
        return manifest
