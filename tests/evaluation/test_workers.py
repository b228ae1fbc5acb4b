import pickle
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from safespan.checkpoints import Checkpoint
from safespan.evaluation import Answered, Evaluator, ModelJob, ModelWorker, PointWorker, Prompting, Repeat
from safespan.projection import Family, PointWeights
from safespan.results.tables import GridPoint
from safespan.settings.analysis import ProjectionGrid
from safespan.settings.evaluation import EvaluationConfig
from safespan.subspaces import decompose
from tiny_model import save_tiny_model

GRID = ProjectionGrid(subspaces=("alignment",), fractions=(0.25, 0.26, 1.0))
"""0.25 and 0.26 round to the same rank of every tensor."""


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    opened = {
        role: Checkpoint(save_tiny_model(folder / role, seed))
        for seed, role in enumerate(("base", "aligned", "useful"))
    }
    # Norms of one: the 1-D tensors of this family do not change.
    return Family(opened["base"], opened["aligned"], {"useful": opened["useful"]})


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluator")
    (folder / "harmful.txt").write_text("a b c\nd e\n")
    config = EvaluationConfig(harmfulness={"prompts": str(folder / "harmful.txt"), "max_new_tokens": 4})
    return Evaluator(config, folder)


def worker(evaluator, family, scratch, known=None):
    source = partial(PointWeights, family, GRID, scratch, decompose)
    return PointWorker(evaluator.ask, source, Prompting(evaluator.config), family.aligned, scratch, known or {})


def as_it_is(evaluator, checkpoint, scratch):
    return ModelWorker(evaluator.ask, Prompting(evaluator.config), scratch)(ModelJob("a model", checkpoint)).responses


def test_the_same_bytes_are_asked_once(evaluator, family, tmp_path):
    answers = worker(evaluator, family, tmp_path)
    first = answers(GridPoint("useful", "alignment", "parallel", 0.25, 0))
    assert isinstance(first, Answered)
    assert len(first.responses.harmful) == 2
    assert answers(GridPoint("useful", "alignment", "parallel", 0.26, 0)) == Repeat("useful-alignment-parallel-0.25")
    assert isinstance(answers(GridPoint("useful", "alignment", "orthogonal", 0.25, 0)), Answered)
    later = worker(evaluator, family, tmp_path, {first.weights: "earlier"})
    assert later(GridPoint("useful", "alignment", "parallel", 0.26, 0)) == Repeat("earlier")


def test_a_worker_leaves_nothing_and_the_model_as_it_was(evaluator, family, tmp_path):
    answers = worker(evaluator, family, tmp_path)
    answers(GridPoint("useful", "alignment", "parallel", 1.0, 0))
    model = answers._model._loaded[0].model
    stored = load_file(family.aligned.folder / "model.safetensors")
    assert not torch.equal(model.state_dict()["model.embed_tokens.weight"], stored["model.embed_tokens.weight"])
    answers.close()
    for name, tensor in stored.items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert list(tmp_path.iterdir()) == []


def test_the_whole_column_space_gives_the_fine_tune(evaluator, family, tmp_path):
    """f = 1 of wide and square tensors: the point says what the fine-tuned model says, where every tensor is one."""
    square = {name for name, shape in family.aligned.shapes.items() if len(shape) == 2 and shape[0] <= shape[1]}
    weights = {name: tensor for name, tensor in load_file(family.aligned.folder / "model.safetensors").items()}
    tuned = load_file(family.finetuned["useful"].folder / "model.safetensors")
    mixed = save_tiny_model(tmp_path / "mixed")
    save_file(weights | {name: tuned[name] for name in square}, mixed / "model.safetensors", {"format": "pt"})
    mixture = Family(family.base, family.aligned, {"useful": Checkpoint(mixed)})
    (tmp_path / "scratch").mkdir()
    point = worker(evaluator, mixture, tmp_path / "scratch")(GridPoint("useful", "alignment", "parallel", 1.0, 0))
    assert point.responses == as_it_is(evaluator, mixture.finetuned["useful"], tmp_path)


def test_an_evaluator_can_be_sent(evaluator, family, tmp_path):
    evaluator.prepare()
    sent = pickle.loads(pickle.dumps(evaluator))
    assert as_it_is(sent, family.aligned, tmp_path) == as_it_is(evaluator, family.aligned, tmp_path)
