"""A key in the environment is in no file and no stream; one that is written where it does not belong is refused."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from inspect_ai.log import read_eval_log

from safespan.errors import ConfigError
from safespan.evaluation.judges import Exchange, make_judge
from safespan.settings.judges import LLMConfig
from safespan.settings.reading import load_settings
from safespan.settings.redaction import redacted, secret_field

CANARIES = {
    "MY_JUDGE_KEY": "canary-judge-5f1c22",
    "OPENAI_API_KEY": "canary-openai-77aa01",
    "ANTHROPIC_API_KEY": "canary-anthropic-90be",
    "HF_TOKEN": "canary-hub-1d2e3f",
}


def leaks(*folders: Path) -> list[str]:
    """Files with a canary in their bytes or in what is packed in them."""
    leaked = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".eval":
            data += read_eval_log(str(path)).model_dump_json().encode()
        elif path.suffix == ".gz":
            data = gzip.decompress(data)
        leaked += [f"{name} in {path}" for name, value in CANARIES.items() if value.encode() in data]
    return leaked


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    places = {"HOME": str(home), "TMPDIR": str(folder / "tmp"), "SAFESPAN_CACHE": str(folder / "cache")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return subprocess.run(
        [sys.executable, "-m", "safespan", *arguments],
        env={**environment, **CANARIES, **places},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.long
def test_no_key_is_in_any_file_or_stream_of_a_run(server, judged_study, tmp_path) -> None:
    judge = {"kind": "llm", "model": "m", "base_url": server.url, "api_key_env": "MY_JUDGE_KEY", "retries": 0}
    path = judged_study(tmp_path, judge)
    done = run(tmp_path, "run", str(path), "--out", "run")
    assert done.returncode == 0, done.stderr
    assert server.keys == {f"Bearer {CANARIES['MY_JUDGE_KEY']}"}
    assert (tmp_path / "run" / "report.html").exists()
    server.plan = [(401, {}, f"{CANARIES['MY_JUDGE_KEY']} is no key of ours")]
    failed = run(tmp_path, "run", str(path), "--out", "refused", "--set", "seed=3")
    assert failed.returncode == 2
    assert "401" in failed.stderr
    printed = done.stdout + done.stderr + failed.stdout + failed.stderr
    assert not [name for name, value in CANARIES.items() if value in printed]
    assert leaks(tmp_path) == []


def test_no_key_of_a_provider_is_in_what_its_judge_writes_and_says(server, tmp_path, monkeypatch, capfd) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    for name in ("OPENAI_BASE_URL", "MY_JUDGE_BASE_URL"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("MY_JUDGE_API_KEY", CANARIES["MY_JUDGE_KEY"])
    asked = [Exchange("request", "response")]
    config = LLMConfig(model="openai-api/my-judge/m", retries=0)
    assert make_judge(config, tmp_path / "a").judge(asked)[0].score == 4
    assert server.keys == {f"Bearer {CANARIES['MY_JUDGE_KEY']}"}
    server.plan = [(401, {}, f"Incorrect API key provided: {' '.join(CANARIES.values())}")]
    told = ""
    for model in ("openai-api/my-judge/m", "openai/gpt-4o-mini"):
        with pytest.raises(ConfigError, match="401") as raised:
            make_judge(config.model_copy(update={"model": model}), tmp_path / "b").judge(asked)
        told += str(raised.value)
    assert f"Bearer {CANARIES['OPENAI_API_KEY']}" in server.keys
    told += "".join(capfd.readouterr())
    assert not [name for name, value in CANARIES.items() if value in told]
    assert leaks(tmp_path) == []


INLINE = {
    "judge.api_key": {"judge": {"kind": "llm", "model": "m", "api_key": "abc"}},
    "judge.api_key_env": {"judge": {"kind": "llm", "model": "m", "api_key_env": "sk-proj-0123456789abcdefghij"}},
    "judge.base_url": {"judge": {"kind": "llm", "model": "m", "base_url": "https://user:hunter22@host/v1"}},
    "engine.model_args.token": {"engine": {"model_args": {"token": "abcdef"}}},
    "engine.model_args": {"engine": {"model_args": "pretrained=x,api_key=abcdef"}},
    "models.0": {"models": ["https://user:hunter22@host/model"]},
    "name": {"name": "my key is hf_abcdefghijklmnopqrstuvwxyz"},
    "***": {"sk-proj-0123456789abcdefghij": {"password": "abcdef"}},
}


@pytest.mark.parametrize("field", INLINE)
def test_secrets_in_a_file_are_refused_and_not_said_back(field, tmp_path) -> None:
    assert str(secret_field(INLINE[field])).startswith(field)
    path = tmp_path / "judge.yaml"
    path.write_text(yaml.safe_dump(INLINE[field]))
    with pytest.raises(ConfigError, match="environment variables") as raised:
        load_settings(path, LLMConfig)
    for secret in ("abcdef", "hunter22", "sk-proj", "hf_"):
        assert secret not in str(raised.value).replace(str(path), "")


@pytest.mark.parametrize("text", ["api_key: sk-proj-0123456789abcdefghij: :", "password: [hunter22hunter"])
def test_a_line_that_cannot_be_read_is_not_quoted(text, tmp_path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot read .* in line") as raised:
        load_settings(path, LLMConfig)
    assert "sk-proj" not in str(raised.value)
    assert "hunter22" not in str(raised.value)


def test_what_is_no_secret_is_left_alone(monkeypatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "abc")  # too short to be looked for
    settings = {
        "judge": {"api_key_env": "OPENAI_API_KEY", "max_tokens": 3, "template": "a == b, token?"},
        "where": {"token": "the"},
        "engine": {"model_args": {"pretrained": "{checkpoint}", "eos_token": "<eos>"}},
        "file": "/data/a@b/c.csv",
        "url": "https://host/v1",
    }
    assert secret_field(settings) is None
    assert redacted("abc https://host/a@b") == "abc https://host/a@b"


def test_secrets_are_taken_out_of_what_is_said(monkeypatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "canary-xyz")
    text = redacted("canary-xyz at https://me:pw@host/v1 with sk-proj-0123456789abcdefghij and Bearer abcdefghijk")
    assert text == "*** at https://***@host/v1 with *** and Bearer ***"


def test_errors_and_tracebacks_of_the_command_line_are_redacted(tmp_path) -> None:
    missing = run(tmp_path, "report", "https://me:hunter22@host/run")
    assert missing.returncode == 2
    assert "hunter22" not in missing.stderr
    code = "import os, safespan.cli as c; c.app = lambda *words, **how: os.environ[os.environ['HF_TOKEN']]; c.main()"
    broken = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **CANARIES}, capture_output=True, text=True, check=False
    )
    assert "KeyError: '***'" in broken.stderr
    assert CANARIES["HF_TOKEN"] not in broken.stderr


def test_a_key_given_as_the_name_of_a_variable() -> None:
    with pytest.raises(ValueError, match="not the key itself"):
        LLMConfig(model="m", api_key_env="not-a-name")
