"""Checkpoints on disk, read and written tensor by tensor without loading a model."""

from safespan.checkpoints.adapter import AdaptedCheckpoint
from safespan.checkpoints.layout import block_of, in_block, layer_of, module_of, natural_order, writes_residual_stream
from safespan.checkpoints.pairs import pair_up
from safespan.checkpoints.reader import Checkpoint
from safespan.checkpoints.reference import local_place, open_checkpoint, open_local
from safespan.checkpoints.writer import write_checkpoint
