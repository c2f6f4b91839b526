"""Which module opens the talks of which kind. A kind's module has `case(job, index)` and checks its own job."""

from collections.abc import Callable
from importlib import import_module

from k2model.corpus.synthesis.config import Kind, SynthesisConfig
from k2model.corpus.synthesis.conversation import Case
from k2model.corpus.synthesis.job import Job

_MODULES = {
    Kind.THINKING: "thinking",
    Kind.BEHAVIOUR: "behaviours",
    Kind.TOOLS: "tool_dialogues",
    Kind.CHAT: "chat",
    Kind.CONSTRAINTS: "constraints.following",
}


def opener(config: SynthesisConfig) -> Callable[[Job, int], Case]:
    """The function that opens talk `index` of the job. Raises `SynthesisError` when the kind cannot do the job."""
    module = import_module(f"k2model.corpus.synthesis.{_MODULES[config.kind]}")
    module.check_job(config)
    case: Callable[[Job, int], Case] = module.case
    return case


def known_families() -> dict[str, list[str]]:
    """What a job's `families` may name, by kind."""
    from k2model.corpus.synthesis.chat import SETS
    from k2model.corpus.synthesis.constraints.kinds import KINDS
    from k2model.corpus.synthesis.problems import known_families as problems
    from k2model.corpus.synthesis.tools.tasks import TASKS

    found = {Kind.THINKING: problems(), Kind.BEHAVIOUR: problems(), Kind.TOOLS: [*TASKS], Kind.CHAT: [*SETS]}
    return {kind.value: names for kind, names in (found | {Kind.CONSTRAINTS: [*KINDS]}).items()}
