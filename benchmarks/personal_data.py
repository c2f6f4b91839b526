"""Precision and recall of personal data, kind by kind, on the labelled set of the tests: ours beside presidio-analyzer.

    python -m benchmarks.personal_data [--errors] [--peer-python /path/to/python]

The peer is in an environment of its own; without one our figures are printed alone, and how to make it. Presidio is
asked for its default recognisers at two thresholds: all that it finds, and 0.5, where words around a number count. It
has no recogniser for secrets. The set was written by whoever wrote the rules, so it flatters them: what a part of it
gave before any rule was changed for it is in docs/data_platform.md.
"""

import argparse
import json
import subprocess
from importlib.metadata import version
from pathlib import Path

from k2model.curation import pii
from k2model.recipe.curation import PII_KINDS
from tests.curation.labelled import Score, rows, scores

PEER_PYTHON = Path(__file__).parents[1] / ".venv-presidio" / "bin" / "python"
SCRIPT = Path(__file__).parent / "peers" / "personal_data_presidio.py"
THRESHOLDS = (0.0, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", action="store_true", help="every text that ours gets wrong")
    parser.add_argument("--peer-python", default=str(PEER_PYTHON))
    asked = parser.parse_args()
    errors: list[str] = []
    ours, _ = scores(lambda text: pii.spans(text, PII_KINDS), errors)
    print(f"{len(rows())} texts, {ours['all'].labelled} spans\n{_table('ours', ours)}")
    if asked.errors:
        print("\n".join(errors))
    if not Path(asked.peer_python).exists():
        print(
            f"no {asked.peer_python}, so no peer. To have it: python3.11 -m venv .venv-presidio && "
            ".venv-presidio/bin/pip install -r benchmarks/peers/personal_data.txt, or name one by --peer-python"
        )
        return
    for threshold in THRESHOLDS:
        theirs, versions = _presidio(asked.peer_python, threshold)
        print(_table(f"presidio from {threshold}", theirs))
        for kind in (kind for kind in PII_KINDS if kind != "secret"):
            for measure in ("precision", "recall"):
                own, peer = getattr(ours[kind], measure), getattr(theirs[kind], measure)
                line = {"name": f"personal_data/{kind}/{measure}/presidio_{threshold}", "ours": round(own, 3),
                        "peer": round(peer, 3), "ratio": round(own / peer, 2) if peer else None, "unit": measure,
                        "versions": {"k2model": version("k2-lifecycle"), **versions}}  # fmt: skip
                print(json.dumps(line))


def _presidio(python: str, threshold: float) -> tuple[dict[str, Score], dict[str, str]]:
    texts = [row["text"] for row in rows()]
    given = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([python, str(SCRIPT)], input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} {SCRIPT} failed:\n{done.stderr[-3000:]}")
    versions, *found = map(json.loads, done.stdout.splitlines()[-len(texts) - 1 :])
    spans = {
        text: [(start, end, kind) for start, end, kind, score in those if score >= threshold]
        for text, those in zip(texts, found, strict=True)
    }
    return scores(lambda text: spans[text])[0], versions


def _table(name: str, those: dict[str, Score]) -> str:
    lines = [
        f"  {kind:12} precision {s.precision:6.3f}  recall {s.recall:6.3f}  found {s.found}"
        for kind, s in those.items()
    ]
    return "\n".join([f"{name}:", *lines])


if __name__ == "__main__":
    main()
