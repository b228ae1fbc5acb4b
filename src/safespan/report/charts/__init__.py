"""The charts: each takes a table and gives a figure, or None where the table has nothing to show."""

from safespan.report.charts.ablation import harm_against_capability
from safespan.report.charts.activations import activation_overlap, separation
from safespan.report.charts.energy import energy_inside, removed_energy, spectra
from safespan.report.charts.figure import Figure
from safespan.report.charts.overlap import overlap_curves, overlap_heatmap
from safespan.report.charts.projection import projection_figures
from safespan.report.charts.training import harm_along_training
from safespan.report.charts.update import against_controls
from safespan.report.charts.verdict import forest
