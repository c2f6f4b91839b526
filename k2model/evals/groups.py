"""Which scores a phase has, in groups that are measured whole by one worker: a task, or a domain's loss.

A group is the unit that is shared among workers, so that its numbers do not depend on how many there
are. The order of groups here is the order of rows in `scores.json`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from k2model.evals.generation import EvaluatedModel
from k2model.evals.likelihood import heldout_loss, pick_choices
from k2model.evals.questions import ask
from k2model.evals.retrieval import recall
from k2model.evals.scores import Outcome
from k2model.recipe.schema import EvaluationConfig, PhaseKind
from k2model.recipe.tasks import LOSS, Method, Task, retrieval_scores, tasks_of

OWN, PARENT, RAISED = "own", "parent", "raised"  # which model a group is measured on, see `Group.model`
_MODEL = {"": OWN, "@parent_theta": PARENT, "@new_theta": RAISED}

#: Rough costs in tokens read at once; a generated token costs about as much as three read ones.
GENERATED = 3
CHOICE_TOKENS = 160  # of one item with choices: its prompt and four lines


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
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> list[Group]:
    """All groups of a phase.

    Args:
        lengths: at which retrieval is scored.
        domains: sources of each held-out domain.
        extended_to: the phase's length where its theta differs from its parent's, else None.
        sizes: items of each of the recipe's own benchmarks.
    """
    groups = [
        Group(f"{LOSS}/{domain}", config.loss_tokens, partial(heldout_loss, domain=domain, sources=tuple(sources)))
        for domain, sources in sorted(domains.items())
    ]
    for task in tasks_of(config, kind):
        if task.method is Method.RECALL:
            for score, length, variant in retrieval_scores(lengths, extended_to):
                run = partial(recall, score=score, length=length)
                groups.append(Group(score, config.retrieval_documents * length, run, _MODEL[variant]))
        else:
            groups.append(_group(task, sizes.get(task.items, config.items_per_family)))
    return groups


def _group(task: Task, items: int) -> Group:
    name = next(iter(task.scores)) if len(task.scores) == 1 else task.family
    if task.method is Method.LIKELIHOOD:
        return Group(name, items * CHOICE_TOKENS, partial(pick_choices, task=task))
    return Group(name, GENERATED * items * task.max_new_tokens, partial(ask, task=task))


def share(groups: Sequence[Group], workers: int) -> list[list[int]]:
    """Indices of the groups of each worker: the costliest first, each to the least loaded so far."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for index in sorted(range(len(groups)), key=lambda i: (-groups[i].cost, i)):
        worker = loads.index(min(loads))
        shares[worker].append(index)
        loads[worker] += groups[index].cost
    return shares
