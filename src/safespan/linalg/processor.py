"""The cores that this process may use, and the control groups that limit it. Imports no library."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_PROCESSORS = Path("/sys/devices/system/cpu")


def usable_cores(
    processors: Path = _PROCESSORS, control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP
) -> int:
    """Physical cores that this process may use, at least 1.

    Counted are the processors that the system lets this process run on. Hardware threads of one core count once: they
    share the units that multiply. Quotas of control groups, such as a container's, and the environment variable
    LOKY_MAX_CPU_COUNT lower the number. Part of a core is none.

    Args:
        processors: where Linux describes processors; without it every processor counts as a core.
        control_groups: where control groups (version 2) are mounted.
        membership: names the group of this process.
    """
    limits: list[float] = [_physical(_allowed(), processors)]
    limits += [_quota(group) for group in groups_of_this_process(control_groups, membership)]
    with suppress(ValueError):
        limits.append(int(os.environ.get("LOKY_MAX_CPU_COUNT", "")))
    return max(1, math.floor(min(limits)))


def groups_of_this_process(control_groups: Path = CONTROL_GROUPS, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """Folders of the control group (version 2) of this process and of those around it; each can limit the process."""
    lines = membership.read_text(encoding="utf-8").splitlines() if membership.exists() else []
    for line in lines:
        number, _, name = line.partition("::")
        if number == "0":
            group = control_groups / name.strip("/")
            yield from (group, *group.parents)


def _allowed() -> Iterable[int]:
    """Numbers of the processors that this process may run on; macOS has no such limit."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _physical(allowed: Iterable[int], processors: Path) -> int:
    """Number of cores that the processors belong to."""
    return len({_hardware_threads(processors / f"cpu{number}", number) for number in allowed})


def _hardware_threads(processor: Path, number: int) -> str:
    """The processors of one core, as Linux lists them."""
    try:
        return (processor / "topology" / "thread_siblings_list").read_text(encoding="utf-8").strip()
    except OSError:
        return str(number)


def _quota(group: Path) -> float:
    """Processor seconds per second that a control group allows."""
    try:
        most, period = (group / "cpu.max").read_text(encoding="utf-8").split()
    except OSError:
        return math.inf
    return math.inf if most == "max" else int(most) / int(period)
