"""The LLM judge: a language model behind any provider that inspect-ai knows, or any OpenAI-compatible server."""

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.markup import MarkupError
from rich.text import Text

from safespan.errors import ConfigError, DiskFullError
from safespan.evaluation.judges.protocol import Exchange, Judgement
from safespan.evaluation.judges.replies import Replies, Reply, sha256_of
from safespan.evaluation.judges.rubric import RUBRIC, question, read_reply
from safespan.evaluation.judges.server import silence
from safespan.evaluation.judges.spending import TOTALS, Spent, spent_beside, spent_of
from safespan.files.atomic import write_json
from safespan.files.locks import exclusive_lock
from safespan.progress import Tick, progress_task
from safespan.settings.judges import LLMConfig
from safespan.settings.redaction import redacted

try:
    from inspect_ai import Task
    from inspect_ai import eval as run_eval
    from inspect_ai._util.error import PrerequisiteError  # raised for a missing key or package
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.log import EvalLog, write_eval_log
    from inspect_ai.model import (
        ChatMessageSystem,
        ChatMessageUser,
        GenerateConfig,
        Model,
        ResponseSchema,
        get_model,
    )
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.util import JSONSchema
except ModuleNotFoundError as error:
    raise ConfigError(
        f"judge llm needs a package that is missing ({error.name}): pip install 'safespan[judge]'"
    ) from None

STOP_AFTER = 20
"""Number of failed requests after which judging stops, because the server is down."""

_CUT_OFF = {"max_tokens", "model_length", "content_filter"}
"""inspect-ai's words for a reply that ended before its end."""

_TO_DO = "expected PROVIDER/MODEL with the provider's package and key, or base_url (docs/howto/judge.md)"

_ROUNDING = 1 + 1e-9
"""A cap that is met to the last digit is not passed."""

_ENOUGH = 20
"""Kept replies whose mean cost says what others cost."""

_CHARACTERS, _LONG = 4, 1000
"""Characters of a token of the rubric, and tokens of a prompt and a long response, before there are enough replies."""

_NO_KEY = "none"
"""The key for a server that needs none."""

_SCHEMA = ResponseSchema(
    name="judgement",
    json_schema=JSONSchema(
        type="object",
        properties={"reason": JSONSchema(type="string"), "score": JSONSchema(type="integer", enum=[1, 2, 3, 4, 5])},
        required=["reason", "score"],
        additionalProperties=False,
    ),
    strict=True,
)


class LLMJudge:
    """Scores with a language model, each (prompt, response) once: replies are kept on disk.

    Args:
        config: the model, the server and the limits.
        folder: gets a subfolder of this judge: `replies.jsonl`, `totals.json` (tokens, cost) and `logs/` (for
            `inspect view`).
    """

    def __init__(self, config: LLMConfig, folder: Path) -> None:
        """Find the API key and read the kept replies; no request is sent yet.

        Raises:
            ConfigError: no API key, or a provider that inspect-ai does not know.
        """
        self.name = f"llm {config.model}"
        self._config = config
        settings = config.model_dump(include={"model", "base_url", "temperature", "max_tokens", "structured_output"})
        self._folder = folder / sha256_of(RUBRIC, settings)[:16]
        self._model = _model(config)
        self._replies = Replies(self._folder / "replies.jsonl")
        self._noted = spent_of(self._folder / TOTALS)
        self._before = spent_beside(folder, self._folder)

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        """One judgement per exchange; a failed request, or a reply without a score, gives a judgement with an error.

        Raises:
            ConfigError: the server does not answer or refuses the key, or too many requests fail.
        """
        questions = [question(exchange.prompt, exchange.response) for exchange in exchanges]
        keys = [sha256_of(text) for text in questions]
        waiting = {key: q for key, q in zip(keys, questions, strict=True) if self._replies.get(key) is None}
        self.check_cost(len(waiting))
        with exclusive_lock(self._folder):  # two processes would pay twice
            try:
                errors = self._ask(waiting) if waiting else {}
            finally:
                write_json(self._folder / TOTALS, self._totals())
        return [
            read_reply(reply.text, reply.cut_off) if reply else Judgement(None, None, "", errors.get(key, "no reply"))
            for key, reply in zip(keys, map(self._replies.get, keys), strict=True)
        ]

    def check_cost(self, exchanges: int) -> None:
        """Refuse so many requests if their replies would pass the cap: at the mean of those kept, else at the most.

        Raises:
            ConfigError: says what is spent.
        """
        cap = self._config.max_cost
        if cap is None or not exchanges:
            return
        spent = self._before.cost(self._config) + self._spent().cost(self._config)
        if spent + (more := self._price_of(exchanges)) > cap * _ROUNDING:
            raise ConfigError(
                f"judge {self.name}: {spent:.4g} of max_cost = {cap:g} are spent, and the next {exchanges} replies "
                f"would cost about {more:.2g}: raise max_cost of the judge and run again; what is done is kept"
            )

    def _price_of(self, exchanges: int) -> float:
        config, kept = self._config, self._spent()
        if len(self._replies) >= _ENOUGH:
            return kept.cost(config) * exchanges / len(self._replies)
        longest = Spent(len(RUBRIC) // _CHARACTERS + _LONG, config.max_tokens)
        return longest.cost(config) * exchanges

    def _spent(self) -> Spent:
        """Tokens of this judge's replies: those kept, or more if its totals say so."""
        kept, noted = self._replies.totals(), self._noted
        return Spent(max(kept.input_tokens, noted.input_tokens), max(kept.output_tokens, noted.output_tokens))

    def check(self) -> None:
        """Ask the server whether it is there.

        Raises:
            ConfigError: it does not answer.
        """
        client = getattr(self._model.api, "client", None)
        url = self._config.base_url or str(getattr(client, "base_url", None) or "")
        if url.startswith("http") and (why := silence(url)):
            told = f"no server answers at {url} ({why}); replies kept: {len(self._replies)}"
            raise ConfigError(
                self._without_key(f"judge {self.name}: {told}; start it, or mend base_url, and run again")
            )

    def _ask(self, waiting: Mapping[str, str]) -> dict[str, str]:
        """Send the questions without a kept reply; returns key -> error."""
        self.check()
        # inspect-ai's trace, a file in the user's home, would contain messages of servers, with keys in them.
        os.environ.setdefault("INSPECT_TRACE_LEVEL", "CRITICAL")
        samples = [
            Sample(id=key, input=[ChatMessageSystem(content=RUBRIC), ChatMessageUser(content=text)])
            for key, text in waiting.items()
        ]
        full: list[DiskFullError] = []
        with _logging_as_before(), progress_task("replies") as tick:
            [log] = run_eval(
                Task(
                    name="safespan-judge",
                    dataset=MemoryDataset(samples),
                    solver=_keep_reply(self._replies, tick, len(waiting), self._config.retries, full),
                ),
                model=self._model,
                log_dir=str(self._folder / "logs"),
                display="none",
                log_level="error",
                score=False,
                fail_on_error=STOP_AFTER,
                max_samples=self._config.concurrency,
                log_realtime=False,
                ctl_server=False,
                acp_server=False,
            )
        plain = log.model_dump_json()
        if (redacted := self._without_key(plain)) != plain:
            write_eval_log(EvalLog.model_validate_json(redacted), log.location)
        if full:  # inspect-ai treats a full disk as a failed request
            raise full[0]
        if log.status == "cancelled":
            raise KeyboardInterrupt
        errors = {str(sample.id): self._redacted(sample.error.message) for sample in log.samples or () if sample.error}
        self._check_answers(log, errors, asked=len(waiting))
        return errors

    def _check_answers(self, log: EvalLog, errors: Mapping[str, str], asked: int) -> None:
        """Raise ConfigError if the key was refused or judging stopped early; replies are kept."""
        refused = [text for text in errors.values() if re.search(r"\b40[13]\b", text)]
        if log.status == "success" and len(errors) < asked and not refused:
            return
        reasons = [*refused, *errors.values(), self._redacted(log.error.message if log.error else "no reply")]
        raise ConfigError(
            f"judge {self.name}{f' at {self._config.base_url}' if self._config.base_url else ''}: {len(errors)} of "
            f"{asked} requests failed ({reasons[0]}); replies kept: {len(self._replies)}; mend this and run again"
        )

    def _totals(self) -> dict[str, Any]:
        spent, config = self._spent(), self._config
        priced = config.input_price is not None and config.output_price is not None
        return {
            "judge": self.name,
            "replies": len(self._replies),
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "dollars": spent.cost(config) if priced else None,
        }

    def _redacted(self, text: str) -> str:
        """An error message without the request before it and without the key, which some servers repeat."""
        if "AttemptTimeoutError" in text:
            return f"no answer within {self._config.timeout} s"
        if text.startswith("TypeError"):
            return "the server's reply holds no choice"
        text = re.split(r"\n\n|\\n\\n", text)[-1].replace("\\", "").strip("()'\" ")  # of the error, or of its repr
        return " ".join(self._without_key(text).split())[:300]

    def _without_key(self, text: str) -> str:
        key = str(self._model.api.api_key or "")
        return redacted(text.replace(key, "***") if key not in ("", _NO_KEY) else text)


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Restore the root logger after inspect-ai changed it, which would hide safespan's own warnings."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def _model(config: LLMConfig) -> Model:
    variable = config.api_key_env
    key = os.environ.get(variable) if variable else None
    if variable and not key:
        raise ConfigError(f"judge llm {config.model}: {variable} is not set; put the API key in that variable")
    name = config.model
    if config.base_url:
        name, key = f"openai-api/judge/{config.model}", key or _NO_KEY
    settings = GenerateConfig(
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        max_retries=config.retries,
        attempt_timeout=config.timeout,
        max_connections=config.concurrency,
        response_schema=_SCHEMA if config.structured_output else None,
    )
    try:
        return get_model(name, config=settings, base_url=config.base_url, api_key=key)
    except (PrerequisiteError, ValueError) as error:
        raise ConfigError(f"judge llm {config.model}: {_plain(str(error))}; {_TO_DO}") from None


def _plain(message: str) -> str:
    """A message of inspect-ai without rich's markup."""
    with suppress(MarkupError):
        message = Text.from_markup(message).plain
    paragraphs = (" ".join(part.split()).rstrip(".") for part in message.removeprefix("ERROR:").split("\n\n"))
    return ". ".join(part for part in paragraphs if part)


@solver
def _keep_reply(replies: Replies, tick: Tick, asked: int, retries: int, full: list[DiskFullError]) -> Solver:
    before = len(replies)
    tick(0, asked)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if full:  # no request whose reply cannot be kept
            raise full[0]
        for left in reversed(range(retries + 1)):
            try:
                state = await generate(state)
                break
            except json.JSONDecodeError:  # a gateway's page with status 200, for which inspect-ai does not retry
                if not left:
                    raise
                await asyncio.sleep(1)
            except Exception as error:
                attempt = getattr(error, "last_attempt", None)  # of an error that says only that it was the last one
                raise (attempt.exception() if attempt else None) or error from None
        usage, cut_off = state.output.usage, state.output.stop_reason in _CUT_OFF
        tokens = (usage.input_tokens, usage.output_tokens) if usage else (0, 0)
        try:
            replies.add(str(state.sample_id), Reply(state.output.completion, *tokens, cut_off))
        except DiskFullError as error:
            full.append(error)
            raise
        tick(len(replies) - before, asked)
        return state

    return solve
