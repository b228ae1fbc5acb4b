"""Conversations: lists of turns in the forms of OpenAI and of ShareGPT, and prompts that carry their turns."""

from collections.abc import Sequence

from safespan.errors import DataError

Turn = dict[str, str]
"""`role` (system, user or assistant) and `content`."""

COLUMNS = ("messages", "conversations")
"""The columns that hold a row's conversation where it has no `prompt`."""

_FORMS = (("role", "content"), ("from", "value"))
_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


class Conversation(str):
    """A prompt of several turns, the last one the user's. As text it is all of them, each behind its role.

    Where there is a chat template its turns are taken (`turns_of`); everywhere else it is a text as any prompt.

    Args:
        turns: of the conversation.
    """

    turns: list[Turn]

    def __new__(cls, turns: Sequence[Turn]) -> "Conversation":
        """The text, with the turns beside it."""
        self = super().__new__(cls, "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns))
        self.turns = list(turns)
        return self

    def __getnewargs__(self) -> tuple[list[Turn]]:  # type: ignore[override]
        """What a copy, in this process or in another, is made of."""
        return (self.turns,)


def turns_of(prompt: str) -> list[Turn]:
    """The turns of a prompt; of a plain text, one of the user."""
    return prompt.turns if isinstance(prompt, Conversation) else [{"role": "user", "content": prompt}]


def read_conversation(value: object, where: str) -> tuple[str, str | None]:
    """The prompt of a conversation, and the assistant's answer to it, if there is one at the end.

    A prompt of one turn is its text.

    Args:
        value: a list of turns, `{role, content}` or `{from, value}`.
        where: source, row and field, for messages.

    Raises:
        DataError: it is no such list, or no prompt of the user stands at its end or before its last answer.
    """
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected a list of turns such as {{role: user, content: TEXT}}")
    turns = [_turn(turn, f"{where}, turn {number}") for number, turn in enumerate(value, start=1)]
    answer = turns.pop()["content"] if turns[-1]["role"] == "assistant" else None
    if not turns or turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
        raise DataError(
            f"{where}: expected a conversation whose last turn is the user's, or the assistant's answer to the user; "
            "mend the row or leave it out"
        )
    return turns[0]["content"] if len(turns) == 1 else Conversation(turns), answer


def _turn(turn: object, where: str) -> Turn:
    fields = turn if isinstance(turn, dict) else {}
    role, content = next(((fields[a], fields[b]) for a, b in _FORMS if a in fields and b in fields), (None, None))
    if not isinstance(role, str) or role not in _ROLES or not isinstance(content, str):
        raise DataError(
            f"{where}: expected {{role, content}} or {{from, value}}, both text, and a role of {', '.join(_ROLES)}; "
            f"given {str(turn)[:80]}"
        )
    return {"role": _ROLES[role], "content": content}
