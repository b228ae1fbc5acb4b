"""When vLLM's weights are changed in place, and what it is told; it need not be installed."""

import os
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safespan.checkpoints import Checkpoint
from safespan.errors import ConfigError
from safespan.evaluation import Prompting, SwitchedModel, model_of
from safespan.evaluation.vllm_settings import CACHE_BYTES, starting, vllm_arguments, why_not_in_place
from safespan.projection import Change
from safespan.settings.evaluation import EngineConfig, EvaluationConfig


def engine(**arguments: object) -> EngineConfig:
    return EngineConfig(name="vllm", model_args={"pretrained": "{checkpoint}", **arguments})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tensor_parallel_size": 2}, "tensor_parallel_size is 2"),
        ({"tensor_parallel_size": "1", "data_parallel_size": 3}, "data_parallel_size is 3"),
        ({"quantization": "fp8"}, "quantization is set"),
        ({"lora_local_path": "adapter"}, "lora_local_path is set"),
        ({"distributed_executor_backend": "mp"}, "distributed_executor_backend is set"),
        ({"tensor_parallel_size": "two"}, "tensor_parallel_size is two"),
        ({"tensor_parallel_size": 1, "quantization": None}, None),
    ],
)
def test_engines_whose_weights_stay(arguments, says, tiny_model_folder: Path) -> None:
    assert why_not_in_place(engine(**arguments), Checkpoint(tiny_model_folder)) == says


def test_the_weights_of_a_mixture_stay(tiny_model_folder: Path) -> None:
    mixture = Checkpoint(tiny_model_folder)
    mixture.shapes["model.layers.0.mlp.experts.0.up_proj.weight"] = (4, 4)
    assert why_not_in_place(engine(), mixture) == f"{tiny_model_folder} is a mixture of experts"


@pytest.mark.parametrize("argument", ["kv_transfer_config", "kv_offloading_size"])
def test_keys_and_values_outside_the_cache_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} keeps keys and values of prompts outside vLLM's own cache"):
        engine(**{argument: 4})
    assert engine(**{argument: None})


def test_the_dtype_is_that_of_most_numbers(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "mixed"))
    weights = load_file(folder / "model.safetensors")
    first = min(name for name in weights if weights[name].ndim == 1)
    mixed = {name: tensor.float() if name == first else tensor.bfloat16() for name, tensor in weights.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    assert vllm_arguments(engine(), Checkpoint(folder), folder)["dtype"] == "bfloat16"


def test_dtype_and_memory_are_told_unless_the_settings_say(tiny_model_folder: Path, monkeypatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    model = Checkpoint(tiny_model_folder)
    assert vllm_arguments(engine(), model, model.folder)["dtype"] == "float32"
    chosen = EngineConfig(name="vllm", dtype="bfloat16")
    assert vllm_arguments(chosen, model, model.folder)["dtype"] == "bfloat16"
    if not torch.cuda.is_available():
        assert vllm_arguments(engine(), model, model.folder)["kv_cache_memory_bytes"] == CACHE_BYTES
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert "kv_cache_memory_bytes" not in vllm_arguments(engine(), model, model.folder)


def test_the_environment_is_as_before(monkeypatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    before = dict(os.environ)
    with starting(engine()):
        assert os.environ["VLLM_LOGGING_LEVEL"] == "INFO"
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        os.environ["VLLM_SOMETHING"] = "1"
    assert dict(os.environ) == before
    with starting(engine(tensor_parallel_size=2)):
        assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ
        assert version("torch") == torch.__version__


@pytest.mark.skipif(find_spec("vllm") is not None, reason="of a machine without vllm")
@pytest.mark.parametrize("parallel", [1, 2])
def test_without_vllm_one_line_says_so(parallel: int, tiny_model_folder: Path, tmp_path: Path, capsys) -> None:
    aligned = Checkpoint(tiny_model_folder)
    prompting = Prompting(EvaluationConfig(engine=engine(tensor_parallel_size=parallel)))
    says = "engine 'vllm' needs a package that is not installed"
    with pytest.raises(ConfigError, match=says), model_of(prompting, aligned, tmp_path):
        pass
    changes = (Change(name, 0 * aligned.load(name), (False, False)) for name in aligned.names)
    switched = SwitchedModel(prompting, aligned, tmp_path)
    with pytest.raises(ConfigError, match=says), switched.with_weights(changes) as point:
        point.open()
