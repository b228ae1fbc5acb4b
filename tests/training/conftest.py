"""What tests of trainings share."""

from pathlib import Path

import pytest

from safespan.files.atomic import write_jsonl
from safespan.settings.data import TrainingData
from safespan.settings.training import TrainingConfig


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"a b {x}", "response": f"{x} c"} for x in "defghijk"])
    return TrainingConfig(
        data=TrainingData(file=str(tmp_path / "rows.jsonl")),
        max_steps=4,
        batch_size=4,
        accumulation_steps=1,
        learning_rate=1e-2,
        compute="fp32",
    )
