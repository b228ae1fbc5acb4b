"""What can be known of a study's models and rows before it runs, in a folder that is removed."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safespan.checkpoints import Checkpoint, layer_of, open_local
from safespan.linalg.stacks import matrix_names
from safespan.settings import StudyConfig
from safespan.settings.study import ORGANISM
from safespan.study.costs.work import Shape

_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


@dataclass(frozen=True)
class Prepared:
    """A study with the data that it makes for itself.

    Attributes:
        config: resolved; where it makes its own data, its `{run}` is a temporary folder.
        run: that folder.
        aligned: the model that `aligned` is, or is trained from; None: not on this disk.
        shape: of all models; None: nothing is known of it.
    """

    config: StudyConfig
    run: Path
    aligned: Checkpoint | None
    shape: Shape | None


@contextmanager
def prepared(config: StudyConfig, out: Path) -> Iterator[Prepared]:
    """Make the data and the freshly initialised model of a study, as the run will, in a temporary folder."""
    with TemporaryDirectory(prefix="safespan-costs-") as name:
        run = Path(name)
        if config.data is not None:
            from safespan.organism.english import write_english
            from safespan.organism.family import write_data

            (write_data if config.data == "organism" else write_english)(run / "data", config.seed)
        resolved = config.resolved(run if config.data else out)
        aligned = _origin(resolved, "aligned", run)
        yield Prepared(resolved, run, aligned, shape_of(aligned) if aligned else _assumed(resolved))


def _origin(config: StudyConfig, role: str, run: Path) -> Checkpoint | None:
    source = config.models[role]
    if source.model is not None:
        return open_local(source.model)
    if source.start != ORGANISM:
        return _origin(config, str(source.start), run)
    from safespan.organism.family import plant

    folder = run / "planted"
    shutil.rmtree(folder, ignore_errors=True)
    plant(folder, config.seed)
    return Checkpoint(folder)


def shape_of(model: Checkpoint) -> Shape:
    """The shape of a model on this disk."""
    sizes: list[tuple[int, int]] = []
    stacks: dict[tuple[str, int], int] = {}
    for name, shape in model.shapes.items():
        for _ in matrix_names(name, shape):
            sizes.append((shape[-2], shape[-1]))
            place = (layer_of(name), shape[-1])
            stacks[place] = stacks.get(place, 0) + shape[-2]
    config = model.config.get("text_config") or model.config
    layers, width, heads = (
        int(config.get(field) or 0) for field in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    head = int(config.get("head_dim") or (width // heads if heads else 0))
    cached = 2 * layers * head * int(config.get("num_key_value_heads") or heads)
    stored = max((_BYTES.get(dtype, 4) for dtype in model.dtypes), default=4)
    parameters = sum(math.prod(shape) for shape in model.shapes.values())
    of_layers = tuple((rows, columns) for (_, columns), rows in stacks.items())
    return Shape(parameters, len(model.shapes), tuple(sizes), of_layers, layers, width, cached, stored)


def _assumed(config: StudyConfig) -> Shape | None:
    """The size of models that are not on this disk, as `size_gb` says."""
    for role in ("aligned", "base", *config.models):
        source = config.models.get(role)
        if source is not None and source.size_gb is not None:
            return Shape(round(source.size_gb * 1e9 / 2), stored=2, assumed=True)
    return None
