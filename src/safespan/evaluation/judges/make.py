"""Construction of judges. Their libraries are imported only then."""

from pathlib import Path

from safespan.evaluation.judges.protocol import Judge
from safespan.evaluation.judges.rules import RuleJudge
from safespan.settings.judges import ClassifierConfig, LLMConfig, RulesConfig


def make_judge(config: RulesConfig | LLMConfig | ClassifierConfig, folder: Path) -> Judge:
    """Make a judge.

    Args:
        folder: of the replies and logs of a judge that is paid for; made on the first write.

    Raises:
        ConfigError: the judge's library, model or API key is missing.
        CheckpointError: a classifier's weights are missing or broken.
    """
    match config:
        case LLMConfig():
            from safespan.evaluation.judges.llm import LLMJudge

            return LLMJudge(config, folder)
        case ClassifierConfig():
            from safespan.evaluation.judges.classifier import ClassifierJudge

            return ClassifierJudge(config)
        case _:
            return RuleJudge()
