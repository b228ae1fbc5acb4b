"""Checkpoints on disk: read tensor by tensor, never through a model."""

from safespan.checkpoints.layout import layer_of, natural_order
from safespan.checkpoints.reader import Checkpoint
from safespan.checkpoints.writer import write_checkpoint

__all__ = ["Checkpoint", "layer_of", "natural_order", "write_checkpoint"]
