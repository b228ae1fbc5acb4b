from safespan.evaluation.judges.replies import Replies, Reply, sha256_of


def test_replies_outlive_the_process_and_a_torn_line(tmp_path) -> None:
    path = tmp_path / "new" / "replies.jsonl"
    kept = Replies(path)
    kept.add("a", Reply("line\u2028one\nline two", 10, 2))
    kept.add("b", Reply("", 5, 1))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "c", "text": "cut of')
    again = Replies(path)
    assert (again.get("a"), again.get("c"), len(again)) == (Reply("line\u2028one\nline two", 10, 2), None, 2)
    again.add("c", Reply("whole", 1, 1))
    assert Replies(path).totals() == Reply("", 16, 4)
    assert Replies(path).get("c") == Reply("whole", 1, 1)


def test_lines_that_are_no_replies_are_passed_over(tmp_path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_bytes(b'[1]\nnull\n{"text": "no key"}\n{"key": "k", "colour": 1}\n\xff\xfe\n{"key": "a", "text": "x"}\n')
    assert len(Replies(path)) == 1


def test_a_key_tells_judges_and_questions_apart() -> None:
    assert sha256_of("rubric", {"model": "m"}) == sha256_of("rubric", {"model": "m"})
    assert len({sha256_of("r", {"model": "m"}), sha256_of("r", {"model": "n"}), sha256_of("s", {"model": "m"})}) == 3
