"""The work folder of a training run, and the checkpoint that an interrupted run resumes from."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from safespan.files.atomic import write_json
from safespan.files.disk import sync
from safespan.files.locks import exclusive_lock
from safespan.files.scratch import LOCK, try_lock

COMPLETE = "complete"
"""A file in a trainer checkpoint that was written to its end."""


@contextmanager
def work_folder(folder: Path, identity: Mapping[str, Any] | None) -> Iterator[Path | None]:
    """Prepare the folder a run works in, and yield the last whole checkpoint that an interrupted run left there.

    The folder is removed in the end; a run that has an identity leaves it behind when it is interrupted. Meanwhile
    it is locked. The trainer's arguments must have been made before: where there is no GPU, Accelerate knows of other
    processes only from them.

    Args:
        folder: the trainer's output folder.
        identity: what the run does. Checkpoints of a run with another identity are not gone on from; None: of no run.

    Raises:
        ConfigError: another run works there.
    """
    processes = PartialState()
    done = False
    try:  # around the lock too: a signal can come as soon as the folder is made
        with exclusive_lock(folder) if processes.is_main_process else nullcontext():
            if processes.is_main_process:
                _prepare(folder, identity)
            processes.wait_for_everyone()
            whole = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
            processes.wait_for_everyone()
            yield max(whole, key=step_of, default=None)
            done = True
    finally:
        if processes.is_main_process and (done or identity is None):
            _discard_unless_in_use(folder)


class MarkComplete(TrainerCallback):
    """Marks each trainer checkpoint as complete after it was written."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save no checkpoint after the last step: a trainer that resumed there would make one more step."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: Any) -> None:
        """Mark the checkpoint that the trainer has written."""
        if state.is_world_process_zero:
            checkpoint = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            sync(checkpoint)  # before the mark: after a power cut, a marked checkpoint must not have empty files
            (checkpoint / COMPLETE).touch()
            sync(checkpoint)


def _prepare(folder: Path, identity: Mapping[str, Any] | None) -> None:
    """Remove files of another run and incomplete checkpoints."""
    left = folder / "identity.json"
    other = not left.exists() or json.loads(left.read_text(encoding="utf-8")) != identity
    if other and left.exists():
        logging.getLogger(__name__).warning(
            "%s: an interrupted run with other settings, seed, data or start left this; training starts anew", folder
        )
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        if other or not (path / COMPLETE).exists():
            _discard(path)
    if identity is not None:
        write_json(left, identity)


def _discard_unless_in_use(folder: Path) -> None:
    """Remove the folder of a run that has ended; not where another run has it, so that this one did not begin."""
    try:
        lock = (folder / LOCK).open("a", encoding="utf-8")
    except OSError:  # there is no folder, or not one to write in
        return
    with lock, suppress(BlockingIOError):
        try_lock(lock)
        _discard(folder)


def _discard(folder: Path) -> None:
    """Remove a folder, the marks in it first: a kill in between must leave no checkpoint marked that is half there."""
    for mark in folder.rglob(COMPLETE):
        mark.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The step after which a trainer checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
