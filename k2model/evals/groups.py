"""Which scores a phase has, in groups that are measured whole by one worker.

A group is the unit that is shared among workers, so that its numbers do not depend on how many there
are. The order of groups here is the order of rows in `scores.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from k2model.evals.generation import EvaluatedModel
from k2model.evals.questions import MODES, Check, ask, limit
from k2model.evals.scores import Outcome
from k2model.recipe.schema import EvaluationConfig, PhaseKind

REASONING_FAMILIES = ("arithmetic", "spelling", "knights", "countdown")
EFFORTS = ("low", "medium", "high")
CHAT_EFFORT = "high"  # of questions without a trace: what the chat template takes when none is named
OWN, PARENT, RAISED = "own", "parent", "raised"  # which model a group is measured on, see `Group.model`

#: Rough costs in tokens read at once; a generated token costs about as much as three read ones.
GENERATED = 3
CHOICE_TOKENS = 160  # of one next-line item: its prompt and four lines


@dataclass(frozen=True)
class Group:
    """`model`: OWN weights and theta; PARENT's weights with PARENT's theta, or with the RAISED one."""

    name: str
    cost: int
    run: Callable[[EvaluatedModel], Outcome]
    model: str = OWN


def groups_of(
    kind: PhaseKind,
    config: EvaluationConfig,
    lengths: Sequence[int],
    domains: dict[str, list[str]],
    extended_to: int | None,
) -> list[Group]:
    """All groups of a phase.

    Args:
        lengths: at which retrieval is scored.
        domains: sources of each held-out domain.
        extended_to: the phase's length where its theta differs from its parent's, else None.
    """
    asked = set(config.families)
    reasoning = [family for family in REASONING_FAMILIES if family in asked]
    wordings = ("seen", "heldout") if "facts" in asked else ()
    groups = _loss_groups(config, domains)
    groups += [_asked(f"facts/{w}_wording", f"facts_{w}", "plain", config) for w in wordings]
    if kind is PhaseKind.SFT:
        groups += [_asked(f"{f}/{effort}", f, effort, config) for f in reasoning for effort in EFFORTS]
        groups += [_asked(f"facts/chat_{w}", f"facts_chat_{w}", CHAT_EFFORT, config) for w in wordings]
        groups += [_tools(config)] if "tools" in asked else []
    else:
        groups += [_asked(f"{f}/{mode}", f, mode, config) for f in reasoning for mode in ("think", "direct")]
    groups += [_next_line(config)] if "code" in asked else []
    groups += [_retrieval(config, length) for length in lengths if "retrieval" in asked]
    if extended_to is not None and "retrieval" in asked:
        groups.append(_retrieval(config, extended_to, "@parent_theta", PARENT))
        groups.append(_retrieval(config, extended_to, "@new_theta", RAISED))
    return groups


def share(groups: Sequence[Group], workers: int) -> list[list[int]]:
    """Indices of the groups of each worker: the costliest first, each to the least loaded so far."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for index in sorted(range(len(groups)), key=lambda i: (-groups[i].cost, i)):
        worker = loads.index(min(loads))
        shares[worker].append(index)
        loads[worker] += groups[index].cost
    return shares


def _loss_groups(config: EvaluationConfig, domains: dict[str, list[str]]) -> list[Group]:
    from k2model.evals.likelihood import heldout_loss

    return [
        Group(f"loss/{domain}", config.loss_tokens, partial(heldout_loss, domain=domain, sources=tuple(sources)))
        for domain, sources in sorted(domains.items())
    ]


def _asked(score: str, family: str, mode: str, config: EvaluationConfig) -> Group:
    return _generated(score, family, mode, config, lambda: {score: _check(family)})


def _tools(config: EvaluationConfig) -> Group:
    def checks() -> dict[str, Check]:
        from k2model.documents.families import tools

        return {
            "tools/well_formed": tools.check_well_formed,
            "tools/exact": tools.check_exact,
            "tools/result": tools.check_result,
        }

    return _generated("tools", "tools", CHAT_EFFORT, config, checks)


def _generated(
    name: str, family: str, mode: str, config: EvaluationConfig, checks: Callable[[], dict[str, Check]]
) -> Group:
    assert mode in MODES
    cost = GENERATED * config.items_per_family * limit(family, mode)
    return Group(name, cost, lambda evaluated: ask(evaluated, family, mode, checks()))


def _check(family: str) -> Check:
    from k2model.documents import FAMILIES

    check: Check = FAMILIES[family].check
    return check


def _next_line(config: EvaluationConfig) -> Group:
    from k2model.evals.likelihood import SCORE, pick_next_lines

    return Group(SCORE, config.items_per_family * CHOICE_TOKENS, pick_next_lines)


def _retrieval(config: EvaluationConfig, length: int, variant: str = "", model: str = OWN) -> Group:
    from k2model.evals.retrieval import recall

    cost = config.retrieval_documents * length
    return Group(f"retrieval/{length}{variant}", cost, partial(recall, length=length, variant=variant), model)
