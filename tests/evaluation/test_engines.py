"""The same weights give the same responses in memory and through an engine that reads a folder."""

from pathlib import Path

import pytest
import torch

from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.evaluation import SwitchedModel, model_of
from safespan.settings.evaluation import EngineConfig
from safespan.evaluation.harmfulness import generate_responses

FOLDER = EngineConfig(name="hf", batch_size=2)


def said(model) -> list[str]:
    return generate_responses(model, ["a b", "c d e"], 6, chat_template=True)


def points(checkpoint: Checkpoint):
    """Two points: all weights negated in one tensor, then the weights as they are."""
    for sign in (-1, 1):
        yield (
            str(sign),
            ((name, (sign if "embed" in name else 1) * checkpoint.load(name).float()) for name in checkpoint.names),
        )


def test_a_folder_engine_says_what_the_model_in_memory_says(tiny_model_folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_model_folder)
    found = {}
    for engine in (EngineConfig(batch_size=2), FOLDER):
        found[engine.name] = []
        switched = SwitchedModel(engine, checkpoint, tmp_path)
        for name, weights in points(checkpoint):
            with switched.given(weights) as (digest, opened):
                found[engine.name].append((name, said(opened()), digest))
        switched.close()
    assert found["hf"] == found["memory"]
    assert found["hf"][0][2] != found["hf"][1][2]
    assert found["hf"][0][1] != found["hf"][1][1]
    assert list(tmp_path.iterdir()) == []
    with model_of(FOLDER, checkpoint, tmp_path) as model:
        assert said(model) == found["hf"][1][1]


def test_the_scratch_folder_is_there_while_the_engine_runs(tiny_model_folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_model_folder)
    for _, weights in points(checkpoint):
        with SwitchedModel(FOLDER, checkpoint, tmp_path).given(weights):
            [place] = tmp_path.iterdir()
            written = Checkpoint(place / "model")
            assert written.names == checkpoint.names
            assert written.load("model.norm.weight").dtype == torch.float32


def test_weights_in_memory_have_the_dtype_asked_for(tiny_model_folder: Path, tmp_path: Path) -> None:
    with model_of(EngineConfig(dtype="bfloat16"), Checkpoint(tiny_model_folder), tmp_path) as model:
        assert next(model.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"name": "oracle"}, "neither memory nor a model of lm-eval"),
        ({"name": "hf", "model_args": {"pretrained": "{checkpoint}", "colour": 3}}, "cannot be started"),
    ],
)
def test_engines_that_cannot_be(engine, says, tiny_model_folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=says),
        model_of(EngineConfig(**engine), Checkpoint(tiny_model_folder), tmp_path),
    ):
        pass
