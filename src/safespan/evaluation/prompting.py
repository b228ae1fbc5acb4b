"""How every model of a study is prompted, and which part of its response is the answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from safespan.checkpoints import Checkpoint
from safespan.data.conversations import Conversation, Turn
from safespan.errors import CheckpointError, ConfigError, first_line
from safespan.models.chat import fill_in, in_template
from safespan.models.folders import view
from safespan.models.loading import PLAIN, as_checkpoint_error, read_tokenizer
from safespan.models.prompt_ids import check_room, context_length, prompt_ids
from safespan.settings.evaluation import EvaluationConfig


@dataclass(frozen=True)
class Prompting:
    """One tokenizer, template and end of text. It can be pickled.

    Attributes:
        config: the settings.
        reference: the model whose tokenizer, chat template and end-of-text tokens all have that share its vocabulary;
            None: each has its own.
    """

    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    reference: Checkpoint | None = None

    def format_of(self, model: Checkpoint, own: PreTrainedTokenizerBase) -> "ChatFormat":
        """Of one model.

        Args:
            model: where its tokens that end an answer are named.
            own: its tokenizer.
        """
        if self.config.chat_template == "aligned" and not self._is_reference(model):
            assert self.reference is not None
            theirs = tokenizer_of(self.reference)
            if theirs.get_vocab() == own.get_vocab():
                model, own = self.reference, theirs
        return ChatFormat(self.config, own, tuple(end_ids(model.folder, own)))

    def _is_reference(self, model: Checkpoint) -> bool:
        """Whether no other model has a say."""
        return self.reference is None or model.name == self.reference.name

    def departures(self, model: Checkpoint) -> list[str]:
        """What is done otherwise than a model's own folder says."""
        own = tokenizer_of(model)
        chat_format = self.format_of(model, own)
        told = []
        asks = own_generation(model.folder)
        if asks:
            told.append(f"its generation_config.json asks for {', '.join(asks)}, which is not done: answers are greedy")
        switch, template = self.config.thinking.enable, str(_default(chat_format.tokenizer) or "")
        if switch is not None and "enable_thinking" not in template:
            told.append("its chat template knows no enable_thinking: the field thinking.enable does nothing")
        if self._is_reference(model):
            return told
        assert self.reference is not None
        theirs = tokenizer_of(self.reference)
        if _default(own) == _default(theirs):
            return told
        if theirs.chat_template is None and chat_format.tokenizer.chat_template is None:
            return [*told, "its chat template is not used, as the aligned model has none: it gets bare prompts"]
        what = "its chat template is not that of the aligned model" if own.chat_template else "it has no chat template"
        if _default(chat_format.tokenizer) == _default(theirs):
            return [*told, f"{what}; the aligned model's is used (with chat_template: own, its own would be)"]
        why = "as asked" if self.config.chat_template == "own" else "as its vocabulary is another"
        return [*told, f"{what}; {'its own is used' if own.chat_template else 'it gets bare prompts'}, {why}"]


@dataclass(frozen=True)
class ChatFormat:
    """How one model is prompted.

    Attributes:
        config: the settings.
        tokenizer: with the chat template.
        ends: ids of the tokens that end an answer.
    """

    config: EvaluationConfig
    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]

    def text(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        """A conversation in the chat template."""
        enable = self.config.thinking.enable
        options = {} if enable is None else {"enable_thinking": enable}
        return fill_in(self.tokenizer, turns, self.config.template_date, add_generation_prompt, **options)

    def chat(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        """The same, checked.

        Raises:
            CheckpointError: the template fails, or leaves out what the user or the system says.
        """
        return in_template(
            Conversation(turns), lambda some: self.text(some, add_generation_prompt), self.tokenizer.name_or_path
        )

    @property
    def may_think(self) -> bool:
        """Whether the chat template knows of thinking, so that texts that end an answer can stand inside of it."""
        template = str(self.tokenizer.chat_template or "")
        return self.config.thinking.end in template or self.config.thinking.start in template

    def is_thinking(self, prompt: str, said: str) -> bool:
        """Whether what was said ends inside the thinking."""
        thinking = self.config.thinking
        opened = prompt.rstrip().endswith(thinking.start) or said.lstrip().startswith(thinking.start)
        return opened and thinking.end not in said

    def answer(self, prompt: str, said: str) -> str:
        """What stands behind the thinking; empty where the model was cut off while it thought.

        Args:
            prompt: the text that the model was given: some templates open the thinking themselves.
            said: what the model said.
        """
        _, ended, answer = said.rpartition(self.config.thinking.end)
        if ended:
            return answer.strip()
        return "" if self.is_thinking(prompt, said) else said

    def check_room(
        self,
        prompts: Sequence[str],
        chat_template: bool,
        context: int | None,
        what: str,
        places: Sequence[str] = (),
        answers: Sequence[str] = (),
    ) -> None:
        """Refuse prompts that leave no room for a response.

        Args:
            chat_template: format each prompt as a turn of the user.
            context: tokens that the model has room for; None: not known.
            what: the prompts, for messages.
            places: file and row of each.
            answers: what is given behind each, for a likelihood; none: a response is generated.

        Raises:
            DataError: names the first of them by its row.
            CheckpointError: the chat template fails.
        """
        name = self.tokenizer.name_or_path
        texts = [in_template(prompt, self.text, name) for prompt in prompts] if chat_template else list(prompts)
        rows = prompt_ids(self.tokenizer, texts)
        behind = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"] if answers else [[]] * len(rows)
        whole = [[*row, *answer] for row, answer in zip(rows, behind, strict=True)]
        # The last token of an answer is predicted, and not read.
        check_room(whole, context + 1 if answers and context else context, what, places, answered=not answers)

    @property
    def generation_config(self) -> GenerationConfig:
        """Greedy, without any penalty that a model's own folder may ask for."""
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(
            do_sample=False,
            eos_token_id=list(self.ends),
            pad_token_id=self.ends[0] if pad is None else pad,
            bos_token_id=self.tokenizer.bos_token_id,
        )


def _default(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template that counts: of several by name, the default one."""
    template: Any = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def tokenizer_of(model: Checkpoint) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; that of its adapter, if it has one of its own."""
    with (
        as_checkpoint_error(f"{model.name}: its tokenizer cannot be loaded"),
        view(model.folder, model.adapter) as shown,
    ):
        return read_tokenizer(shown, model.name)


def context_of(model: Checkpoint) -> int | None:
    """Tokens that a model has room for; None where its configuration does not say."""
    with as_checkpoint_error(f"{model.name}: its config.json cannot be read"), view(model.folder) as shown:
        return context_length(AutoConfig.from_pretrained(shown, **PLAIN))


def _fields(file: Path) -> dict[str, Any]:
    """A JSON object in a file; empty if there is no file."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable JSON ({first_line(error)}); mend it or copy it again") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file} should hold a JSON object; mend it or copy it again")
    return fields


_ASKS = (
    *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "penalty_alpha", "dola_layers", "guidance_scale"),
    *("bad_words_ids", "force_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens"),
    *("forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens", "max_new_tokens"),
    *("exponential_decay_length_penalty", "watermarking_config", "stop_strings"),
)
"""Fields of a generation configuration that change greedy answers."""


def own_generation(folder: Path) -> list[str]:
    """What a folder's generation_config.json asks for that would change greedy answers: `field value`."""
    fields = _fields(folder / "generation_config.json")
    return [f"{name} {fields[name]}" for name in _ASKS if fields.get(name) not in (None, 0, 1, [], {})]


def end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that end an answer: those of the generation configuration, the tokenizer and the model.

    Raises:
        ConfigError: none of them names one.
    """
    found = [tokenizer.eos_token_id]
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            ids = _fields(folder / name).get("eos_token_id")
            found += ids if isinstance(ids, list) else [ids]
            if wrong := [one for one in found if not isinstance(one, int | None)]:
                raise CheckpointError(f"{folder / name}: eos_token_id is {wrong[0]!r}, expected the number of a token")
            break
    ends = [int(one) for one in dict.fromkeys(found) if one is not None]
    if not ends:
        raise ConfigError(
            f"{folder}: neither tokenizer nor generation_config.json names a token that ends an answer (eos_token): "
            "answers would never end; add one to tokenizer_config.json"
        )
    return ends
