"""What `speed.py` measures with: the sizes of a full run, and toy ones that only show that the scripts work."""

from dataclasses import dataclass, replace

from benchmarks.common.checkpoints import SMOLLM2_135M, Shape

FINETUNES = ("useful", "harmful", "contaminated")
FRACTIONS = (0.01, 0.25, 0.5, 0.75, 0.99)
SUBSPACES = ("alignment", "random-k", "random")
METHODS = ("parallel", "orthogonal")
ENERGIES = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


@dataclass(frozen=True)
class Sizes:
    """Of the main family, of the machine's limits, and of the three series of the scaling."""

    shape: Shape = SMOLLM2_135M
    prompts: int = 128
    matrix: int = 4096
    file_bytes: int = 1 << 30
    hidden: tuple[Shape, ...] = tuple(
        Shape(hidden=h, inner=11 * h // 4, heads=h // 64, kv_heads=h // 256, layers=8, vocabulary=8192)
        for h in (256, 512, 1024)
    )
    layers: tuple[int, ...] = (8, 16, 32)
    grids: tuple[tuple[int, int], ...] = ((1, 1), (1, 5), (3, 5))
    """Fine-tunes and fractions, from few points to the whole grid."""

    def of_layers(self) -> tuple[Shape, ...]:
        """The series that grows in layers, at the middle hidden size."""
        return tuple(replace(self.hidden[1], layers=count) for count in self.layers)


TOY = Sizes(
    shape=replace(SMOLLM2_135M, layers=4, vocabulary=2048),
    prompts=48,
    matrix=1024,
    file_bytes=1 << 26,
    hidden=tuple(Shape(hidden=h, inner=2 * h, heads=4, kv_heads=2, layers=2, vocabulary=512) for h in (128, 256, 512)),
    layers=(1, 2, 4),
)


def grid_points(finetunes: int = len(FINETUNES), fractions: int = len(FRACTIONS)) -> int:
    """Points of a grid: every fine-tune × subspace × method × fraction."""
    return finetunes * len(SUBSPACES) * len(METHODS) * fractions
