"""Training rows and their mixture: p % as many contaminating rows as useful ones (METHODS §1)."""

import random
from dataclasses import asdict, dataclass

from safespan.data.sources import check_text, numbered_rows, prompt_of, rows_hash
from safespan.errors import DataError
from safespan.settings.data import TrainingData
from safespan.settings.training import TrainingConfig


@dataclass(frozen=True)
class Example:
    """A prompt and the response to learn."""

    prompt: str
    response: str


@dataclass(frozen=True)
class Part:
    """The rows of one source in a mixture, as the training record names them."""

    source: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Mixture:
    """The examples of a run in random order, and their sources."""

    examples: list[Example]
    parts: list[Part]

    @property
    def sha256(self) -> str:
        """Hash of all examples in their order."""
        return rows_hash(map(asdict, self.examples))


def read_examples(source: TrainingData) -> list[Example]:
    """Read the prompts and responses of a source.

    Of a conversation that ends with the assistant's turn, that turn is the response, and those before it the prompt.

    Raises:
        DataError: the source cannot be read, or a row has no text in one of the two fields.
    """
    examples = []
    for number, row in numbered_rows(source):
        prompt, response = prompt_of(source, row, number)
        if response is None:
            check_text(source, row, number, source.response_field, "response_field", blank=True)
            response = row[source.response_field]
        examples.append(Example(prompt, response))
    return examples


def mixture(config: TrainingConfig, seed: int) -> Mixture:
    """The examples of a run: its data and a random draw of contaminating rows, in random order.

    Raises:
        DataError: as `read_examples`, or there are too few contaminating rows.
    """
    examples = read_examples(config.data)
    parts = [(config.data, examples)]
    rng = random.Random(seed)
    if config.contaminate_with is not None:
        pool = read_examples(config.contaminate_with)
        parts.append((config.contaminate_with, rng.sample(pool, contaminating(config, len(examples), len(pool)))))
    mixed = [example for _, rows in parts for example in rows]
    rng.shuffle(mixed)
    return Mixture(mixed, [Part(source.name, len(rows), rows_hash(map(asdict, rows))) for source, rows in parts])


def contaminating(config: TrainingConfig, rows: int, pool: int) -> int:
    """How many rows of a pool are mixed into so many others.

    Raises:
        DataError: more than there are.
    """
    wanted = max(1, round(rows * config.contamination_percent / 100))
    if config.contaminate_with is not None and wanted > pool:
        raise DataError(
            f"{config.contaminate_with.name}: {config.contamination_percent:g} % of {rows} rows are "
            f"{wanted} contaminating rows, {pool} there; lower contamination_percent or add data"
        )
    return wanted
