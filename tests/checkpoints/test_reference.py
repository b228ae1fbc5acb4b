import json
import os

import pytest

from safespan.checkpoints import local_place, open_checkpoint, reference
from safespan.errors import CheckpointError
from tiny_adapter import make_adapter
from tiny_model import save_tiny_model


def test_a_folder_that_exists_is_taken_whatever_signs_it_holds(tmp_path):
    folder = save_tiny_model(tmp_path / "a+b@c")
    assert open_checkpoint(folder).folder == folder
    assert local_place(str(folder)) == folder


def test_a_plus_in_the_name_of_a_base_belongs_to_it(tmp_path):
    base = save_tiny_model(tmp_path / "a+b")
    with pytest.raises(CheckpointError, match=r"no checkpoint at nowhere: expected a model folder"):
        open_checkpoint(f"{base}+nowhere")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(CheckpointError, match=r"adapter/adapter_config\.json is no readable adapter configuration"):
        open_checkpoint(f"{base}+{tmp_path / 'adapter'}")
    assert local_place(f"{base}+{tmp_path / 'adapter'}") == base
    assert local_place(f"{base}+safespan-tests/no-such-adapter") is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "expected a model folder, a hub id"),
        ("some/where/else", "expected a model folder, a hub id"),
        ("./nowhere", "expected a model folder, a hub id"),
        ("some/a..b", "cannot be downloaded"),
        ("safespan-tests/no-such-model", "not in the local cache and the hub cannot be reached"),
        ("safespan-tests/no-such-model@v1", "not in the local cache"),
        ("missing.gguf", "no such file"),
    ],
)
def test_names_that_lead_nowhere_offline(name, says):
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(name)
    assert local_place(name) is None


def test_an_adapter_that_says_it_was_trained_on_another_model(tmp_path, monkeypatch, caplog):
    """A folder is compared with a folder and a hub id with a hub id; what is one by another name is no other."""
    monkeypatch.chdir(tmp_path)
    base, aligned = (save_tiny_model(tmp_path / role, seed) for seed, role in enumerate(("base", "aligned")))
    os.symlink(aligned, tmp_path / "link")
    adapter = make_adapter(aligned, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())

    def remarks(model: str, trained_on: object) -> list[str]:
        text = json.dumps(config | {"base_model_name_or_path": trained_on})
        (adapter / "adapter_config.json").write_text(text)
        return open_checkpoint(f"{model}+{adapter}").remarks

    [remark] = remarks("aligned", str(base))
    assert remark.startswith(
        f"{adapter} was trained on '{base}', as its adapter_config.json says, and is put on aligned"
    )
    assert remark in caplog.messages
    for same in (str(aligned), "aligned", "link", "./aligned/"):
        assert remarks("aligned", same) == []
    for unknown in (None, "", 3, "/gone/base", "org/base", "no name\0"):
        assert remarks("aligned", unknown) == []
    monkeypatch.setattr(
        reference, "_folder", lambda name: aligned if "/" in name and "org" in name.lower() else adapter
    )
    assert remarks("org/chat@v1", "Org/Chat") == []
    assert len(remarks("org/chat", "org/base")) == 1
    assert remarks("org/chat", "base") == []
