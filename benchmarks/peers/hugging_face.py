"""Hugging Face Trainer on LlamaForCausalLM with its own defaults: SDPA attention, fused AdamW, its collator,
which pads each worker's batch to its longest document."""

from typing import Any

from benchmarks.peers.job import join
from benchmarks.peers.workload import (
    MODEL,
    OPTIMIZER,
    ROPE_THETA,
    SEQUENCE,
    Clock,
    Measured,
    Trial,
    documents,
    documents_per_step,
)
from k2model.recipe.schema import Precision

PAD, IGNORED = 0, -100


def run(trial: Trial) -> Measured:
    import torch
    from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    join()
    clock = Clock()

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step_ended()

    class Counting:
        """The collator, and how many targets each of its batches held."""

        def __init__(self) -> None:
            self.collate = _collator()
            self.targets: list[int] = []

        def __call__(self, features: list[dict[str, list[int]]]) -> Any:
            batch = self.collate(features)
            self.targets.append(int((batch["labels"][:, 1:] != IGNORED).sum()))
            return batch

    found = documents(trial)
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir="trainer",
        use_cpu=True,
        bf16=trial.precision is Precision.BF16,
        max_steps=trial.steps,
        per_device_train_batch_size=documents_per_step(found),
        learning_rate=OPTIMIZER.lr,
        lr_scheduler_type="constant",
        weight_decay=OPTIMIZER.weight_decay,
        adam_beta1=OPTIMIZER.beta1,
        adam_beta2=OPTIMIZER.beta2,
        max_grad_norm=OPTIMIZER.grad_clip,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_backend="gloo",
    )
    counting = Counting()
    trainer = Trainer(
        model=LlamaForCausalLM(_config()),
        args=arguments,
        train_dataset=[_features(document) for document in found],
        data_collator=counting,
        callbacks=[Steps()],
    )
    result = trainer.train()
    useful = sum(counting.targets[trial.warmup : trial.steps])
    return clock.measured(trial, useful, result.training_loss)


def _config() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=MODEL.vocab_size,
        hidden_size=MODEL.hidden_size,
        intermediate_size=MODEL.ffn_size,
        num_hidden_layers=MODEL.n_layers,
        num_attention_heads=MODEL.n_heads,
        num_key_value_heads=MODEL.n_kv_heads,
        head_dim=MODEL.head_dim,
        max_position_embeddings=SEQUENCE,
        rms_norm_eps=MODEL.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        initializer_range=MODEL.init_std,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def _features(document: Any) -> dict[str, list[int]]:
    ids = document.tokens.tolist()
    labels = [token if target else IGNORED for token, target in zip(ids, document.target.tolist(), strict=True)]
    return {"input_ids": ids, "labels": labels}


def _collator() -> Any:
    """The usual one of supervised fine-tuning: pads inputs, attention mask and labels to the longest."""
    from tokenizers import Tokenizer, models
    from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<pad>": PAD}, unk_token="<pad>"))
    return DataCollatorForSeq2Seq(PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>"))
