"""Personal data and secrets in natural text, replaced by a placeholder that names their kind.

As K2's curation (personal data removed from web text) with more kinds. Each kind has a quick expression that finds the
texts worth a look, an exact one, and a check of what it found: checksums of cards and bank accounts, public network
addresses only, no documentation examples. Names and postal addresses are not looked for: that takes a model of
language. A text that is JSON (a call of a tool, its definition, its result) stays JSON.
"""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from k2model.curation.filters import matches
from k2model.curation.normalise import rewritten


class Kind(NamedTuple):
    """`hint` (RE2 syntax) occurs in every text that holds one; `pattern` finds it and `holds` confirms it."""

    hint: str
    pattern: re.Pattern[str]
    holds: Callable[[re.Match[str]], bool]
    placeholder: str


def remove(strings: pa.LargeStringArray, names: Sequence[str]) -> tuple[pa.LargeStringArray, Counter[str]]:
    """The strings without personal data of these kinds, and how many of each were replaced."""
    found = Counter[str]()
    suspect = matches(strings, "|".join(f"(?:{KINDS[name].hint})" for name in names))  # few texts: one look tells
    suspects = strings.filter(pa.array(suspect))
    for name in names:
        suspects = rewritten(suspects, matches(suspects, KINDS[name].hint), partial(masked, kind=name, found=found))
    if found:
        strings = pc.replace_with_mask(strings, pa.array(suspect), suspects)
    return strings, found


_HALF = re.compile("[\ud800-\udfff]")  # of a character: it can be escaped and not encoded
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*')


def masked(text: str, kind: str, found: Counter[str]) -> str:
    """One text without personal data of one kind; how many were replaced is added to `found`.

    In a JSON object or array only strings and numbers change, all else stays byte for byte as it was. A string is
    masked as what it says, so escapes are no part of what is found; a number becomes a string.
    """
    wanted = KINDS[kind]

    def in_text(match: re.Match[str]) -> str:
        if not wanted.holds(match):
            return match[0]
        found[kind] += 1
        return wanted.placeholder

    def in_json(match: re.Match[str]) -> str:
        before = found[kind]
        made = masked(json.loads(match[0]) if match[0].startswith('"') else match[0], kind, found)
        if found[kind] == before:
            return match[0]
        return json.dumps(made, ensure_ascii=match[0].isascii() or _HALF.search(made) is not None)

    return _LITERAL.sub(in_json, text) if _is_json(text) else wanted.pattern.sub(in_text, text)


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_RESERVED_DOMAINS = re.compile(r"(^|\.)(example\.(com|org|net|edu)|example|test|invalid|localhost|local)$")
_FILE_ENDINGS = ("png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py")


def _is_address(match: re.Match[str]) -> bool:
    user, _, domain = match[0].lower().partition("@")
    if _RESERVED_DOMAINS.search(domain) or domain.rpartition(".")[2] in _FILE_ENDINGS:
        return False
    return not (user == "git" and match.string[match.end() : match.end() + 1] == ":")  # git@host:path


_VERSION = re.compile(r"(version|release|ver\.?|\bv|==|>=|<=|~=)\s*$", re.IGNORECASE)


def _is_public_ip(match: re.Match[str]) -> bool:
    if _VERSION.search(match.string[max(0, match.start() - 12) : match.start()]):
        return False
    if re.match(r"\d\.\d\.\d\.", match[0]):  # four small numbers are a version or a section
        return False
    try:
        return ipaddress.ip_address(match[0]).is_global
    except ValueError:
        return False


def _is_phone(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    fictitious = re.search(r"55501\d\d$", digits)  # reserved for fiction in the North American plan
    return (9 if match[0].startswith("+") else 10) <= len(digits) <= 15 and not fictitious


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's checksum (ISO/IEC 7812-1), and not one digit over and over."""
    digits = [int(c) for c in match[0] if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(match: re.Match[str]) -> bool:
    """The remainder 1 modulo 97 of ISO 13616."""
    code = match[0].replace(" ", "")
    number = "".join(str(int(c, 36)) for c in code[4:] + code[:4])
    return 15 <= len(code) <= 34 and int(number) % 97 == 1


_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_SECRET = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # Amazon access key
    r"\bgh[pousr]_[A-Za-z0-9]{36,}",  # GitHub token
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic
    r"\b[sr]k_live_[A-Za-z0-9]{20,}",  # Stripe
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"\bAIza[A-Za-z0-9_-]{35}",  # Google
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\bnpm_[A-Za-z0-9]{36}",
    r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",  # SendGrid
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # JSON web token
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s]{64,}-----END (?:[A-Z]+ )*PRIVATE KEY-----",
)
_SECRET_HINT = (
    r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|\bsk-|k_live_|xox[abprs]-|AIza|\bhf_|npm_|SG\.|eyJ|PRIVATE KEY-----"
)

KINDS: dict[str, Kind] = {
    "secret": Kind(_SECRET_HINT, re.compile("|".join(_SECRET)),
                   lambda match: "EXAMPLE" not in match[0].upper() and len(set(match[0])) > 6, "[SECRET]"),
    "email": Kind(
        r"[\w%+-]@[A-Za-z0-9-]+\.[A-Za-z]",
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9](?:[\w.%+-]{0,62}[\w%+-])?@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b", re.ASCII
        ),
        _is_address,
        "[EMAIL]",
    ),
    "ip_address": Kind(
        r"\d\.\d{1,3}\.\d{1,3}\.\d|\b[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*:[0-9A-Fa-f]",
        re.compile(
            rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\d)"
            r"|(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])",
            re.ASCII,
        ),
        _is_public_ip,
        "[IP_ADDRESS]",
    ),
    "iban": Kind(
        r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII),
        _is_iban,
        "[IBAN]",
    ),
    "credit_card": Kind(
        r"[3-6]\d{3}[ -]?(?:\d{4}[ -]?\d{4}[ -]?\d|\d{6}[ -]?\d{5})",
        re.compile(r"(?<![\w.+-])[3-6]\d{3}(?:[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}|[ -]?\d{6}[ -]?\d{5})(?![\w-]|\.\d)",
                   re.ASCII),
        _is_card,
        "[CREDIT_CARD]",
    ),
    "us_ssn": Kind(
        r"\d{3}-\d{2}-\d{4}",
        re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII),
        lambda match: True,
        "[US_SSN]",
    ),
    "phone": Kind(
        r"\+[1-9][\d .()-]{7}|\d{3}\)?[ .-]\d{3}[ .-]\d{4}",
        re.compile(
            r"(?<![\w.+)-])\+[1-9]\d{0,2}(?:[ -]?\(?\d{1,4}\)?|\.\d{2,4}){2,5}(?!\w|\.\d)"
            r"|(?<![\w.+-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w-]|\.\d)",
            re.ASCII,
        ),
        _is_phone,
        "[PHONE]",
    ),
}  # fmt: skip
