import pytest

from safespan.checkpoints import local_place, open_checkpoint
from safespan.errors import CheckpointError
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
