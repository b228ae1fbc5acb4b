"""Bases that are drawn, and those that a training's settings ask for."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from test_protect import SEED, bases_of

from oracle import exact
from safespan.activations import capture_for_hypotheses
from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError, DataError
from safespan.files.atomic import write_text
from safespan.projection.protection import Protection, write_random_protection
from safespan.settings.data import PromptSource
from safespan.settings.training import ProtectConfig, ProtectPrompts, TrainingConfig
from safespan.subspaces import CapturedActivations
from safespan.training.bases import ConfiguredProtection
from safespan.training.sft import fine_tune
from tiny_model import save_tiny_model


def test_a_random_protection_changes_what_is_learnt(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    path = bases_of(tiny_model_folder, tmp_path)
    random = write_random_protection(path, 1, tmp_path / "random")
    losses = [
        fine_tune(tiny_model_folder, None, config, SEED, protection=Protection(bases)).final_loss
        for bases in (None, path, random.path)
    ]
    assert len(set(losses)) == 3


def configured(config: TrainingConfig, **fields: object) -> TrainingConfig:
    return config.model_copy(update={"protect": ProtectConfig(**{"fraction": 0.5, **fields})})


def test_the_settings_make_the_bases(tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig) -> None:
    path = bases_of(tiny_model_folder, tmp_path)
    asked = configured(config, hypothesis="alignment", base=str(tmp_path / "base"))
    made = fine_tune(tiny_model_folder, tmp_path / "made", asked, SEED)
    given = fine_tune(tiny_model_folder, tmp_path / "given", config, SEED, protection=Protection(path))
    assert made.protection == given.protection
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("made", "given"))
    assert one == two
    assert sorted(file.name for file in tmp_path.iterdir()) == ["base", "bases", "given", "made", "rows.jsonl"]
    with pytest.raises(ConfigError, match="protect: its bases are made beside the model"):
        fine_tune(tiny_model_folder, None, asked, SEED)
    with pytest.raises(ConfigError, match="protect: protecting 'alignment' needs a base model"):
        fine_tune(tiny_model_folder, tmp_path / "out", configured(config, hypothesis="alignment"), SEED)
    with pytest.raises(ConfigError, match="'lox' names no subspace"):
        fine_tune(tiny_model_folder, tmp_path / "out", configured(config, hypothesis="lox"), SEED)


def test_a_claim_about_activations_captures_those_of_the_start(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    for name, words in (("useful", "a b c d e f"), ("harmful", "u v w x y z")):
        write_text(tmp_path / name, "".join(f"{word} a\n" for word in words.split()))
        (tmp_path / name).rename(tmp_path / f"{name}.txt")
    prompts = ProtectPrompts(
        **{name: PromptSource(file=str(tmp_path / f"{name}.txt")) for name in ("useful", "harmful")}
    )
    asked = configured(config, hypothesis="actsvd", prompts=prompts, fraction=0.2)
    with pytest.raises(ConfigError, match="protect.prompts: give fine_tune capture="):
        fine_tune(tiny_model_folder, tmp_path / "out", asked, SEED)
    record = fine_tune(tiny_model_folder, tmp_path / "out", asked, SEED, capture=capture_for_hypotheses)
    assert record.protection["matrices"] == 2 * 7  # the linear layers of two blocks
    texts = {name: (tmp_path / f"{name}.txt").read_text().splitlines() for name in ("useful", "harmful")}
    capture_for_hypotheses(Checkpoint(tiny_model_folder), texts, tmp_path / "captured")
    kept = CapturedActivations(tmp_path / "captured")
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_model_folder, tmp_path / "out"))
    for name, weight in start.items():
        change, inputs = exact(end[name]) - exact(weight), kept.inputs("harmful", name)
        if inputs is not None and ".layers." in name:
            outputs = exact(weight) @ exact(inputs).T
            left, values, _ = np.linalg.svd(outputs)
            rank = int((values > 1e-5 * values[0]).sum())  # all prompts end alike: the first block's inputs are one
            directions = left[:, : min(rank, max(1, round(0.2 * min(weight.shape))))]
            assert np.linalg.norm(directions.T @ change) < 1e-4 * np.linalg.norm(change)
            assert np.linalg.norm(change) > 0


@pytest.mark.parametrize(("claim", "reads"), [("safety-residual", True), ("actsvd", False), ("alignment", False)])
def test_base_is_captured_for_a_claim_that_reads_it_on_prompts_alone(
    tiny_model_folder: Path,
    tmp_path: Path,
    config: TrainingConfig,
    claim: str,
    reads: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A field that names base and prompts, whatever the claim needs of them."""
    for name, words in (("useful", "a b c d e f"), ("harmful", "u v w x y z")):
        write_text(tmp_path / f"{name}.txt", "".join(f"{word}\n" for word in words.split()))
    sources = {name: PromptSource(file=str(tmp_path / f"{name}.txt")) for name in ("useful", "harmful")}
    base = save_tiny_model(tmp_path / "base", seed=3)
    asked = configured(
        config, hypothesis=claim, base=str(base), prompts=ProtectPrompts(**sources), fraction=0.2
    ).protect
    given = []

    def capture(*places: object, **named: object) -> None:
        given.append(named["base"])
        capture_for_hypotheses(*places, **named)

    protection = ConfiguredProtection.read(asked, Checkpoint(tiny_model_folder), SEED, capture)
    (tmp_path / "work").mkdir()
    protection.made(tmp_path / "work", capture)
    assert [one is not None for one in given] == [reads]
    departs = [line for line in caplog.messages if line.startswith("safety-residual: of 12 prompts")]
    assert len(departs) == reads  # the map fits so few prompts exactly


def test_the_same_prompts_for_both_classes_are_refused(
    tiny_model_folder: Path, tmp_path: Path, config: TrainingConfig
) -> None:
    write_text(tmp_path / "p.txt", "a b\nc d\n")
    source = PromptSource(file=str(tmp_path / "p.txt"))
    asked = configured(config, hypothesis="actsvd", prompts=ProtectPrompts(useful=source, harmful=source), fraction=0.2)
    with pytest.raises(DataError, match=r"^protect\.prompts: useful and harmful prompts are the same 2 rows"):
        fine_tune(tiny_model_folder, tmp_path / "out", asked, SEED, capture=capture_for_hypotheses)
    assert not (tmp_path / "out").exists()
