"""When a run will be done: the estimate of each stage, corrected by what the stages before it took."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta


class Clock:
    """Says when a run ends.

    Args:
        expected: stage -> the seconds that it is expected to take; empty where nothing is known.
        names: of all stages, in their order.
        last: seconds that are expected after the last stage.
    """

    def __init__(self, expected: Mapping[str, float], names: Sequence[str], last: float = 0.0) -> None:
        self._expected, self._left, self._last = expected, list(names), last
        self._known, self._taken = 0.0, 0.0

    def finished(self, name: str, seconds: float | None) -> None:
        """A stage is finished. None: it stood from an earlier run, which says nothing of this one's speed."""
        self._left = [other for other in self._left if other != name]
        if seconds is not None and self._expected.get(name):
            self._known += self._expected[name]
            self._taken += seconds

    @property
    def left(self) -> float | None:
        """Seconds until the end; None where nothing is known."""
        if not self._expected:
            return None
        pace = self._taken / self._known if self._known else 1.0
        return pace * (self._last + sum(self._expected.get(name, 0.0) for name in self._left))

    def told(self, now: datetime) -> str:
        """The end in words, to stand behind the name of a stage that begins; empty where nothing is known."""
        if self.left is None:
            return ""
        end = now + timedelta(seconds=self.left)
        return f", run ends about {end:%H:%M}{f' on {end:%d %B}' if end.date() != now.date() else ''}"
