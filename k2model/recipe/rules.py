"""The rules by which a recipe of another size follows from `k2_70b`, each with its source; `derive` applies them.

A rule's words are for people who ask `k2 plan RECIPE --why`. Its numbers are the constants below. Where a source says
`ours`, the rule is a choice of this project that no paper bears.
"""

from dataclasses import dataclass

OURS = "ours"

LAYER_WIDTH = 128  # of the model's width, for each layer
VOCABULARY_POWER = 0.833
BYTES_PER_ENTRY = 4_000  # of text, for each entry of the vocabulary that is learned from it
BATCH_POWER = 0.383
WARMUP_STEPS = 2_000
POSITIONS = 32_768  # of a worker at a time, where sequences are shorter
FOR_STATES, FOR_ALL = 0.5, 0.8  # of a GPU's memory


@dataclass(frozen=True)
class Rule:
    name: str
    words: str
    source: str


SHAPE = Rule(
    "Width, depth, heads",
    "The width is the multiple of 1,024 (8 key/value heads x head size 128: whole groups of heads for up to 8 "
    "tensor-parallel workers, and multiples of what tensor cores take) whose model comes nearest the name. One layer "
    "for every 128 of width, as in Llama 3 8B (4,096 x 32; k2_70b has 102). Key/value heads, head size and ffn = 3.5 x "
    "width as in k2_70b and in Llama 3 8B",
    "Llama 3, arXiv:2407.21783, table 3; loss depends little on depth against width: Kaplan et al., arXiv:2001.08361",
)
VOCABULARY = Rule(
    "Vocabulary",
    f"Parameters of the embeddings go with the power {VOCABULARY_POWER} of all others, to a multiple of 1,024. K2's "
    "250,000 entries would be half of a model of 1B. The tokenizer is learned from 4,000 bytes of text an entry, as "
    "the laptop's",
    "Tao et al., Scaling Laws with Vocabulary, arXiv:2407.13623 (fit over equal compute: 0.4165 / 0.5)",
)
INITIAL = Rule(
    "Initial weights",
    "Standard deviation with 1/sqrt(width), to three digits",
    "the comment of k2v2_train's pre-training script, which relates 0.01 to 1/sqrt(8192)",
)
TOKENS = Rule(
    "Tokens",
    "As many tokens a parameter as k2_70b in pre-training and in each mid stage. Supervised fine-tuning goes over its "
    "whole list three times at any size: there is not less to be taught, and whole copies of sources cannot be scaled",
    f"{OURS}; the ratio is K2-V2's (report, arXiv:2512.06201: 12.25T tokens for 70B)",
)
BATCH = Rule(
    "Batch",
    f"k2_70b's tokens per step x (tokens of the phase / k2_70b's)^{BATCH_POWER}, to the nearest multiple that all "
    "workers share evenly; mid_1 to mid_4 take equal steps, as K2's do",
    "Bergsma et al., Power Lines, arXiv:2505.13738: the best batch goes with tokens^0.383, whatever the parameters",
)
RATE = Rule(
    "Learning rate",
    "k2_70b's x (its width / width), in every phase. Step Law (arXiv:2503.04715: N^-0.713 D^0.307) would say 1.3 times "
    "as much at 8B and 1.5 times at 1B",
    "Llama 3, arXiv:2407.21783, table 3: 3e-4 at width 4,096 and 1.5e-4 at 8,192, the latter K2's own choice; Adam's "
    "rate for matrices goes with 1/width: muP, arXiv:2203.03466",
)
DECAY = Rule(
    "Weight decay",
    "The averaging timescale tau = 1 / (rate x decay x steps) of every phase is k2_70b's, to three digits. The report "
    "scales it with 1/sqrt(tokens per parameter), and these are k2_70b's",
    "K2-V2 report, arXiv:2512.06201 (tau 0.1066 in pre-training); the law: Power Lines, arXiv:2505.13738",
)
WARMUP = Rule(
    "Warm-up",
    "2,000 steps of pre-training, since the 50 of K2's script are marked there as a test; later phases keep their "
    "share of steps",
    f"Llama 2, arXiv:2307.09288, section 2.2; later phases: {OURS}",
)
LAYOUT = Rule(
    "Layout",
    "No tensor parallelism. The lowest ZeRO stage, from k2_70b's on, whose weights, gradients and optimizer take at "
    "most half of a GPU of 80 GB. As many sequences at a time as make 32,768 positions a worker (k2_70b's mid_1: 4 x "
    "8,192), at least one; context parallelism as in k2_70b, doubled until the whole estimate is at most 80% of the "
    "memory",
    f"{OURS}; bytes a parameter: 4 weights, 4 gradients, 12 optimizer (ZeRO, arXiv:1910.02054, section 3.1), "
    "activations by k2model/recipe/memory.py. An estimate: nothing of it was measured on a GPU",
)
CHECKPOINTS = Rule(
    "Checkpoints",
    "As many in a phase as k2_70b saves and keeps, to a round number (1, 2 or 5 x a power of ten) of at least 10 steps",
    f"{OURS}; k2_70b's are those of k2v2_train's scripts",
)
MIXTURES = Rule(
    "Mixtures",
    "Pre-training takes each source's share of k2_70b's list as a weight, so that none is repeated more often than "
    "there. mid_1 and sft keep theirs. K2's weights of mid_2 to mid_4 are not public; here these go on with mid_1's",
    f"shares: k2v2_train's data bank (tokens x epochs); mid_2 to mid_4: {OURS}",
)
CLUSTER = Rule("Nodes", "As many, of the GPUs, as were asked for; a node alone needs no InfiniBand", OURS)

#: In the order in which they are told.
RULES = (SHAPE, VOCABULARY, INITIAL, TOKENS, BATCH, RATE, DECAY, WARMUP, LAYOUT, CHECKPOINTS, MIXTURES, CLUSTER)
