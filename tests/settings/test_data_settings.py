import pytest
from pydantic import ValidationError

from safespan.settings.data import PromptSource, RowSource, TrainingData
from safespan.settings.presets import PRESETS


def test_presets_expand_to_the_fields_a_source_has() -> None:
    unsafe = TrainingData.model_validate({"preset": "beavertails-unsafe", "rows": 40})
    assert (unsafe.dataset, unsafe.split, unsafe.where, unsafe.rows) == (
        "PKU-Alignment/BeaverTails",
        "30k_train",
        {"is_safe": False},
        40,
    )
    assert PromptSource.model_validate("advbench").target_field == "target"
    assert PromptSource.model_validate("prompts/mine.txt").file == "prompts/mine.txt"
    copy = TrainingData.model_validate({"preset": "metamathqa", "file": "copy.jsonl"})
    assert (copy.file, copy.dataset, copy.prompt_field, copy.rows) == ("copy.jsonl", None, "query", 20_000)
    for name in PRESETS:
        for kind in (TrainingData, PromptSource):
            source = kind.model_validate(name)
            assert kind.model_validate(source.model_dump(mode="json")) == source


def test_the_two_halves_of_beavertails_share_no_row_and_leave_no_category_out() -> None:
    violence, other = (RowSource.model_validate(f"beavertails-{half}") for half in ("violence", "other"))
    assert len({*violence.any_of, *other.any_of}) == 14
    assert (violence.any_of, violence.none_of) == (other.none_of, other.any_of)


@pytest.mark.parametrize("wrong", [{}, {"file": "a.txt", "dataset": "b"}, {"preset": "x"}, {"file": "a", "speed": 1}])
def test_a_source_is_one_of_file_dataset_and_preset(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RowSource.model_validate(wrong)
