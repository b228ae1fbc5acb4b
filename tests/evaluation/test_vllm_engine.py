"""One vLLM with one set of weights after another says what the model in memory says, and what a new vLLM says.

The tiny models have heads of 32 numbers, the smallest that vLLM's kernels for CPUs take.
"""

import gc
import hashlib
import random
import weakref
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from safespan.checkpoints import Checkpoint
from safespan.errors import CheckpointError, ConfigError, DataError
from safespan.evaluation import Prompting, SwitchedModel, engines, folder_engines, model_of
from safespan.evaluation.folder_engines import as_written
from safespan.files.atomic import read_jsonl
from safespan.projection import Change
from safespan.settings.evaluation import EvaluationConfig
from safespan.settings.study import load_study
from safespan.study.run import run_study
from tiny_model import build_tiny_tokenizer

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="needs vllm; run make test-vllm"),
    pytest.mark.long,
]

CONTEXT = 256
SETTINGS = {"enforce_eager": True, "kv_cache_memory_bytes": 2**28, "block_size": 32}
VLLM = {"name": "vllm", "batch_size": 64, "model_args": {"pretrained": "{checkpoint}", **SETTINGS}}
MEMORY, IN_PLACE = (Prompting(EvaluationConfig(engine=one)) for one in ({"name": "memory"}, VLLM))
PROMPTS = ["a b", "c d e", "f g h i", "z y", "cannot help", "q", "r s t u v w", "i i i"]
PAIRS = [(prompt, answer) for prompt in PROMPTS for answer in (" a", " b c", " help i")]
NEAR = 1e-4
"""Nats by which vLLM's float32 likelihoods of a few tokens may differ from those in memory."""


def save(folder: Path, seed: int, kind: str = "tied") -> Path:
    tokenizer = build_tiny_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
        "tie_word_embeddings": kind != "untied",
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")},
    }
    torch.manual_seed(seed)
    if kind == "biases":
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes, head_dim=32))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    folder = tmp_path_factory.mktemp("pair")
    return Checkpoint(save(folder / "a", 0)), Checkpoint(save(folder / "b", 1))


def towards(one: Checkpoint, other: Checkpoint, factor: float):
    return (
        Change(name, factor * (other.load(name).float() - one.load(name).float()), (False, False)) for name in one.names
    )


def said(model) -> tuple[list[str], list[float]]:
    return model.generate(PROMPTS, 12, chat_template=True), model.log_likelihoods(PAIRS)


def as_given(model: Checkpoint) -> list[tuple[str, torch.Tensor]]:
    return list(as_written(model, ((name, model.load(name)) for name in model.names), hashlib.sha256()))


@pytest.mark.parametrize("kind", ["tied", "untied", "biases"])
def test_points_say_what_they_say_in_memory_and_on_a_new_engine(kind: str, tmp_path: Path) -> None:
    one, other = (Checkpoint(save(tmp_path / name, seed, kind)) for seed, name in enumerate("ab"))
    (tmp_path / "scratch").mkdir()
    factors = (0.0, 1.0, 0.5, 1.0, 0.0)
    heard: dict[str, list] = {}
    for prompting in (MEMORY, IN_PLACE):
        switched = SwitchedModel(prompting, one, tmp_path / "scratch")
        heard[prompting.config.engine.name] = answers = []
        for factor in factors:
            with switched.with_weights(towards(one, other, factor)) as point:
                answers.append((point.sha256, point.energy, *said(point.open())))
        if vllm := vars(switched).get("_vllm"):
            its_own = said(vllm.give(as_given(other)))
        switched.close()
    for (sha, energy, texts, likelihoods), (its_sha, its_energy, its_texts, its_likelihoods) in zip(
        heard["memory"], heard["vllm"], strict=True
    ):
        assert (sha, energy) == (its_sha, its_energy)
        differ = sum(text != its for text, its in zip(texts, its_texts, strict=True))
        assert differ == 0, f"{differ} of {len(texts)} answers differ"
        assert its_likelihoods == pytest.approx(likelihoods, abs=NEAR)
    again = heard["vllm"]
    assert again[0] == again[4]
    assert again[1] == again[3]
    assert again[0][2] != again[1][2]
    for point, fresh in ((again[0][2:], one), (its_own, other)):
        with model_of(IN_PLACE, fresh, tmp_path / "scratch") as model:
            assert said(model) == point  # bit for bit
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """The vLLMs that were started; at each start those of before have ended."""
    import vllm

    started: list[weakref.ref] = []
    own = vllm.LLM.__init__

    def init(self, *given, **options):
        gc.collect()
        assert [one for one in started if one() is not None] == []
        own(self, *given, **options)
        started.append(weakref.ref(self))

    monkeypatch.setattr(vllm.LLM, "__init__", init)
    return started


def study_of(folder: Path, engine: dict):
    (folder / "harmful.txt").write_text("\n".join(PROMPTS))
    models = {role: {"model": str(folder / role)} for role in ("base", "aligned", "useful")}
    grid = {"subspaces": ["alignment", "random"], "fractions": [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]}
    fields = {
        "name": "S",
        "models": models,
        "projection": grid,
        "overlap": None,
        "evaluation": {
            "harmfulness": {"prompts": str(folder / "harmful.txt"), "max_new_tokens": 12},
            "engine": engine,
        },
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(fields))
    return load_study(folder / "study.yaml")


def test_a_study_of_24_points_starts_one_engine_for_them(tmp_path: Path, alive, monkeypatch) -> None:
    for seed, role in enumerate(("base", "aligned", "useful")):
        save(tmp_path / role, seed)
    run_study(study_of(tmp_path, {"name": "memory"}), tmp_path / "memory")
    for module in (engines, folder_engines):  # no checkpoint is written
        monkeypatch.delattr(module, "written")
    run_study(study_of(tmp_path, VLLM), tmp_path / "vllm")
    gc.collect()
    assert len(alive) == 3 + 1  # three models and one sweep
    assert all(one() is None for one in alive)
    files = {run: sorted((tmp_path / run / "generations").rglob("*.jsonl")) for run in ("memory", "vllm")}
    assert [file.name for file in files["memory"]] == [file.name for file in files["vllm"]]
    points = [file for file in files["memory"] if file.parent.name == "projection"]
    assert len(points) == 24
    pairs = [
        (row["response"], its["response"])
        for file, other in zip(files["memory"], files["vllm"], strict=True)
        for row, its in zip(read_jsonl(file), read_jsonl(other), strict=True)
    ]
    differ = sum(response != its for response, its in pairs)
    assert differ == 0, f"{differ} of {len(pairs)} answers differ"
    assert len({response for response, _ in pairs}) > 24
    assert list((tmp_path / "vllm").rglob("*.safetensors")) == []


def test_weights_that_equal_earlier_ones_start_no_engine(pair, alive, tmp_path: Path) -> None:
    switched = SwitchedModel(IN_PLACE, pair[0], tmp_path)
    with switched.with_weights(towards(*pair, 1.0)) as point:
        assert len(point.sha256) == 64
    switched.close()
    assert alive == []


def test_what_vllm_sets_of_the_process_is_as_before(pair, tmp_path: Path, monkeypatch) -> None:
    states = []
    own = folder_engines.starting

    def state():
        numbers = str((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))
        return numbers, torch.set_num_threads, torch.get_num_threads()

    @contextmanager
    def starting(engine):
        states.append(state())
        with own(engine):
            yield
            states.append(state())
        states.append(state())

    monkeypatch.setattr(folder_engines, "starting", starting)
    with model_of(IN_PLACE, pair[0], tmp_path):
        before, inside, after = states
    assert before == after
    assert before[0] != inside[0]
    assert before[1] != inside[1]


def test_the_dtype_is_the_checkpoints_and_not_vllms_choice(pair, tmp_path: Path) -> None:
    with model_of(IN_PLACE, pair[0], tmp_path) as model:
        assert model.lm.model.llm_engine.model_config.dtype == torch.float32


class TestRunning:
    """Of one engine that is started once."""

    @pytest.fixture(scope="class")
    def switched(self, pair, tmp_path_factory):
        switched = SwitchedModel(IN_PLACE, pair[0], tmp_path_factory.mktemp("scratch"))
        yield switched
        switched.close()

    def test_a_prefix_computed_with_other_weights_is_forgotten(self, switched, pair, monkeypatch) -> None:
        one, other = map(as_given, pair)
        prompts = [" ".join([*"abcdefgh" * 14, end]) for end in "stuvwxyz"]

        def generated(model):
            return model.generate(prompts, 8, chat_template=False)

        assert generated(switched._vllm.give(one)) != (right := generated(switched._vllm.give(other)))
        generated(model := switched._vllm.give(one))
        with monkeypatch.context() as patched:
            patched.setattr(type(model.lm.model), "reset_prefix_cache", lambda self: True)
            kept = generated(switched._vllm.give(other))
        assert kept != right  # so that this test sees what it should
        generated(switched._vllm.give(one))
        assert generated(switched._vllm.give(other)) == right

    def test_a_prompt_that_cannot_be_scored_whole_is_refused(self, switched, pair) -> None:
        model = switched._vllm.give(as_given(pair[0]))
        assert model.log_likelihoods([("a " * (CONTEXT - 3), " b")])[0] < 0
        with pytest.raises(DataError, match=f"context of {CONTEXT}, of which the engine can score {CONTEXT - 1}"):
            model.log_likelihoods([("a " * (CONTEXT + 2), " b")])

    def test_after_a_failed_update_a_new_engine_is_started(self, switched, pair, monkeypatch) -> None:
        from safespan.evaluation.vllm_engine import _Backend

        one, other = map(as_given, pair)
        before = switched._vllm.give(other)
        right = said(before)

        def fails(self, update_info):
            self.model.load_weights(iter(update_info.weights[:3]))
            raise RuntimeError("the line was cut\nand more")

        with monkeypatch.context() as patched:
            patched.setattr(_Backend, "receive_weights", fails)
            with pytest.raises(ConfigError, match=r"does not take weights in place \(the line was cut\); use the eng"):
                switched._vllm.give(one)
        assert vars(before.lm) == {}
        assert said(switched._vllm.give(other)) == right

    def test_a_part_of_a_fused_weight_is_refused(self, switched, pair) -> None:
        own = as_given(pair[0])
        switched._vllm.give(own)
        [q] = [(name, tensor) for name, tensor in own if "layers.0.self_attn.q_proj" in name]
        for weights in ([q], [one for one in own if one[0] != q[0]]):
            with pytest.raises(ConfigError, match="needs all weights of the model each time"):
                switched._vllm.give(weights)


def _nothing(self, update_info) -> None:
    """An update that does nothing."""


def _no_blocks(self, update_info) -> None:
    loaded = load_file(Path(self.vllm_config.model_config.model) / "model.safetensors")
    weights = [(name, loaded[name] if ".layers." in name else tensor) for name, tensor in update_info.weights]
    self.model.load_weights(iter(weights))


def _no_packing(self) -> None:
    from safespan.evaluation.vllm_engine import finalize_layerwise_reload

    finalize_layerwise_reload(self.model, self.model_config)


@pytest.mark.parametrize(
    ("method", "replacement", "says"),
    [
        ("receive_weights", _nothing, "its answers are not those of the weights that it was given"),
        ("receive_weights", _no_blocks, "its answers stay as they were with other weights"),
        ("finish_weight_update", _no_packing, "its answers are not those of the weights that it was given"),
    ],
)
def test_an_engine_that_does_not_take_weights_is_refused(
    method, replacement, says, pair, alive, tmp_path: Path, monkeypatch
) -> None:
    switched = SwitchedModel(IN_PLACE, pair[0], tmp_path)
    assert switched._vllm is not None
    from safespan.evaluation.vllm_engine import _Backend

    monkeypatch.setattr(_Backend, method, replacement)
    with switched.with_weights(towards(*pair, 1.0)) as point, pytest.raises(ConfigError, match=says):
        point.open()
    gc.collect()
    assert [one() for one in alive] == [None]


def test_a_head_of_its_own_that_vllm_would_tie_is_refused(tmp_path: Path) -> None:
    aligned = Checkpoint(save(tmp_path / "a", 0))
    aligned.untie("lm_head.weight")
    with (
        pytest.raises(CheckpointError, match="lm_head.weight has numbers of its own, and config.json ties it"),
        model_of(IN_PLACE, aligned, tmp_path),
    ):
        pass
