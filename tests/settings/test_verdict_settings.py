import pytest

from safespan.errors import ConfigError
from safespan.settings.verdict import update_finetunes


def test_the_contaminated_fine_tune_is_tried_where_there_is_one():
    assert update_finetunes(["useful", "harmful", "contaminated"]) == ("contaminated", "contaminated")
    assert update_finetunes(["harmful", "useful"]) == ("useful", "harmful")
    with pytest.raises(ConfigError, match="contaminated fine-tune, or a useful and a harmful one"):
        update_finetunes(["useful"])
