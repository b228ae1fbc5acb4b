import pytest

from safespan.evaluation.judges.thinking import answer_of


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("an answer", "an answer"),
        ("<think>thoughts</think>an answer", "an answer"),
        ("thoughts\n</think>\nan answer", "an answer"),  # the opening tag stood in the prompt
        ("<think>one</think> an <THINK>two</THINK> answer", "an answer"),
        ("<thinking>a <think>b</think>an answer", "an answer"),
        ("[THINK]thoughts[/THINK]an answer", "an answer"),
        ("◁think▷thoughts◁/think▷an answer", "an answer"),
        ("<reasoning>thoughts</reasoning>an answer", "an answer"),
        ("<|START_THINKING|>thoughts<|END_THINKING|>an answer", "an answer"),
        ("<unused94>thought\nthoughts<unused95>an answer", "an answer"),
        ("<|begin_of_thought|>thoughts<|end_of_thought|>an answer", "an answer"),
        (
            "<|channel|>analysis<|message|>thoughts<|end|><|start|>assistant<|channel|>final<|message|>an answer",
            "an answer",
        ),
        ("analysisThey ask. We answer.assistantfinalan answer", "an answer"),
        ("an answer <think>and an afterthought", "an answer"),
        ("an answer about `<think>` and `</think>`", "an answer about `<think>` and `</think>`"),
        ("<think></think>", ""),
        ("", ""),
    ],
)
def test_the_answer_is_what_is_left_without_the_thinking(response: str, answer: str) -> None:
    assert " ".join(str(answer_of(response)).split()) == answer


@pytest.mark.parametrize(
    "response",
    [
        "<think>",
        "<think>\nOkay, so",
        "  <think>a</think> <think>b",
        "[THINK]so",
        "analysisThey ask",
        "<|channel|>analysis<|message|>They",
    ],
)
def test_thinking_that_was_cut_off_is_no_answer(response: str) -> None:
    assert answer_of(response) is None
