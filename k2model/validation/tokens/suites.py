"""Every rule that token shards and packed rows must obey; severities are in `k2model.recipe.expectations`.

The tables the rules look at are made in `frames`.
"""

from k2model.recipe.schema import ValidationConfig
from k2model.validation import Rules, Suite

TOKENIZER = "the shard was made with another tokenizer or by a broken encoder: delete it and tokenize again"
PACKER = "packing wrote a wrong row: delete the artifact, pack again, and look at k2model/tokens/packing.py"


def tokens_suite(config: ValidationConfig, vocab_size: int) -> Suite:
    """On `token_frame` of a part."""
    rules = Rules("tokens", config.severities)
    return rules.made(
        rules.not_null("null_id", "an id is a document's of the corpus", "id"),
        rules.between("no_tokens", "empty documents belong in quarantine", "length", low=1),
        rules.between("token_above_vocabulary", TOKENIZER, "largest", high=vocab_size - 1),
        rules.equal("bos_not_first", "a document begins with <|begin_of_text|>", "first_token", "bos"),
        rules.between("bos_inside", "two documents may have been joined", "bos_inside", high=0),
        rules.between("pad_inside", TOKENIZER, "pads", high=0),
        rules.equal("mask_of_other_length", TOKENIZER, "length", "mask_length"),
        rules.between("no_target", "a document without targets teaches nothing", "targets", low=1),
        rules.between("first_token_is_target", "nothing predicts a document's first token", "first_targets", high=0),
        rules.between("duplicates_below_one", "a document stands for itself at least", "duplicates", low=1),
    )


def token_sources_suite(config: ValidationConfig) -> Suite:
    """On `token_source_frame`: sources as a whole."""
    rules = Rules("token_sources", config.severities)
    low, high = config.min_bytes_per_token, config.max_bytes_per_token
    ratio = "learn the tokenizer from this corpus, or change validation.min_bytes_per_token and max_bytes_per_token"
    counts = "counts.json is not of these shards: delete the artifact and tokenize again"
    return rules.made(
        *(rules.equal("counts_match", counts, name, f"counted_{name}") for name in ("documents", "tokens", "targets")),
        rules.between("ids_unique", "a part was written twice, or two builders make one id", "repeated_ids", high=0),
        rules.between("bytes_per_token", ratio, "bytes_per_token", low=low, high=high),
    )


def rows_suite(config: ValidationConfig, vocab_size: int) -> Suite:
    """On `row_frame` of packed rows."""
    rules = Rules("rows", config.severities)
    return rules.made(
        rules.between("token_above_vocabulary", PACKER, "largest", high=vocab_size - 1),
        rules.between("target_on_padding", PACKER, "targets_on_padding", high=0),
        rules.between("padding_is_pad", PACKER, "padding_not_pad", high=0),
        rules.between("padding_at_end", PACKER, "padding_inside", high=0),
        rules.between("pieces_fill_row", PACKER, "unfilled", high=0),
        rules.between("first_token_is_target", PACKER, "first_targets", high=0),
        rules.between("unknown_source", PACKER, "unknown_sources", high=0),
        rules.between("no_target", "a row without targets costs a step's share and teaches nothing", "targets", low=1),
    )


def composition_suite(config: ValidationConfig, max_epochs: float) -> Suite:
    """On `composition_frame`: what a phase's rows hold of each source."""
    rules = Rules("composition", config.severities)
    share = "too few documents of the source fit: change its weight, or raise validation.share_tolerance"
    none = "no document of the source fits beside the long ones: raise its weight or the phase's steps, or drop it"
    counts = "composition.json is not of these rows: delete the artifact and pack again"
    return rules.made(
        rules.between("share_as_wanted", share, "share_error", high=config.share_tolerance),
        rules.between("source_is_trained_on", none, "tokens", low=1),
        *(rules.equal("counts_match", counts, name, f"counted_{name}") for name in ("tokens", "targets")),
        rules.between("epochs_within_limit", "lower the weight or add documents", "epochs", high=max_epochs),
    )


def phase_suite(config: ValidationConfig) -> Suite:
    """On `phase_frame`: one row, the whole of a phase."""
    rules = Rules("phase", config.severities)
    short = "add short documents to the mixture or lower mixing.min_short"
    return rules.made(
        rules.equal("rows_of_phase", "the rows are of another phase: pack again", "rows", "rows_wanted"),
        rules.between("little_padding", "pack with concatenation, or raise validation.max_padding", "padding",
                      high=config.max_padding),
        rules.between("few_split", "documents are longer than the phase's rows", "split", high=config.max_split),
        rules.between("few_truncated", "raise validation.max_truncated if meant", "truncated",
                      high=config.max_truncated),
        rules.between("enough_short_context", short, "short_lacking", high=0.0),
    )  # fmt: skip
