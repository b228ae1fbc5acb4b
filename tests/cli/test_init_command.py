import json
import os
import pty
import subprocess
import sys

import pytest

from safespan import cli
from safespan.settings import load_study
from safespan.settings.data import PromptSource
from safespan.study.draft import BUDGETS
from tiny_model import save_tiny_model


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with models, prompts and a task."""
    monkeypatch.chdir(tmp_path)
    for seed, role in enumerate(("base", "aligned", "mine")):
        save_tiny_model(tmp_path / role, seed)
    rows = [{"prompt": f"a b {letter}", "response": "c d", "target": "e f"} for letter in "ghijklmnopq"]
    (tmp_path / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "useful.txt").write_text("a b\nc d e\nf\n")
    documents = [{"question": "a b", "answer": "c"}, {"question": "d e", "answer": "f"}]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    (tmp_path / "task.yaml").write_text(
        "task: letters\ndataset_path: json\n"
        f'dataset_kwargs: {{data_files: {{test: "{tmp_path}/documents.jsonl"}}}}\n'
        'test_split: test\noutput_type: generate_until\ndoc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "generation_kwargs: {until: [], max_gen_toks: 4, do_sample: false}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return tmp_path


GIVEN = ["--base", "base", "--aligned", "aligned", "--finetuned", "mine", "--useful", "useful.txt"]
GIVEN += ["--harmful", "harmful.jsonl", "--utility", "task.yaml"]
TRAINING = ["--training", "useful=harmful.jsonl", "--training", "harmful=harmful.jsonl"]


def run(*words):
    """What the installed command does with these words, on no terminal; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch, open(os.devnull) as nothing:
        patch.setattr(sys, "argv", ["safespan", *map(str, words)])
        patch.setattr(sys, "stdin", nothing)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code


def test_the_study_has_what_was_given_and_two_tests(place, capsys):
    assert run("init", *GIVEN) == 0
    study = load_study(place / "study.yaml")
    assert {role: source.model for role, source in study.models.items()} == {
        "base": "base", "aligned": "aligned", "finetuned": "mine"
    }  # fmt: skip
    assert study.verdict.tests == ("update", "ablation")
    assert study.evaluation.harmfulness.prompts == PromptSource(file="harmful.jsonl")
    assert study.evaluation.utility.task == "task.yaml"
    assert (study.activations.useful.file, study.activations.harmful.file) == ("useful.txt", "harmful.jsonl")
    assert (study.evaluation.utility.limit, study.verdict.prompts) == (100, 50)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"budget quick: {BUDGETS['quick']}"
    assert "claims are made from the same prompts that models are asked" in printed[1]
    assert printed[-1] == "study: study.yaml; next: safespan run study.yaml --dry-run"
    text = (place / "study.yaml").read_text()
    parts = [line for line in text.splitlines() if line and line[0].isalpha()]
    for part in parts:  # each has its comment, on its line or above it
        above = text[: text.index(f"\n{part}") + 1].splitlines()[-1] if f"\n{part}" in text else "#"
        assert "#" in part or above.startswith("#"), part


@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--budget", "full"], TRAINING])
def test_a_dry_run_of_it_succeeds(more, place, capsys):
    assert run("init", "it.yaml", *GIVEN, *more) == 0
    assert run("run", "it.yaml", "--dry-run") == 0
    assert "stage update test" in capsys.readouterr().out
    study = load_study(place / "it.yaml")
    assert ("training" in study.verdict.tests) == (more == TRAINING)
    if more == TRAINING:
        assert study.models["contaminated"].train.contaminate_with.file == "harmful.jsonl"
    if "full" in more:
        assert study.verdict.hypotheses is None
        assert (study.evaluation.utility.limit, study.projection.fractions) == (None, (0.01, 0.25, 0.5, 0.75, 0.99))


def test_options_for_columns_roles_and_other_prompts(place):
    (place / "goals.csv").write_text('goal,answer\n"a b",c\n"d e",f\n')
    words = ["--base", "base", "--aligned", "aligned", "--finetuned", "useful=mine", "--finetuned", "safe=base"]
    words += ["--useful", "useful.txt", "--harmful", "goals.csv", "--prompt-field", "harmful=goal"]
    words += ["--target-field", "answer", "--harmful-for-claims", "harmful.jsonl", "--benign", "useful.txt"]
    assert run("init", "it.yaml", *words, "--utility", "gsm8k") == 0
    study = load_study(place / "it.yaml")
    asked = study.evaluation.harmfulness.prompts
    assert (asked.file, asked.prompt_field, asked.target_field) == ("goals.csv", "goal", "answer")
    assert study.activations.harmful.file == "harmful.jsonl"
    assert study.activations.models == ("base", "aligned", "useful", "safe")
    assert study.evaluation.over_refusal.prompts.file == "useful.txt"
    assert (study.evaluation.utility.task, study.evaluation.utility.filter) == ("gsm8k", "flexible-extract")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--base", "base", "--utility", "t"],
            "give --aligned, --finetuned, --useful, --harmful, or run it on a termi",
        ),
        ([*GIVEN, "--budget", "huge"], "unknown budget 'huge': expected one of quick, full"),
        ([*GIVEN, "--finetuned", "base"], "there is already mine as finetuned; give ROLE=MODEL"),
        ([*GIVEN, "--useful", "nowhere.txt"], "nowhere.txt: no such file, and no preset"),
        (
            [*GIVEN, "--harmful", "advbnch"],
            "no such file, and unknown preset 'advbnch': did you mean 'advbench'?",
        ),
        ([*GIVEN, "--utility", "gsm9k"], "unknown utility 'gsm9k': did you mean 'gsm8k'?"),
        (
            [*GIVEN, "--finetuned", "contaminatd=mine"],
            "unknown role of --finetuned 'contaminatd': did you mean 'contaminated'?",
        ),
        ([*GIVEN, "--aligned", "nowhere"], "no checkpoint at nowhere"),
        ([*GIVEN, "--utility", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (
            [*GIVEN, "--harmful", "useful.txt"],
            "a verdict needs the forbidden answers, and prompt 1 has none in 'target'",
        ),
        ([*GIVEN, "--prompt-field", "useful=goal"], "useful.txt: row 1 has no text in the field 'goal'"),
        ([*GIVEN, "--prompt-field", "useful=goal"], "name the right field by prompt_field or --prompt-field"),
        ([*GIVEN, "--prompt-field", "x=goal"], "unknown prompts of --prompt-field 'x'"),
        ([*GIVEN, "--training", "useful=useful.txt"], "--training: expected useful=FILE and harmful=FILE"),
        (
            [*GIVEN[:4], "--finetuned", "contaminated=mine", *GIVEN[6:], *TRAINING],
            "both give that model: leave one out",
        ),
        ([*GIVEN[:4], "--finetuned", "safe=mine", *GIVEN[6:]], "no fine-tune is given"),
    ],
)
def test_what_cannot_be_a_study_gets_one_line_and_no_file(words, says, place, capsys):
    assert run("init", "it.yaml", *words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert says in printed.err
    assert not (place / "it.yaml").exists()


def test_a_file_that_is_there_is_written_over_by_force_alone(place, capsys):
    (place / "study.yaml").write_text("mine\n")
    assert run("init", *GIVEN) == 2
    assert "study.yaml exists: give another name, or --force" in capsys.readouterr().err
    assert (place / "study.yaml").read_text() == "mine\n"
    assert run("init", *GIVEN, "--force") == 0
    assert load_study(place / "study.yaml").verdict
    assert run("init", ".", *GIVEN, "--force") == 2


@pytest.mark.long
def test_on_a_terminal_it_asks_for_what_is_missing_until_the_answer_can_be_used(place):
    answers = [
        "base",
        "nowhere",
        "aligned",
        "useful=mine harmful=base",
        "useful.txt",
        "harmful.jsonl prompt",
        "",
        "full",
    ]
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "safespan", "init", "it.yaml", "--utility", "gsm8k"]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
    printed = b""
    while True:
        try:
            printed += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0, printed.decode()
    assert "no checkpoint at nowhere" in printed.decode()
    study = load_study(place / "it.yaml")
    assert [source.model for source in study.models.values()] == ["base", "aligned", "mine", "base"]
    assert study.evaluation.harmfulness.prompts.prompt_field == "prompt"
    assert study.verdict.hypotheses is None
    assert "training" not in study.verdict.tests
