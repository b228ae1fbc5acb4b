"""Experiment 4: the residual stream at the last attended token, and the overlap of its subspaces."""

from safespan.activations.by_layer import activation_overlap, capture_classes, overlap_by_layer, separation_by_layer
from safespan.activations.capture import capture, layers_in_depth_range
from safespan.activations.inputs import capture_for_hypotheses
from safespan.activations.resampling import Resampling
from safespan.activations.separation import separation
from safespan.settings.analysis import ACTIVATION_ENERGIES
