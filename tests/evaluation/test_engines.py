"""The same weights give the same responses in memory and through an engine that reads a folder."""

import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from safespan.checkpoints import Checkpoint, open_checkpoint
from safespan.errors import CheckpointError, ConfigError
from safespan.evaluation import Prompting, SwitchedModel, model_of
from safespan.evaluation.folder_engines import end
from safespan.projection import Change
from safespan.settings.evaluation import EvaluationConfig
from tiny_adapter import make_adapter, make_stray
from tiny_model import build_tiny_tokenizer

MEMORY, FOLDER = (Prompting(EvaluationConfig(engine={"name": name, "batch_size": 2})) for name in ("memory", "hf"))


def responses_of(model) -> list[str]:
    return model.generate(["a b", "c d e"], 6, chat_template=True)


def points(checkpoint: Checkpoint):
    """What two points add: one negates the embedding, the other changes nothing."""
    for factor in (-2, 0):
        yield (
            Change(name, (factor if "embed" in name else 0) * checkpoint.load(name).float(), (False, False))
            for name in checkpoint.names
        )


def test_a_folder_engine_says_what_the_model_in_memory_says(tiny_model_folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_model_folder)
    answers = {}
    for prompting in (MEMORY, FOLDER):
        engine = prompting.config.engine
        answers[engine.name] = []
        model = SwitchedModel(prompting, checkpoint, tmp_path)
        for changes in points(checkpoint):
            with model.with_weights(changes) as switched:
                answers[engine.name].append((switched.sha256, switched.energy, responses_of(switched.open())))
        model.close()
    assert answers["hf"] == answers["memory"]
    negated, unchanged = answers["hf"]
    assert negated[0] != unchanged[0]
    norm = float(checkpoint.load("model.embed_tokens.weight").double().norm())
    assert (negated[1], unchanged[1]) == (pytest.approx(4 * norm**2), 0)
    assert negated[2] != unchanged[2]
    assert list(tmp_path.iterdir()) == []
    with model_of(FOLDER, checkpoint, tmp_path) as model:
        assert responses_of(model) == unchanged[2]


def test_the_scratch_folder_is_there_while_the_engine_runs(tiny_model_folder: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_model_folder)
    for changes in points(checkpoint):
        with SwitchedModel(FOLDER, checkpoint, tmp_path).with_weights(changes):
            [place] = tmp_path.iterdir()
            written = Checkpoint(place / "model")
            assert written.names == checkpoint.names
            assert written.load("model.norm.weight").dtype == torch.float32


def test_weights_in_memory_have_the_dtype_asked_for(tiny_model_folder: Path, tmp_path: Path) -> None:
    with model_of(
        Prompting(EvaluationConfig(engine={"dtype": "bfloat16"})), Checkpoint(tiny_model_folder), tmp_path
    ) as model:
        assert next(model.model.parameters()).dtype == torch.bfloat16


def test_an_engine_is_ended_before_the_next_one_starts(tiny_model_folder: Path, tmp_path: Path, monkeypatch) -> None:
    alive: list[weakref.ref] = []
    own = HFLM.__init__

    def init(self, *given, **options):
        assert [one for one in alive if one() is not None] == []
        own(self, *given, **options)
        alive.append(weakref.ref(self.model))

    monkeypatch.setattr(HFLM, "__init__", init)
    checkpoint = Checkpoint(tiny_model_folder)
    switched, held = SwitchedModel(FOLDER, checkpoint, tmp_path), []
    for changes in points(checkpoint):
        with switched.with_weights(changes) as point:
            held.append(point.open())
            assert alive[-1]() is not None
    for _ in range(2):
        with model_of(FOLDER, checkpoint, tmp_path) as model:
            held.append(model)
    assert [one() for one in alive] == [None] * 4


def test_an_engine_with_a_way_to_stop_is_stopped() -> None:
    stopped = []
    engines = {
        "like SGLang": SimpleNamespace(shutdown=lambda: stopped.append("engine")),
        "like vLLM": SimpleNamespace(
            llm_engine=SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: stopped.append("core")))
        ),
        "a server's": "its name",
    }
    for engine in engines.values():
        lm = SimpleNamespace(model=engine)
        end(lm)
        assert vars(lm) == {}
    assert stopped == ["engine", "core"]


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
        model_of(Prompting(EvaluationConfig(engine=engine)), Checkpoint(tiny_model_folder), tmp_path),
    ):
        pass


@pytest.mark.parametrize("prompting", [MEMORY, FOLDER])
def test_an_adapter_beside_the_weights_is_not_applied(prompting, tiny_model_folder: Path, tmp_path: Path) -> None:
    likelihoods = []
    for folder in make_stray(tiny_model_folder, tmp_path):
        with model_of(prompting, Checkpoint(folder), tmp_path) as model:
            likelihoods.append(model.log_likelihoods([("a b", " c"), ("d", " e f")]))
    assert likelihoods[0] == likelihoods[1]


@pytest.mark.parametrize("prompting", [MEMORY, FOLDER])
def test_an_adapter_with_a_template_of_its_own(prompting, tiny_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model_folder, tmp_path)
    (adapter / "chat_template.jinja").write_text("<bos> own {{ messages[0]['content'] }}")
    aligned = open_checkpoint(f"{tiny_model_folder}+{adapter}")
    with model_of(prompting, aligned, tmp_path) as model:
        assert model.as_turn("a b") == "<bos> own a b"
    weights = (Change(name, 0 * aligned.load(name), (False, False)) for name in aligned.names)
    switched = SwitchedModel(prompting, aligned, tmp_path)
    with switched.with_weights(weights) as point:
        assert point.open().as_turn("a b") == "<bos> own a b"


def test_a_tokenizer_of_another_model_is_refused_before_an_engine_starts(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    tokenizer = build_tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["zz"])
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    tokenizer.save_pretrained(folder)
    says = f"{folder}: its tokenizer has {rows + 1} tokens and its embedding {rows} rows, none for 'zz'"
    with pytest.raises(CheckpointError, match=says), model_of(FOLDER, Checkpoint(folder), tmp_path):
        pass
