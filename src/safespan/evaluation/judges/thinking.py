"""What a model thinks aloud before its answer."""

import re

_TAG = re.compile(
    r"(?<![`'\"])(?P<open><(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)>|\[THINK\]|◁think▷"
    r"|<\|begin_of_thought\|>|<\|START_THINKING\|>|<unused94>(?:thought\b)?)"
    r"|(?<![`'\"])(?:</(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)>|\[/THINK\]|◁/think▷"
    r"|<\|end_of_thought\|>|<\|END_THINKING\|>|<unused95>)",
    re.IGNORECASE,
)
"""Tags before and after thinking, as the templates of common models have them; in quotes they are spoken of."""

_CHANNEL = re.compile(r"\s*(?:<\|start\|>assistant)?(?:<\|channel\|>analysis|analysis(?=[A-Z]))")
_FINAL = re.compile(
    r"(?:<\|start\|>)?assistant(?:<\|channel\|>)?final(?:<\|message\|>)?|<\|channel\|>final<\|message\|>"
)
"""Channels of thinking and of the answer, with and without their special tokens."""


def answer_of(response: str) -> str | None:
    """A response without the thinking before or between its parts; None if it was cut off inside the thinking."""
    if _CHANNEL.match(response):
        final = _FINAL.search(response)
        return response[final.end() :] if final else None
    parts, thinking, start = list[str](), False, 0
    for tag in _TAG.finditer(response):
        if not tag["open"]:
            if not thinking:  # the opening tag stood in the prompt
                parts.clear()
            thinking, start = False, tag.end()
        elif not thinking:
            parts.append(response[start : tag.start()])
            thinking = True
    if not thinking:
        parts.append(response[start:])
    answer = " ".join(parts) if len(parts) > 1 else "".join(parts)
    return None if thinking and not answer.strip() else answer
