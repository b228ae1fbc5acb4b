import pytest

from safespan.errors import ConfigError
from safespan.settings.verdict import trial_finetunes


def test_the_contaminated_fine_tune_is_tried_where_there_is_one():
    assert trial_finetunes(["useful", "harmful", "contaminated"]) == ("contaminated", "contaminated")
    assert trial_finetunes(["harmful", "useful"]) == ("useful", "harmful")
    with pytest.raises(ConfigError, match="contaminated fine-tune, or a useful and a harmful one"):
        trial_finetunes(["useful"])
