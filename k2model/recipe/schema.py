"""The typed recipe: one table from which the DAG, the jobs, the plan and the report are derived.

Every class is a frozen dataclass of literals, so that a recipe can be fingerprinted field by field,
sent through Flyte, and overridden by a dotted name. A field marked `hardware(...)` says how a step
is run, one marked `place(...)` names a place (`k2model.recipe.fields`): neither bears identity.

Units: lengths and steps are counts, learning rates are peak values, weights are relative shares of
tokens. This module validates single fields; `k2model.recipe.validate` checks that a recipe as a
whole makes sense.
"""

from dataclasses import dataclass, field
from enum import Enum

from k2model.recipe.cluster import ClusterConfig
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.curation import STANDARD_PROFILES, CurationProfile, DecontaminationConfig
from k2model.recipe.evaluation import EvaluationConfig
from k2model.recipe.expectations import Severity, check_severity
from k2model.recipe.fields import hardware, place, when_set
from k2model.recipe.promotion import PromotionConfig
from k2model.recipe.safety import SafetyConfig
from k2model.recipe.synthesis import SynthesisConfig


class PhaseKind(str, Enum):
    PRETRAIN = "pretrain"
    MIDTRAIN = "midtrain"
    SFT = "sft"

    @classmethod
    def of(cls, phase: str) -> "PhaseKind":
        """The kind of K2's phase of that name: `pretrain`, `sft`, or any `mid_*`."""
        return {"pretrain": cls.PRETRAIN, "sft": cls.SFT}.get(phase, cls.MIDTRAIN)


class OptimizerName(str, Enum):
    ADAMW = "adamw"
    MUON = "muon"  # Muon on the matrices inside blocks, AdamW on embedding, head and norms


class ScheduleShape(str, Enum):
    COSINE = "cosine"
    CONSTANT = "constant"
    LINEAR = "linear"
    INFINITE = "infinite"  # to a constant that a phase can be continued on without end, and from it down at last


class Packing(str, Enum):
    CONCATENATE = "concatenate"  # documents follow each other and are cut at the sequence border
    BEST_FIT = "best_fit"  # whole documents placed where they leave the least room


class Weigh(str, Enum):
    """What the weights of a mixture are shares of."""

    TOKENS = "tokens"  # all tokens
    TARGETS = "targets"  # tokens that are predicted: in supervised fine-tuning, thought and answer


class SourceFormat(str, Enum):
    AUTO = "auto"  # by the files' names
    JSONL = "jsonl"  # one JSON object a line; .gz and .zst are read as well
    PARQUET = "parquet"
    ARROW = "arrow"  # IPC file or stream
    TEXT = "text"  # a tree of plain text files
    CODE = "code"  # a tree of source code
    HUGGING_FACE = "hugging_face"  # a dataset folder: README.md with `configs`, or save_to_disk


class TextUnit(str, Enum):
    FILE = "file"
    PARAGRAPH = "paragraph"  # separated by blank lines


class LongDocuments(str, Enum):
    """What becomes of a document longer than a row, where documents are packed whole."""

    SPLIT = "split"  # over as many rows as it needs
    SKIP = "skip"  # left out and counted: K2's SFT, where half a dialogue teaches the wrong thing


class PreTokens(str, Enum):
    """How text is split before a tokenizer's merges, which never cross a split (`k2model.tokens.tokenizer`)."""

    ISOLATED = "isolated"  # every digit and every ASCII mark stands alone, GPT-2's words between them
    BY_SCRIPT = "by_script"  # words with the marks of any script, digits one by one, runs of marks, lines and spaces


class Precision(str, Enum):
    FP32 = "fp32"
    BF16 = "bf16"  # fp32 parameters and optimizer state, matrix products in bfloat16


class Recompute(str, Enum):
    """What of a block is computed again in the backward pass instead of kept: memory for time."""

    NONE = "none"
    SELECTIVE = "selective"  # what takes no matrix product: the norms' results and SwiGLU's product
    FULL = "full"  # all but the block's input


@dataclass(frozen=True)
class ModelConfig:
    """A K2 transformer: Llama-shaped, untied embeddings, no biases, zero-centred RMSNorm gains."""

    vocab_size: int  # rows of the embedding; the tokenizer may have fewer entries
    hidden_size: int
    n_layers: int
    n_heads: int  # of queries
    n_kv_heads: int  # of keys and values, each shared by n_heads / n_kv_heads queries
    head_dim: int
    ffn_size: int
    rms_norm_eps: float = 1e-5
    init_std: float = 0.01


@dataclass(frozen=True)
class OptimizerConfig:
    name: OptimizerName
    lr: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    muon_momentum: float = 0.95
    muon_newton_schulz_steps: int = 5


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over a phase: linear warm-up, then `shape` from the peak to `final_fraction` of it.

    Of `infinite` alone are the last three: a cosine over `cooldown_steps` from the peak to `constant_fraction` of it,
    that constant, and over the last `anneal_steps` an exponential down to `final_fraction` (`recipe.schedules`).
    """

    shape: ScheduleShape
    warmup_steps: int = 0
    final_fraction: float = 1.0  # of the peak, at the last step of a shape that falls
    cooldown_steps: int = when_set(0)
    constant_fraction: float = when_set(0.0)
    anneal_steps: int = when_set(0)  # 0 = the phase ends on the constant, so that another can go on with it


@dataclass(frozen=True)
class MixtureEntry:
    """How much of a corpus source a phase trains on, in one of three ways; none of them = the source is left out.

    `weight`: a relative share of what the phase has room for beside `epochs` and `copies`. `epochs`: so many
    passes, whatever the size. `copies`: so many whole copies, outside the weights' budget. `bucket` draws only
    documents that stand for so many copies, in K2's buckets: `1-1`, `2-5`, `6-10`, `11-100`, `101-1000`, `1001+`,
    or several that follow each other (`2+`); "" = all of them.
    """

    source: str
    weight: float = 0.0
    epochs: float = 0.0
    copies: int = 0
    bucket: str = ""
    listed_as: str = field(default="", metadata={"identity": False})  # its name in the list it was taken from

    @property
    def name(self) -> str:
        """How the entry is addressed and shown: `prose`, or `prose[2-5]` where it takes one bucket."""
        return f"{self.source}[{self.bucket}]" if self.bucket else self.source


@dataclass(frozen=True)
class MixingConfig:
    """How the amounts of a phase's mixture become tokens, and what the whole of them must keep to.

    `target_tokens` is what the weights share out in one pass, in the unit of `weigh`; 0 = what the phase has room
    for. The list drawn is gone through `passes` times. At least `min_short` of the tokens must come from short
    documents, of at most `short_tokens` tokens (K2: as long as a pre-training sequence); 0 = no such rule.
    """

    weigh: Weigh = Weigh.TOKENS
    target_tokens: int = 0
    passes: int = 1
    short_tokens: int = 0
    min_short: float = 0.3


@dataclass(frozen=True)
class Parallelism:
    """How a phase is laid over machines. Never bears identity: it may change between two attempts.

    nodes x workers_per_node = tensor x context x data-parallel workers.
    """

    nodes: int = 1
    workers_per_node: int = 2
    zero_stage: int = 0
    tensor: int = 1  # workers that share every matrix
    context: int = 1  # workers that share every sequence (Ulysses)
    micro_batch: int = 0  # sequences per worker and backward pass; 0 = all that the worker has
    recompute: Recompute = Recompute.NONE
    offload: bool = False  # optimizer state and step in the host's memory
    loader_workers: int = 1  # threads that read batches ahead
    loader_cache_gb: float = 8.0  # of this machine's disk, at most, for rows that come from an object store
    loader_wait_seconds: float = 600.0  # how long training waits for an object store that does not give rows


@dataclass(frozen=True)
class CheckpointConfig:
    """When a phase is saved and what stays, in steps unless a name says otherwise. Never bears identity."""

    save_every: int
    keep_last: int = 2  # newest checkpoints kept for resumption
    keep_every: int = 0  # every checkpoint at a multiple of this is kept for good (longitudinal study); 0 = none
    save_deadline_seconds: float = 600.0  # how long training waits for a store that does not take a checkpoint
    preemption_seconds: float = 25.0  # from SIGTERM to the last checkpoint's end
    attempts_without_progress: int = 5  # in a row, after which a crash loop is ended; 0 = never


@dataclass(frozen=True)
class SpikePolicy:
    """What to do about a loss that jumps: its width decides, not its height (K2-V2 report).

    A step is an outlier when its loss lies more than `threshold` robust standard deviations (1.4826 x median
    absolute deviation) above the median of the last `window` ordinary steps. Up to `tolerated` outliers in a
    row are ridden out. More, or a loss or gradient norm that is not a number, roll training back to a checkpoint
    before the spike and skip the spike's steps and `margin` steps before them, at most `max_rollbacks` times in
    a phase. K2's own window and threshold are not public.
    """

    window: int = 128
    threshold: float = 8.0
    tolerated: int = 10  # steps in a row
    margin: int = 2  # the batch that set a spike off shows in the losses that follow it
    max_rollbacks: int = 3


@dataclass(frozen=True)
class PhaseConfig:
    """One row of the phase table: what a phase trains on, for how long and how."""

    name: str
    kind: PhaseKind  # midtrain: part of the data must be short (mixing); sft: may become the champion
    parent: str  # name of the phase or adopted model that this one starts from; "" = random initialisation
    sequence_length: int  # tokens a row
    rope_theta: float
    global_batch: int  # sequences per optimizer step
    steps: int  # of the optimizer
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    mixture: tuple[MixtureEntry, ...]
    packing: Packing  # concatenate: documents are cut where a row ends; best_fit: whole where they leave least room
    mixing: MixingConfig = MixingConfig()
    long_documents: LongDocuments = LongDocuments.SPLIT
    keep_optimizer_state: bool = True  # start from the parent's optimizer state, not only its weights
    precision: Precision = Precision.BF16
    bf16_residual: bool = when_set(False)  # under bf16 the stream between blocks too; else it is fp32
    z_loss: float = 0.0  # weight of the mean squared log-partition in the loss; K2 has none
    spikes: SpikePolicy = SpikePolicy()
    seed: int = 0
    parallelism: Parallelism = hardware(Parallelism())
    checkpoints: CheckpointConfig = hardware(CheckpointConfig(save_every=100))
    norms_every: int = hardware(10)  # steps; norms of parameters and updates cost a pass over both; 0 = never

    @property
    def tokens_per_step(self) -> int:
        return self.sequence_length * self.global_batch

    @property
    def tokens(self) -> int:
        return self.tokens_per_step * self.steps


@dataclass(frozen=True)
class FieldMapping:
    """Which column of a row is what; dots go into structs (`meta.licence`), "" = the rows have none.

    `messages` names chat turns (a list, or JSON text of one) and takes the place of `text`.
    """

    text: str = "text"
    messages: str = ""
    tools: str = ""  # definitions of the tools of a dialogue, JSON text or a list; "" = a column `tools`
    system: str = when_set("")  # the system's turn of a dialogue, where it stands apart; "" = a column `system`
    effort: str = ""  # of a dialogue: low, medium or high
    id: str = ""  # "" = the row's place, so that ids change when rows move
    licence: str = ""
    origin: str = ""  # "" = the input's relative path and row
    language: str = ""  # counted in the report
    key: str = ""  # rows of one key lie on one side of the held-out split; "" = the text, or the first user turn
    ignored: tuple[str, ...] = when_set(())  # of messages and their parts, which are not to be understood; and columns


@dataclass(frozen=True)
class SourceConfig:
    """A corpus source: documents that a job of synthesis writes (`job`), rows of files (`location`), or what the
    builder called `name` gives.

    `documents` caps the number of training documents built (0 = all there are). `context` is the
    length in tokens that long-context sources aim at (0 = not applicable). The fields below them are for a source
    that is read from files (`k2model.ingest`): what lies there bears identity by its digests, not its place.
    """

    name: str
    documents: int = 0
    context: int = 0
    job: SynthesisConfig | None = when_set(None, identity=False)  # noqa: RUF009  what writes `synth/<its name>`
    location: str = place()  # a file, folder or glob: a path or `s3://`; "" = built by the project itself
    format: SourceFormat = SourceFormat.AUTO
    fields: FieldMapping = FieldMapping()
    domain: str = ""
    licence: str = ""  # of documents that state none; an SPDX id, or `unknown`
    heldout: float = 0.01  # share of the documents, by content, that is never trained on
    sample: float = 1.0  # share of the documents, by content, that is read at all
    subset: str = ""  # of a Hugging Face dataset; "" = its default
    split: str = "train"  # of a Hugging Face dataset
    unit: TextUnit = TextUnit.FILE  # what is a document in a text tree
    encoding: str = "utf-8"  # of JSONL, text and code
    effort: str = "low"  # of dialogues that state none; those with thinking are then of high effort
    max_row_bytes: int = 64_000_000  # longer rows are quarantined; bounds memory
    max_quarantined: float = hardware(0.1)  # share of rows, bytes or files that cannot be used, above which a run stops


@dataclass(frozen=True)
class SourceFacts:
    """What is public of a source (or of one bucket of it) whose documents are not at hand.

    `family` is what lists group it under. `tokens` of the recipe's own tokenizer, 0 = not known.
    """

    source: str
    bucket: str = ""
    family: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class CorpusConfig:
    sources: tuple[SourceConfig, ...]
    seed: int = 0
    heldout_items: int = 160  # evaluation items per family, never trained on
    near_duplicate_threshold: float = 0.8  # Jaccard similarity of word shingles, natural text only
    minhash_permutations: int = 128  # K2's curation used 128
    shingle_words: int = 5  # words a shingle; K2's curation used 13
    min_characters: int = 1
    max_characters: int = 20_000
    part_bytes: int = 128_000_000  # of input read by one worker at a time; decides into which files documents go
    profiles: tuple[CurationProfile, ...] = STANDARD_PROFILES  # the first that names a source is applied to it
    decontamination: DecontaminationConfig = DecontaminationConfig()

    @property
    def synthesised(self) -> tuple[SourceConfig, ...]:
        """The sources that a job of synthesis makes."""
        return tuple(source for source in self.sources if source.job)


@dataclass(frozen=True)
class SeverityOverride:
    """What happens when one expectation is not met, in place of the table in `k2model.recipe.expectations`.

    `expectation` is `suite/name`, as reports show it. An unknown one is a SeverityError with the nearest name.
    """

    expectation: str
    severity: Severity

    def __post_init__(self) -> None:
        check_severity(self.expectation, self.severity)


@dataclass(frozen=True)
class ValidationConfig:
    """Bounds the Great Expectations suites check. An expectation of severity `stop` that is not met stops the DAG."""

    min_documents_per_source: int = 100
    max_quarantined_fraction: float = 0.02
    min_ascii_fraction: float = 0.5  # of the characters of a document; the laptop's corpus is English and code
    # largest times a source's tokens may be repeated in one phase before the mixture counts as unmet
    max_epochs: float = 60.0
    severities: tuple[SeverityOverride, ...] = ()
    # `statistics.json` (path or URI) of the version of this corpus to compare with; "" compares with none
    previous_statistics: str = place()
    drift_warn: float = 0.1  # population stability index, see k2model.validation.documents.tables
    drift_stop: float = 0.25
    # of a source, special tokens included: arithmetic has 1.06; below, the tokenizer was learned from something else
    min_bytes_per_token: float = 0.5
    max_bytes_per_token: float = 8.0
    share_tolerance: float = 0.05  # between a source's share of a phase's tokens and the share wanted
    max_padding: float = 0.05  # of a phase's positions
    max_split: float = 0.5  # of a phase's documents: longer than a row
    max_truncated: float = 0.05  # of a phase's documents: cut to fill a row
    part_bytes: int = hardware(200_000_000)  # of text or tokens that one part of a gate looks at: a pod, a process
    workers: int = hardware(2)  # processes, where a gate's parts are made on one machine


@dataclass(frozen=True)
class TokenizerConfig:
    vocab_size: int
    sample_bytes: int = 4_000_000  # text the merges are learned from, drawn evenly over sources
    seed: int = 0
    pre_tokens: PreTokens = PreTokens.ISOLATED
    #: Folder or URI of a `tokenizer.json` to take instead of learning one. Its content bears identity, not its place;
    #: of the other fields `vocab_size` counts, as the most entries it may have.
    adopt: str = place()


@dataclass(frozen=True)
class GateConfig:
    """What a checkpoint must reach before an alias moves to it: `minimum` <= `score` <= `maximum`, or the
    same for the difference `score` - `minus` when `minus` is named. `minus` is another score of the phase,
    or `chance`: the score's own chance level."""

    phase: str
    score: str
    minimum: float
    minus: str = ""
    maximum: float = 1.0

    @property
    def name(self) -> str:
        """How the gate is addressed: `mid_4/countdown/think`."""
        return f"{self.phase}/{self.score}"

    @property
    def wanted(self) -> str:
        """`≥ 0.70`, or `≤ 0.05` for a gate from above."""
        return f"≤ {self.maximum:.2f}" if self.maximum < 1.0 else f"≥ {self.minimum:.2f}"


@dataclass(frozen=True)
class AdoptedModel:
    """A model from outside that phases start from, where they name it as their `parent`: a folder in Hugging Face's
    form, or a release of this project (`k2model.export.adoption`).

    What the recipe says of it is compared with what lies there. `source` is what a model card says it is from.
    """

    name: str
    licence: str  # of its weights: an SPDX id, or `other`, `unknown`
    rope_theta: float  # of its config.json
    sequence_length: int  # tokens, its config.json's `max_position_embeddings`
    location: str = place()  # the folder: a path or `s3://`
    source: str = ""  # where it is published, e.g. an address and a revision; "" = the location
    training_state: bool = False  # take the optimizer state, too; only releases have one (`release_training_state`)

    @property
    def origin(self) -> str:
        """Where it is from, as people are told."""
        return self.source or self.location


@dataclass(frozen=True)
class ExportConfig:
    """How exported weights are stored. False where nothing is changed."""

    bf16: bool = False  # rounded to nearest, ties to even; else fp32
    shard_bytes: int = 5_000_000_000  # of tensors in a file, unless one alone is larger; as transformers cuts

    def __bool__(self) -> bool:
        return self != ExportConfig()


@dataclass(frozen=True)
class Recipe:
    """A complete lifecycle. `unknown` lists facts of the real run that are not public, `facts` those of its sources
    that are."""

    name: str
    description: str
    licence: str  # of the weights: an SPDX id that their data allow, or `other`, `unknown`
    model: ModelConfig
    corpus: CorpusConfig
    validation: ValidationConfig
    tokenizer: TokenizerConfig
    phases: tuple[PhaseConfig, ...]
    evaluation: EvaluationConfig
    gates: tuple[GateConfig, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = field(default=(), metadata={"identity": False})
    facts: tuple[SourceFacts, ...] = field(default=(), metadata={"identity": False})
    cluster: ClusterConfig = hardware(ClusterConfig())
    adopted: tuple[AdoptedModel, ...] = when_set(())
    #: In tokens, at which what grows with a context is scored; () = at the row lengths of all phases. Of a recipe that
    #: goes on with another, so that both are asked the same.
    scored_lengths: tuple[int, ...] = when_set(())
    #: Whether the release has the optimizer state of the last phase, so that others can go on with it.
    release_training_state: bool = when_set(False)
    export: ExportConfig = when_set(ExportConfig())
    safety: SafetyConfig = when_set(SafetyConfig())
    continual: ContinualConfig = when_set(ContinualConfig(), identity=False)
    promotion: PromotionConfig = when_set(PromotionConfig(), identity=False)

    @property
    def lengths(self) -> list[int]:
        """In tokens, ascending: at which phases are scored on what grows with a context."""
        return sorted(set(self.scored_lengths) or {phase.sequence_length for phase in self.phases})

    def phase(self, name: str) -> PhaseConfig:
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise KeyError(f"recipe '{self.name}' has no phase '{name}'; it has {', '.join(p.name for p in self.phases)}")

    def row(self, name: str) -> PhaseConfig | AdoptedModel:
        """The phase or adopted model of that name, as a `parent` names it. Raises KeyError, as `phase` does."""
        return next((model for model in self.adopted if model.name == name), None) or self.phase(name)

    def owner(self, name: str) -> PhaseConfig | AdoptedModel | SourceConfig:
        """Of which steps bear the name: a phase, an adopted model or a source that is synthesised. Raises KeyError."""
        return next((source for source in self.corpus.synthesised if source.name == name), None) or self.row(name)

    def origin(self, name: str) -> AdoptedModel | None:
        """The adopted model that the weights of phase `name` descend from; None where they began at random."""
        row = self.row(name)
        while isinstance(row, PhaseConfig) and row.parent:
            row = self.row(row.parent)
        return row if isinstance(row, AdoptedModel) else None

    @property
    def safety_tested(self) -> tuple[str, ...]:
        """Names of the phases whose models are safety-tested, in order."""
        of = [phase for phase in self.phases if phase.kind.value in self.safety.kinds]
        parents = {phase.parent for phase in of} if self.safety.parents else set()
        return tuple(phase.name for phase in self.phases if phase in of or phase.name in parents)

    def trained_length(self, name: str) -> int:
        """The longest row, in tokens, that the weights of phase `name` were trained on: its own or an ancestor's, of an
        adopted model the length that it states."""
        row = self.row(name)
        parent = row.parent if isinstance(row, PhaseConfig) else ""
        return max(row.sequence_length, self.trained_length(parent) if parent else 0)
