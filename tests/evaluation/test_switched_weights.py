"""What a point adds to the aligned model is in the weights that are asked, and its energy is that of what was added."""

from pathlib import Path

import pytest
import torch

from safespan.checkpoints import Checkpoint
from safespan.evaluation import Prompting, SwitchedModel
from safespan.projection import Change
from safespan.settings.evaluation import EngineConfig, EvaluationConfig


@pytest.mark.parametrize("engine", [EngineConfig(), EngineConfig(name="hf")], ids=["memory", "folder"])
def test_weights_are_aligned_plus_change_and_the_energy_is_the_changes(
    engine: EngineConfig, tiny_model_folder: Path, tmp_path: Path
) -> None:
    aligned = Checkpoint(tiny_model_folder)
    drawn = torch.Generator().manual_seed(0)
    added = {name: 0.1 * torch.randn(aligned.shapes[name], generator=drawn) for name in aligned.names}
    switched = SwitchedModel(Prompting(EvaluationConfig(engine=engine)), aligned, tmp_path)
    for scale in (1.0, 0.5):
        changes = (Change(name, scale * delta, (True, False)) for name, delta in added.items())
        with switched.with_weights(changes) as model:
            energy = sum(float((scale * delta).double().square().sum()) for delta in added.values())
            assert model.energy == pytest.approx(energy, rel=1e-6)
            opened = model.open()
            weights = (opened.model or opened.lm.model).state_dict()
            for name, delta in added.items():
                torch.testing.assert_close(weights[name].float(), aligned.load(name).float() + scale * delta)
    switched.close()
    assert list(tmp_path.iterdir()) == []
