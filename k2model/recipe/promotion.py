"""What a fine-tuned model must show to be the champion of its line, beside the recipe's own gates on scores.

Without a gate of its own in `Recipe.gates` no phase is promoted; these are asked as well. How much of a capability may
be lost, and with which confidence more is ruled out, is `continual`'s: lifecycles and turns are held to the same.
Nothing of it decides what a lifecycle makes, so it bears no identity.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromotionConfig:
    """Gates of a promotion; that the files are those of their manifests is always asked. Turns of a line are held to
    that, parity and provenance; capability and safety are in their verdict.

    capability: it loses no more than `continual.allowed_loss` of anything that the champion can, on the same items.
    safety: the same on the safety tests, where the recipe has the phase tested. contamination: gates on scores are
    passed on the items alone that no phase was trained on. parity: nats by which the log-probability of a token may
    differ between checkpoint and export in Hugging Face's own code, at the end of the longest context; 0 = it is not
    asked. provenance: each phase, export and evaluation was made by code as a commit has it. approve: a person says yes
    (`k2 promote`).
    """

    capability: bool = True
    safety: bool = True
    contamination: bool = True
    parity: float = 0.001
    provenance: bool = True
    approve: bool = False

    def __bool__(self) -> bool:
        return self != PromotionConfig()


def promotion_problem(config: PromotionConfig) -> str:
    """What is wrong with it, "" where nothing is."""
    if not 0.0 <= config.parity < 1.0:
        return (
            f"promotion.parity={config.parity:g}: expected nats of at least 0 (0 = not asked) and less than 1, such as "
            "0.001: in fp32 checkpoint and export differ by rounding alone"
        )
    return ""
