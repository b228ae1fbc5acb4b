"""The work of every stage of a study, at least and at most."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from safespan.settings import StudyConfig, TrainingConfig
from safespan.settings.names import SUBSPACES
from safespan.settings.verdict import chosen_tests
from safespan.study.costs.activations import captured_work, overlap_work
from safespan.study.costs.asking import Asking
from safespan.study.costs.claims import ablation_work, training_test_work, update_work
from safespan.study.costs.prepared import Prepared
from safespan.study.costs.training import Rows, rows_of, training_work
from safespan.study.costs.work import Shape, Work
from safespan.study.needs import tested_hypotheses
from safespan.study.summaries import grid_points

_BESIDES = 0.2
"""Of what lies between the least and the most of the update test, the share that the demo asked.

It asked 49 % of one look at 8 draws and 100 prompts (docs/decisions/0011-a-verdict-that-decides.md), of which the least
is 27 % and the most 144 %. In the ablation test it asked 27 %, which is the least.
"""

_FIGURES = 12
"""Of a report with all experiments."""


@dataclass(frozen=True)
class StageCost:
    """The work of one stage.

    Attributes:
        name: of the stage.
        least: if every claim is decided at the first look.
        most: if none is decided.
        beside: how many jobs of it can be done at a time, or stages like it; 1: one after another.
        unknown: what is not counted, in words.
        ending: length of the answers that are to be expected, as a share of the longest.
        besides: of what lies between the least and the most, the share that is to be expected.
    """

    name: str
    least: Work
    most: Work
    beside: int = 1
    unknown: tuple[str, ...] = ()
    ending: float = 1.0
    besides: float = 0.0

    @property
    def soonest(self) -> Work:
        """The least, with answers that end as soon as those that the models were trained on."""
        return _ended(self.least, self.ending)

    @property
    def likely(self) -> Work:
        """The same, with more looks where the demo has them."""
        return _ended(self.least + (self.most + self.least * -1) * self.besides, self.ending)


def stage_costs(prepared: Prepared, asking: Asking, counts: Mapping[str, int | None]) -> dict[str, StageCost]:
    """Stage -> its work; a stage that is not named costs next to nothing.

    Args:
        prepared: the study.
        asking: what each model is asked.
        counts: field of prompts -> how many of them are used, if that is known.
    """
    config, shape = prepared.config, prepared.shape
    no_shape = () if shape and shape.matrices else ("the shapes of the models, which are not on this disk",)
    costs, longest = _trainings(prepared)
    everything, models = asking.everything, len(config.models)
    outcomes = (everything + Work(opened=1) + _responses(everything)) * models
    costs.append(StageCost("outcomes", outcomes, outcomes, models, asking.unknown))
    if points := grid_points(config):
        work = _grid(config, shape) + (everything + _responses(everything)) * points
        groups = points // max(1, len(config.projection.methods)) if config.projection else 1
        costs.append(StageCost("projection", work, work, groups, (*asking.unknown, *no_shape)))
    if config.overlap:
        work = _overlap(config, shape)
        costs.append(StageCost("update overlap", work, work, 1, no_shape))
    if config.activations:
        work, unknown = overlap_work(prepared, counts)
        costs.append(StageCost("activation overlap", work, work, 1, unknown))
        if config.verdict:
            work, unknown = captured_work(prepared, counts)
            costs.append(StageCost("activations of aligned", work, work, 1, unknown))
    costs += _tests(prepared, asking, no_shape)
    figures = Work(figures=_FIGURES)
    costs.append(StageCost("report", figures, figures))
    ending = (
        min(1.0, longest * everything.responses / everything.new_tokens) if longest and everything.new_tokens else 1
    )
    return {cost.name: replace(cost, ending=ending) for cost in costs}


def _ended(work: Work, ending: float) -> Work:
    """The same with shorter answers."""
    new, passes = round(work.new_tokens * ending), round(work.generation_passes * ending)
    return replace(work, new_tokens=new, generation_passes=passes)


def _trainings(prepared: Prepared) -> tuple[list[StageCost], int]:
    """The trainings, and the tokens of the longest response in their rows; 0 where a model is not trained here."""
    config = prepared.config
    trained = {role: source.train for role, source in config.models.items() if source.train}
    known: dict[str, Rows] = {}
    beside = sum(config.models[role].start == "aligned" and not train.protect for role, train in trained.items())
    ceiling = config.overlap.ceiling if config.overlap else None
    costs = []
    for role, train in trained.items():
        again = role == ceiling
        rows = _rows(prepared, train, config.seed, known)
        work = training_work(train, rows, prepared.shape)
        unknown: tuple[str, ...] = ()
        if not rows.number and not train.max_steps:
            unknown = (f"how many rows {role} learns from",)
        if train.lora and not train.lora.merge and not (prepared.shape and prepared.shape.matrices):
            unknown += (f"the bytes of the adapter of {role}",)
        alone = config.models[role].start != "aligned" or train.protect is not None
        costs.append(StageCost(f"model {role}", work, work, 1 if alone else beside + (ceiling is not None), unknown))
        if again:
            costs.append(replace(costs[-1], name=f"model {role} again"))
    lengths = [rows.longest for rows in known.values()]
    is_known = lengths and all(lengths) and "aligned" in trained
    return costs, max(lengths) if is_known else 0


def _rows(prepared: Prepared, train: TrainingConfig, seed: int, known: dict[str, Rows]) -> Rows:
    """The rows of a training; several models may learn from the same."""
    fields = ("data", "contaminate_with", "contamination_percent", "max_length", "prompt_format", "template_date")
    key = str([getattr(train, field) for field in fields])
    if key not in known:
        known[key] = rows_of(prepared, train, seed)
    return known[key]


def _responses(asked: Work) -> Work:
    """The bytes of the responses that are kept, with their prompts."""
    return Work(written=4 * (asked.prompt_tokens + asked.new_tokens) + 200 * asked.responses)


def decomposed(shape: Shape | None, times: int) -> Work:
    """All matrices of a model, so many times."""
    return _decompositions(shape.matrices if shape else (), times)


def _decompositions(matrices: tuple[tuple[int, int], ...], times: int) -> Work:
    flops = sum(min(size) ** 2 * max(size) for size in matrices)
    return Work(decompositions=times * len(matrices), decomposition_flops=times * flops)


def _grid(config: StudyConfig, shape: Shape | None) -> Work:
    grid, points = config.projection, grid_points(config)
    if grid is None:
        return Work()
    subspaces = grid.subspaces or [name for name in SUBSPACES if name != "safety" or "safe" in config.models]
    # Once for the energies, and once for the weights, of each fine-tune and subspace.
    return Work(points=points, swept=points) + decomposed(shape, 2 * len(subspaces) * len(config.finetunes))


def _overlap(config: StudyConfig, shape: Shape | None) -> Work:
    overlap = config.overlap
    if overlap is None or shape is None:
        return Work()
    updates = 1 + len(config.finetunes) + ("safe" in config.models)
    pairs = updates * (updates - 1) // 2 + (overlap.ceiling is not None)
    total = Work()
    for granularity in overlap.granularities:
        matrices = shape.matrices if granularity == "tensor" else shape.stacks
        total += _decompositions(matrices, updates + (overlap.ceiling is not None))
        total += Work(compared=pairs * len(matrices))
    return total


def _tests(prepared: Prepared, asking: Asking, no_shape: tuple[str, ...]) -> list[StageCost]:
    config, shape = prepared.config, prepared.shape
    verdict = config.verdict
    if verdict is None:
        return []
    tests = chosen_tests(verdict, config.models)
    of = {"update": update_work, "ablation": ablation_work}
    named = decomposed(shape, sum(len(tested_hypotheses(config, test)) for test in tests))
    costs = [StageCost("coverage", named, named, 1, no_shape)]
    for test in tests:
        names = tested_hypotheses(config, test)
        if test == "training":
            train = config.models["contaminated"].train
            assert train is not None
            both = (train, train.model_copy(update={"contaminate_with": None}))
            one, clean = (training_work(own, rows_of(prepared, own, config.seed), shape) for own in both)
            least, most = training_test_work(config, asking, names, one, clean)
            jobs = 2 + len(names) + verdict.training.controls
        else:
            least, most = of[test](config, asking, names)
            groups = decomposed(shape, 2 * len(names))
            # Without a claim that has this test, the models are asked all the same.
            least, most, jobs = least + groups, most + groups, max(1, 2 * len(names))
        besides = _BESIDES if test == "update" else 0.0
        unknown = (*asking.unknown, *no_shape)
        costs.append(StageCost(f"{test} test", least, most, jobs, unknown, besides=besides))
    return costs
