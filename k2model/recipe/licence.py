"""The licence that a recipe gives its weights, and how a model card states it.

A recipe says it itself: what may be granted follows from the data and the parties, which no default knows. An SPDX id
is wanted; a card on the Hugging Face Hub has ids of its own, lower case, and `other` with a name for all the rest.
"""

import re

_FORM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.+-]{0,62}[A-Za-z0-9+])?")
#: What the Hub takes as `license` of a card (https://huggingface.co/docs/hub/repositories-licenses).
HUB_LICENCES = (
    "apache-2.0", "mit", "openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0",
    "odc-by", "odbl", "openmdw-1.0", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl",
    "lgpl-lr", "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1",
    "llama3.2", "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
)  # fmt: skip
#: SPDX ids that the Hub spells in another way.
_ON_THE_HUB = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl", "c-uda-1.0": "c-uda"}


def licence_problem(licence: str) -> str | None:
    """What is wrong with `Recipe.licence`, with the remedy; None when nothing is."""
    if _FORM.fullmatch(licence):
        return None
    said = f"licence={licence!r} is no licence id" if licence else "licence is empty"
    return (
        f"{said}; give the weights one SPDX id that their data allow, such as apache-2.0, cc-by-4.0 or mit; or 'other' "
        "or 'unknown'"
    )


def hub_licence(licence: str) -> tuple[str, str]:
    """(`license`, `license_name`) of a card, the second "" where the Hub knows the first."""
    spelled = licence.lower()
    spelled = _ON_THE_HUB.get(spelled, spelled)
    if re.match(r"(?:a|l)?gpl-", spelled):
        spelled = re.sub(r"-only$", "", spelled)
    return (spelled, "") if spelled in HUB_LICENCES else ("other", licence.lower())
