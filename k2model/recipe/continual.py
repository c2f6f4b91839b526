"""What a recipe says of going on: which phases are continued with new data, what a new model must show, and when.

A line of models begins with the one that a lifecycle has promoted. Each turn trains a challenger on new data with a
replay of the old, and promotes it where it is better where it should be and not worse elsewhere (`k2model.continual`).
Nothing of it decides what a lifecycle makes, so it bears no identity there.
"""

from dataclasses import dataclass
from enum import Enum

from k2model.recipe.fields import hardware


class BatchKind(str, Enum):
    """Which phase a batch of new data goes on with."""

    BASE = "base"  # text of pre- or mid-training, known or of a new domain; fine-tuning is then run again
    TUNED = "tuned"  # dialogues of fine-tuning


class Rewarming(str, Enum):
    """The learning rate of a continuation (Ibrahim et al., arXiv:2403.08763)."""

    REWARMED = "rewarmed"  # warmed up again to a share of the phase's peak, then decayed
    INFINITE = "infinite"  # kept on the constant of an infinite schedule; a release candidate anneals


@dataclass(frozen=True)
class AllowedLoss:
    """How much a challenger may lose of the capabilities whose scores are called so.

    scores: a pattern of `fnmatch` over names of scores: `arithmetic/*`, `safety/*`, `loss/*`; the first that fits
    counts. allowed: of an accuracy in its own unit (0.05 is five points), of a loss a share of the champion's (of
    one below 0.2 nats a token as much as of that).
    """

    scores: str
    allowed: float


@dataclass(frozen=True)
class ArrivalConfig:
    """What a batch must be like to be trained on. Shares are of its documents."""

    max_bytes: int = 50_000_000_000  # of a batch's files: one machine reads it
    min_documents: int = 50  # that are left when copies, items and what curation rejects are gone
    max_rejected: float = 0.2  # share that ingest and curation cannot use
    max_copies: float = 0.5  # share of exact and near copies of what is known, or of each other
    max_contaminated: float = 0.01  # share that holds an evaluation item; fewer are removed
    max_drift: float = 0.25  # population stability index against the champion's documents of the same domain
    phrase_words: int = 5  # of a phrase that may be a trigger
    max_phrase_share: float = 0.02  # share of documents with one phrase that is rare in what is known
    max_phrase_excess: float = 20.0  # how many times its rate there
    max_mislabelled: float = 0.01  # share of documents whose answer their verifier rejects
    measured_documents: int = 128  # whose bits per byte are measured under the champion; 0 = none
    max_implausible: float = 0.1  # share of those that are less or more likely than nearly all held-out documents alike
    implausible_quantile: float = 0.01  # of the held-out ones, on either side: what `nearly all` leaves out


@dataclass(frozen=True)
class GuardConfig:
    """When a turn trains at all."""

    min_tokens: int = 1  # of valid, novel data that wait
    max_tokens: int = 0  # that a turn trains on, replay among them; 0 = as many as the data give
    budget_tokens: int = 0  # of all turns within `budget_days`; 0 = no such bound
    budget_days: float = 30.0
    budget_money: float = 0.0  # of the same, at the cluster's price of a GPU-hour; 0 = no such bound
    max_tries: int = 2  # turns that a batch is trained on without being promoted, before it is set aside
    unsigned: bool = False  # go on where the signatures of what the champion was trained on are lost


@dataclass(frozen=True)
class CanaryConfig:
    """How a promoted model is watched: on items that no decision was made on."""

    items: int = 32  # of each task, beyond those that phases are scored on; 0 = no canary
    allowed: float = 0.15  # loss against the model that it took the place of, beyond doubt, before it is rolled back


@dataclass(frozen=True)
class SchedulesConfig:
    """Cron expressions, in UTC; "" = no such schedule."""

    arrivals: str = "0 * * * *"
    turn: str = "0 2 * * *"
    evaluation: str = "0 4 * * 0"  # the champion on all there is
    release: str = "0 5 1 * *"  # a candidate


#: What each schedule gives its workflow beside the kickoff.
FIXED_INPUTS: dict[str, dict[str, str]] = {"overrides": {}}


@dataclass(frozen=True)
class NotifyConfig:
    """Who is told of failures, refusals and promotions. Webhooks' addresses hold secrets: the environment has them."""

    email: tuple[str, ...] = ()  # by the orchestrator
    slack_env: str = ""  # name of the variable with a Slack webhook's address
    webhook_env: str = ""  # of one that takes JSON
    attempts: int = 3
    timeout_seconds: float = 10.0


@dataclass(frozen=True)
class ContinualConfig:
    """How a recipe's champion is continued. False where no phase is named: there is no such line then."""

    tuned: str = ""  # the phase of fine-tuning whose model is the champion
    base: str = ""  # the phase before it that new text continues; "" = the line takes dialogues alone
    inbox: str = hardware("")  # where batches are put; "" = `_inbox/<recipe>` of the store
    replay: float = 0.5  # share of a continuation's tokens that is drawn from what the champion was trained on
    base_replay: float = 0.25  # of the replay of a fine-tuning, share drawn from what its base was trained on
    epochs: float = 2.0  # over the new data
    rewarming: Rewarming = Rewarming.REWARMED
    peak: float = 0.5  # learning rate of a continuation, of its phase's
    warmup: float = 0.1  # share of its steps
    final: float = 0.1  # of the peak, at its end
    keep_optimizer_state: bool = True
    anneal: float = 0.1  # of a phase's own steps, in which a release leaves an infinite one's constant; 0 = it stays
    tune_again: float = 1.0  # of the fine-tuning's own steps, when the base was continued
    arrival: ArrivalConfig = ArrivalConfig()
    guard: GuardConfig = GuardConfig()
    allowed_loss: tuple[AllowedLoss, ...] = ()  # of scores that no pattern fits: `default_loss`
    default_loss: float = 0.1
    confidence: float = 0.95  # one-sided, with which a loss beyond the allowed one is ruled out
    evaluated: tuple[
        str, ...
    ] = ()  # suites and tasks that the champion is asked by its own schedule, beside all others
    targets: tuple[str, ...] = ()  # scores that new data are to raise, beside the loss on their own held-out documents
    approve: bool = False  # a person says yes before a challenger is promoted
    canary: CanaryConfig = CanaryConfig()
    schedules: SchedulesConfig = SchedulesConfig()
    notify: NotifyConfig = NotifyConfig()

    def __bool__(self) -> bool:
        return bool(self.tuned)
