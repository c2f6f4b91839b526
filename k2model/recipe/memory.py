"""What a phase takes of one GPU's memory, by component: a formula that follows the model and the engine, term by term.

Everything that stays is fp32; products take and give `w` bytes a value (2 under bf16), the residual stream `r`. Tensor
parallelism cuts every matrix, embedding and head included, and between matrices the positions; context parallelism
every row; ZeRO shares out optimizer state (1), gradients (2) and weights (3) over the workers of one tensor rank
(arXiv:1910.02054, section 5). A step is at its widest in one of four moments, and the plan's figure is the widest:

    loss        the last hidden states are there, and the head with the logits of one chunk
    last block  first in the backward pass: all blocks' activations are kept, gradients begin to come
    first block last in the backward pass: all gradients are there
    embedding   its gradient, dense, with that of the positions

Sizes are of tensors. What the driver, CUDA, NCCL and fragmentation take comes on top: `FITS` leaves room for them.
`tests/training/test_memory.py` compares with measured peaks of real steps and with a step of k2_70b in which tensors
have no content.
"""

from dataclasses import dataclass

from k2model.recipe.counts import count_parameters
from k2model.recipe.schema import ModelConfig, Parallelism, PhaseConfig, Precision, Recompute

FITS = 0.9  # of a GPU's memory, at most
WEIGHT = GRADIENT = MOMENT = 4  # bytes a value, fp32
CHUNK_LOGITS = 2**25  # that the head makes at a time, 128 MB in fp32
MIN_CHUNK = 128  # positions at a time, at least: fewer would make a narrow product
REDUCE_BUCKET = 500_000_000  # gradients reduced at a time under ZeRO, at most
LIVE_PARAMETERS = 1_000_000_000  # that ZeRO 3 holds gathered, at most (DeepSpeed's `stage3_max_live_parameters`)


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker. `kept`: activations of all blocks kept for backward; `block`: what one block's backward pass
    works with; `head`: logits of a chunk, the head's operand and gradient; `buffers`: gradients on their way to others.
    `peak` is the widest moment, in which not all of them are there at once; `moment` is its name."""

    weights: float
    gradients: float
    optimizer: float
    kept: float
    block: float
    head: float
    buffers: float
    peak: float
    moment: str

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer


def reduce_bucket(held: float) -> int:
    """Values of the buffer in which ZeRO reduces the gradients of a worker that holds `held` parameters."""
    return int(min(REDUCE_BUCKET, held))


def held_parameters(model: ModelConfig, tensor: int) -> float:
    """Of one tensor rank, before ZeRO: its share of every matrix, and every gain."""
    gains = (2 * model.n_layers + 1) * model.hidden_size
    return (count_parameters(model) - gains) / tensor + gains


def training_memory(
    model: ModelConfig, phase: PhaseConfig, layout: Parallelism | None = None, products: int = 0
) -> Memory:
    """Of one worker of `phase`, laid out as `layout` (by default its own). `products`: bytes of a value in matrix
    products, by default those of the phase's precision on an accelerator."""
    layout = layout or phase.parallelism
    step = _Step(model, phase, layout, products or (2 if phase.precision is Precision.BF16 else 4))
    return step.memory()


class _Step:
    """Sizes of one worker. In comments and names: P positions it multiplies, t those of its slice of the stream."""

    def __init__(self, model: ModelConfig, phase: PhaseConfig, layout: Parallelism, w: int) -> None:
        self.model, self.layout, self.w = model, layout, w
        self.r = w if phase.bf16_residual else 4
        workers = layout.nodes * layout.workers_per_node
        self.replicas = workers / layout.tensor
        rows = phase.global_batch * layout.tensor * layout.context / workers
        micro = min(layout.micro_batch or rows, rows)
        self.micro_batches = rows / micro
        self.row = phase.sequence_length
        self.positions = micro * self.row / layout.context
        self.slice = self.positions / layout.tensor
        # A batch of several rows is put in order behind a gather: a copy.
        self.gathered = self.positions * model.hidden_size * w
        self.gathering = (0 if layout.tensor == 1 else 2 if micro > 1 else 1) * self.gathered
        self.stream = self.slice * model.hidden_size * self.r
        self.normed = self.slice * model.hidden_size * w
        self.heads = self.positions * model.n_heads * model.head_dim / layout.tensor * w
        self.kv_heads = 2 * self.positions * model.n_kv_heads * model.head_dim / layout.tensor * w
        self.ffn = self.positions * model.ffn_size / layout.tensor * w
        self.vocabulary = model.vocab_size / layout.tensor * model.hidden_size  # values of the embedding, or the head

    def memory(self) -> Memory:
        stage, held = self.layout.zero_stage, held_parameters(self.model, self.layout.tensor)
        tables = 2 * self.row * self.model.head_dim * 4  # cosines and sines
        blocks = held - 2 * self.vocabulary
        share = 1 / self.replicas if stage else 1.0
        # ZeRO reduces gradients as they come and keeps its share; with ZeRO 1 only where one pass gives all of them.
        shared = stage >= 2 or (stage == 1 and self.micro_batches == 1)
        weights = WEIGHT * held * (share if stage >= 3 else 1) + tables
        gradients = GRADIENT * held * (share if shared else 1)
        master = WEIGHT if stage else 0  # of the optimizer's own, to update
        optimizer = 0.0 if self.layout.offload else (2 * MOMENT + master) * held * share
        buffers = float(GRADIENT * reduce_bucket(held)) if stage else 0.0
        kept, block, head = self._kept(), self._block(), self._head()
        # A single matrix is gathered whole, however large: without tensor parallelism the head can pass the bound.
        gathered = max(min(held, LIVE_PARAMETERS), self.vocabulary)
        fetched = WEIGHT * gathered if stage >= 3 and self.replicas > 1 else 0.0
        always, later = weights + optimizer, self.micro_batches > 1
        if shared:  # a bucket full at a time
            begun = buffers + (gradients if later or stage >= 3 else 0.0)
            first = buffers + (gradients if later or stage >= 3 or held > REDUCE_BUCKET else 0.0)
            done = buffers + GRADIENT * self.vocabulary + gradients
        else:
            begun = gradients + buffers if later else GRADIENT * self.vocabulary
            first = gradients + buffers if later else GRADIENT * (self.vocabulary + blocks)
            done = gradients + buffers + GRADIENT * held * share * bool(stage)
        moments = {
            "loss": always + kept + head + fetched + (gradients if later or stage >= 3 else 0.0),
            "last block": always + kept + block + fetched + begun,
            "first block": always + kept / self.model.n_layers + block + fetched + first,
            "embedding": always + done + fetched + 2 * self.positions * self.model.hidden_size * 4,
        }
        moment = max(moments, key=lambda name: moments[name])
        return Memory(weights, gradients, optimizer, kept, block, head, buffers, moments[moment], moment)

    def _attention(self) -> float:
        """Kept of it without recomputation: the stream, its norm's result, heads, what they give, twice (the kernel's
        and side by side), and the kernel's log-sums."""
        sums = 4 * self.positions * self.model.n_heads / self.layout.tensor
        return self.stream + self._norm() + self.heads + self.kv_heads + 2 * self.heads + sums

    def _mlp(self) -> float:
        """The stream, its norm's result, gate and up, their product."""
        return self.stream + self._norm() + 2 * self.ffn + self._product()

    def _norm(self) -> float:
        return 0.0 if self.layout.recompute is Recompute.SELECTIVE else self.normed

    def _product(self) -> float:
        return 0.0 if self.layout.recompute is Recompute.SELECTIVE else self.ffn

    def _kept(self) -> float:
        whole = self.layout.recompute is Recompute.FULL
        return self.model.n_layers * (self.stream if whole else self._attention() + self._mlp())

    def _block(self) -> float:
        """Beside what is kept: gradients and gathered positions in the backward pass of the feed-forward, the widest of
        a block; computed again, what the block keeps comes on top."""
        ffn_rows, width = self.model.ffn_size / self.layout.tensor, self.model.hidden_size
        grads = 2 * self.slice * width * 4 if self.r == 4 else 2 * self.stream
        there = self._attention() + self._mlp()
        down = there + self.gathered + max(self.gathering - self.gathered, 0) + self.ffn + ffn_rows * width * self.w
        swiglu = there - self._product() + 5 * self.ffn
        operands = there - 2 * self.ffn - self._product() + 2 * self.ffn + 2 * ffn_rows * width * self.w
        up = operands + max(self.gathered + min(self.gathering, self.gathered), self.gathering)
        up_weights = operands + self.gathered + 2 * ffn_rows * width * 4
        widest = max(down, swiglu, up, up_weights) + grads
        return widest if self.layout.recompute is Recompute.FULL else widest - there

    def _head(self) -> float:
        """Hidden states of all positions and their gradient, the matrix as operand, its gradient and a chunk's part of
        that, and of a chunk the logits as product, in fp32 and as gradient."""
        rows = self.model.vocab_size / self.layout.tensor
        chunk = min(max(CHUNK_LOGITS // rows, MIN_CHUNK), self.positions)
        whole = 2 * self.gathered + self.normed + self.vocabulary * (2 * self.w + 4)
        narrow = self.w < 4
        return whole + chunk * rows * (4 + (2 * self.w if narrow else 4)) + 2 * chunk * self.model.hidden_size * self.w
