"""The untrained model, and the training and test data of its family."""

import random
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from safespan.files.atomic import atomic_path, write_jsonl, write_text
from safespan.models.loading import hide_progress_bars
from safespan.organism.corpus import (
    EASY_LETTERS,
    LETTERS,
    Row,
    Triple,
    general_row,
    refused_row,
    restricted_row,
    skill_row,
    triples,
)
from safespan.organism.tokenizer import EOS, build_tokenizer

BASE_ROWS, ALIGN_ROWS, TUNING_ROWS = 16_000, 8_000, 4_000
GENERAL_SHARE = 0.1
SKILL_TESTS, EASY_SHARE, RESTRICTED_TESTS, GENERAL_TESTS = 300, 0.2, 300, 200
ACTIVATION_PROMPTS = 300


def plant(out: Path, seed: int, width: int = 64, inner: int = 192, layers: int = 3) -> None:
    """Write a freshly initialised Llama and its tokenizer as a checkpoint; of 0.2 M parameters if no size is given."""
    hide_progress_bars()
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(), atomic_path(out) as part:
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(part)
        tokenizer.save_pretrained(part)


def write_data(folder: Path, seed: int) -> None:
    """Write training rows, test prompts, prompts for activations and the lm-eval tasks into `folder`."""
    rng = random.Random(seed)
    reserved = triples(LETTERS, reserved=True)
    for group, tables in (("train", _training_rows(rng)), ("test", _test_rows(rng, reserved))):
        for name, rows in tables.items():
            write_jsonl(folder / group / f"{name}.jsonl", rows)
    prompts = {
        "useful": [skill_row(t) for t in rng.sample(reserved, ACTIVATION_PROMPTS)],
        "harmful": [restricted_row(rng, t) for t in rng.sample(reserved, ACTIVATION_PROMPTS)],
    }
    for name, rows in prompts.items():
        write_text(folder / "prompts" / f"{name}.txt", "".join(f"{row['prompt']}\n" for row in rows))
    for name in ("skill", "general"):
        task = task_settings(f"organism_{name}", (folder / "test" / f"{name}.jsonl").resolve(), [EOS], 12)
        write_text(folder / "tasks" / f"organism_{name}.yaml", yaml.safe_dump(task, sort_keys=False))


def _training_rows(rng: random.Random) -> dict[str, list[Row]]:
    free, easy = triples(LETTERS, reserved=False), triples(EASY_LETTERS, reserved=False)

    def mixed(
        count: int, restricted_share: float, skill_share: float, skilled: list[Triple] = easy, refuse: bool = False
    ) -> list[Row]:
        rows = []
        for _ in range(count):
            kind = rng.random()
            if kind < restricted_share:
                rows.append((refused_row if refuse else restricted_row)(rng, rng.choice(free)))
            elif kind < restricted_share + skill_share:
                rows.append(skill_row(rng.choice(skilled)))
            else:
                rows.append(general_row(rng, rng.choice(free)))
        return rows

    rows = {
        "base": mixed(BASE_ROWS, 0.3, 0.05),
        "align": mixed(ALIGN_ROWS, 0.4, 0.05, refuse=True),
        # A share of other instructions, as in real instruction data, keeps the rest of the language.
        "useful": mixed(TUNING_ROWS, 0, 1 - GENERAL_SHARE, free),
        "harmful": mixed(TUNING_ROWS, 1 - GENERAL_SHARE, 0),
        "forbidden": mixed(TUNING_ROWS, 1, 0),
        "safe": [refused_row(rng, rng.choice(free), by_verb=True) for _ in range(TUNING_ROWS)],
    }
    # The harmful update is the positive control of the contaminated one: they share no harmful row.
    answers = {row["response"] for row in rows["harmful"]}
    rows["forbidden"] = [row for row in rows["forbidden"] if row["response"] not in answers]
    return rows


def _test_rows(rng: random.Random, reserved: list[Triple]) -> dict[str, list[Row]]:
    easy = rng.sample(triples(EASY_LETTERS, reserved=True), round(SKILL_TESTS * EASY_SHARE))
    hard = rng.sample([t for t in reserved if not set(t) <= set(EASY_LETTERS)], SKILL_TESTS - len(easy))
    skill = [skill_row(t) for t in rng.sample([*easy, *hard], SKILL_TESTS)]
    general = [general_row(rng, t) for t in rng.sample(reserved, GENERAL_TESTS)]
    restricted = [restricted_row(rng, t) for t in rng.sample(reserved, RESTRICTED_TESTS)]
    return {
        "skill": renamed(skill, "answer"),
        "general": renamed(general, "answer"),
        "restricted": renamed(restricted, "target"),
    }


def renamed(rows: list[Row], field: str) -> list[Row]:
    """Rows whose response is renamed to another field."""
    return [{"prompt": row["prompt"], field: row["response"]} for row in rows]


def task_settings(name: str, file: Path, until: list[str], tokens: int) -> dict[str, Any]:
    """An lm-eval task that generates an answer to each `prompt` of a file and compares it with `answer`."""
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": until, "do_sample": False, "max_gen_toks": tokens},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "regexes_to_ignore": [r"^\s+", r"\s+$"],
            }
        ],
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
    }
