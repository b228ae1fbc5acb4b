"""How every model of a study is prompted, and which part of its response is the answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from safespan.checkpoints import Checkpoint
from safespan.data.conversations import Turn
from safespan.errors import ConfigError
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
        if self._is_reference(model):
            return told
        assert self.reference is not None
        theirs = tokenizer_of(self.reference).chat_template
        if own.chat_template == theirs:
            return told
        what = "its chat template is not that of the aligned model" if own.chat_template else "it has no chat template"
        if chat_format.tokenizer.chat_template == theirs:
            return [*told, f"{what}; the aligned model's is used (evaluation.chat_template: own would not)"]
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

    @property
    def may_think(self) -> bool:
        """Whether the chat template knows of thinking, so that texts that end an answer can stand inside of it."""
        template = str(self.tokenizer.chat_template or "")
        return self.config.thinking.end in template or self.config.thinking.start in template

    def answer(self, prompt: str, said: str) -> str:
        """What stands behind the thinking; empty where the model was cut off while it thought.

        Args:
            prompt: the text that the model was given: some templates open the thinking themselves.
            said: what the model said.
        """
        thinking = self.config.thinking
        _, ended, answer = said.rpartition(thinking.end)
        if ended:
            return answer.strip()
        opened = prompt.rstrip().endswith(thinking.start) or said.lstrip().startswith(thinking.start)
        return "" if opened else said

    def check_room(self, prompts: Sequence[str], chat_template: bool, context: int | None, what: str) -> None:
        """Refuse prompts that leave no room for a response.

        Args:
            chat_template: format each prompt as a turn of the user.
            context: tokens that the model has room for; None: not known.
            what: the prompts, for messages.

        Raises:
            DataError: names the first of them by its row.
            CheckpointError: the chat template fails.
        """
        name = self.tokenizer.name_or_path
        texts = [in_template(prompt, self.text, name) for prompt in prompts] if chat_template else list(prompts)
        check_room(prompt_ids(self.tokenizer, texts), context, what)

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
    file = folder / "generation_config.json"
    fields = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return [f"{name} {fields[name]}" for name in _ASKS if fields.get(name) not in (None, 0, 1, [], {})]


def end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that end an answer: those of the generation configuration, the tokenizer and the model.

    Raises:
        ConfigError: none of them names one.
    """
    found = [tokenizer.eos_token_id]
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            ids = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            found += ids if isinstance(ids, list) else [ids]
            break
    ends = [int(one) for one in dict.fromkeys(found) if one is not None]
    if not ends:
        raise ConfigError(
            f"{folder}: neither tokenizer nor generation_config.json names a token that ends an answer (eos_token): "
            "answers would never end; add one to tokenizer_config.json"
        )
    return ends
