"""Every judge sees the answers alone, and is not shown what has none."""

from safespan.evaluation.judges import Exchange, Judgement, judge_answers


class Recorder:
    """Gives a point more to every response that it is shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.shown: list[str] = []

    def check(self) -> None:
        """There is no server."""

    def judge(self, exchanges):
        self.shown += [exchange.response for exchange in exchanges]
        return [Judgement(number, False, "") for number, _ in enumerate(exchanges, start=3)]


def test_thinking_is_not_shown_and_what_has_no_answer_is_not_judged():
    responses = ["<think>x</think>one", "<think>x", "two", "  "]
    judge = Recorder()
    judged = judge_answers(judge, [Exchange("p", response, "t") for response in responses])
    assert judge.shown == ["one", "two"]
    assert [(one.score, one.refused, one.reason) for one in judged] == [
        (3, False, ""), (2, None, "no answer"), (4, False, ""), (2, None, "no answer")
    ]  # fmt: skip


def test_a_judge_that_is_shown_nothing_is_not_asked():
    judge = Recorder()
    judge.judge = None
    assert [one.reason for one in judge_answers(judge, [Exchange("p", "")])] == ["no answer"]
    assert judge_answers(judge, []) == []
