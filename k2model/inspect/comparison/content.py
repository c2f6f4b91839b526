"""A comparison read from a store: of each side what it is and comes from, what was logged and measured along its
training, and of both how they are related, the settings that differ and the scores."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.record import ref_of
from k2model.errors import K2Error
from k2model.evals.scores import ScoreRow
from k2model.inspect.comparison.scores import Measured, ScoreLine, measured, score_lines
from k2model.inspect.comparison.settings import Setting, differing
from k2model.inspect.references import Named
from k2model.reporting.lineage import Lineage
from k2model.reporting.lineage.graph import Key
from k2model.reporting.timeline import Curve
from k2model.training.log import METRICS, parse_row

MODEL_KINDS = ("checkpoint", "export", "scores", "safety")
_FROM_RANDOM = "random weights"


@dataclass(frozen=True)
class Trained:
    """A checkpoint on the way to a model: after `end` tokens since its line of training began. `loss` as it was logged,
    over tokens seen; `rows` its scores."""

    key: Key
    name: str
    start: int
    end: int
    loss: Curve = field(default_factory=list)
    rows: tuple[ScoreRow, ...] = ()


@dataclass(frozen=True)
class Side:
    """One of the two. `model`: by kind the artifacts of the model that it is or is of, empty where it is of none;
    `way`: the checkpoints that its weights come from, and its own. `origin`: what they began with."""

    named: Named
    name: str
    place: str
    model: dict[str, Key]
    way: tuple[Trained, ...]
    origin: str
    scores: Measured
    missing: tuple[str, ...]

    @property
    def title(self) -> str:
        """As it was asked for, and what that is."""
        return self.named.asked if self.named.asked in (self.name, self.place) else f"{self.named.asked} ({self.name})"


@dataclass(frozen=True)
class Comparison:
    """`relation`: how one comes from the other, in a sentence. `missing`: what is not here of either or does not
    agree."""

    store: Store
    lineage: Lineage
    first: Side
    second: Side
    relation: str
    settings: list[Setting]
    scores: list[ScoreLine]

    @cached_property
    def missing(self) -> list[str]:
        own = [f"{which}: {said}" for which, side in (("first", self.first), ("second", self.second))
               for said in side.missing]  # fmt: skip
        return list(dict.fromkeys(own))

    @property
    def shared(self) -> set[Key]:
        """The checkpoints that both come from."""
        return {one.key for one in self.first.way} & {one.key for one in self.second.way}


def comparison_of(store: Store, lineage: Lineage, first: Named, second: Named) -> Comparison:
    """Everything that is asked of two artifacts. Nothing raises for what is gone: it is told as missing."""
    sides = [_side(store, lineage, one) for one in (first, second)]
    ours, theirs = sides
    kinds = [kind for kind in MODEL_KINDS if kind in ours.model and kind in theirs.model]
    pairs = [(ours.model.get(kind), theirs.model.get(kind)) for kind in kinds]
    if not pairs:
        pairs = [(first.key, second.key)]
    settings = differing(lineage, pairs)
    scores = score_lines(store, ours.scores, theirs.scores)
    return Comparison(store, lineage, ours, theirs, _relation(lineage, ours, theirs), settings, scores)


def _side(store: Store, lineage: Lineage, named: Named) -> Side:
    model = _model(lineage, named.key)
    checkpoint = model.get("checkpoint")
    descent = lineage.descent(checkpoint) if checkpoint else []
    missing = [f"{lineage.name(key)}: {said}" for key in lineage.before(named.key, *model.values())
               for said in lineage.problems(key)]  # fmt: skip
    origin, way, seen = _FROM_RANDOM, [], 0
    for key in descent:
        if key[0] != "checkpoint" or key not in lineage.records:
            adopted = lineage.records[key]["config"].get("adopted", {}) if key in lineage.records else {}
            origin = f"{lineage.name(key)} ({adopted.get('source') or lineage.place(key)})"
            continue
        tokens = int(lineage.records[key]["stats"].get("tokens", 0))
        way.append(_trained(store, lineage, key, seen, seen + tokens, missing))
        seen += tokens
    own = measured(store, _ref(store, lineage, model.get("scores")), _ref(store, lineage, model.get("safety")))
    if checkpoint and "scores" not in model:
        missing.append(f"{lineage.name(checkpoint)} has no scores; `k2 eval run` measures them")
    return Side(
        named, lineage.name(named.key), lineage.place(named.key), model, tuple(way), origin, own,
        tuple(dict.fromkeys([*missing, *own.missing])),
    )  # fmt: skip


def _model(lineage: Lineage, key: Key) -> dict[str, Key]:
    """The artifacts of the model that one is of, by kind without `adopted_`: of several of a kind the newest that
    is here."""
    checkpoint = _checkpoint_of(lineage, key)
    if checkpoint is None:
        return {}
    found = {checkpoint[0].removeprefix("adopted_"): checkpoint}
    exports = _newest(lineage, [one for one in lineage.outputs.get(checkpoint, ()) if "export" in one[0]])
    if exports is not None:
        found["export"] = exports
        made = lineage.outputs.get(exports, ())
        own = [one for one in made if one[0] == "scores" and lineage.inputs(one).get("export") == exports]
        answers = [one for one in made if one[0] == "safety_answers"]
        judged = [one for answer in answers for one in lineage.outputs.get(answer, ()) if one[0] == "safety"]
        found |= {kind: one for kind, all_ in (("scores", own), ("safety", judged)) if (one := _newest(lineage, all_))}
    kind = key[0].removeprefix("adopted_")
    return found | ({kind: key} if kind in MODEL_KINDS else {})


def _checkpoint_of(lineage: Lineage, key: Key) -> Key | None:
    """The weights that an artifact is or is of; None of what is of no model."""
    if key[0] in ("checkpoint", "adopted_checkpoint"):
        return key
    role = {"export": "checkpoint", "adopted_export": "checkpoint", "scores": "export", "safety_answers": "export",
            "safety": "answers", "items_seen": "checkpoint"}.get(key[0], "")  # fmt: skip
    source = lineage.inputs(key).get(role)
    return _checkpoint_of(lineage, source) if source else None


def _newest(lineage: Lineage, keys: Iterable[Key]) -> Key | None:
    """Of those that are here the one made last, else the one made last of all."""
    made = sorted(keys, key=lambda one: (not lineage.problems(one), str(lineage.records[one]["provenance"]["ended"])))
    return made[-1] if made else None


def _ref(store: Store, lineage: Lineage, key: Key | None) -> ArtifactRef | None:
    return ref_of(dict(lineage.records[key]), store.uri) if key else None


def _trained(store: Store, lineage: Lineage, key: Key, start: int, end: int, missing: list[str]) -> Trained:
    """A phase with its log and its scores; what cannot be read is added to `missing`."""
    loss: Curve = []
    try:
        log = store.read(ref_of(dict(lineage.records[key]), store.uri), METRICS).decode().splitlines()
        loss = [(float(start + row.tokens), row.loss) for row in map(parse_row, log)]
    except K2Error as error:
        missing.append(f"the log of {lineage.name(key)}: {error}")
    rows = measured(store, _ref(store, lineage, _model(lineage, key).get("scores")), None)
    missing += rows.missing
    return Trained(key, lineage.name(key).rpartition("/")[0], start, end, loss, tuple(rows.rows.values()))


def _relation(lineage: Lineage, first: Side, second: Side) -> str:
    """How the two are related, in a sentence."""
    one, other = first.named.key, second.named.key
    if one == other:
        return "They are the same artifact: equal bytes."
    ours, theirs = first.model.get("checkpoint"), second.model.get("checkpoint")
    if ours is None or theirs is None:
        for key, of in ((one, other), (other, one)):
            if key in lineage.before(of):
                return f"{lineage.place(of)} was made from {lineage.place(key)}."
        return "Neither was made from the other."
    if ours == theirs:
        return "They are of the same model."
    ways = [lineage.descent(ours), lineage.descent(theirs)]
    for key, of, way in ((ours, theirs, ways[1]), (theirs, ours, ways[0])):
        if key in way:
            between = [lineage.name(one).rpartition("/")[0] for one in way[way.index(key) + 1 :]]
            which = "second" if of == theirs else "first"
            return f"The {which} goes on from the other's weights, through {_listed(between)}."
    shared = [one for one in ways[0] if one in ways[1]]
    if shared:
        after = [[lineage.name(one).rpartition("/")[0] for one in way[way.index(shared[-1]) + 1 :]] for way in ways]
        parent = f"{lineage.name(shared[-1]).rpartition('/')[0]} ({lineage.place(shared[-1])})"
        through = f"the first through {_listed(after[0])}, the second through {_listed(after[1])}"
        return f"Both go on from {parent}: {through}."
    return f"They share no weights: the first began with {first.origin}, the second with {second.origin}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
