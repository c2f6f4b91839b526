"""E-mail addresses and secrets: strings of letters that are someone's, told from handles, file names, code and examples.

All patterns are for texts in `one_form` (`k2model.curation.pii`).
"""

import re
from collections.abc import Iterator

from k2model.curation.pii_numbers import Span

# Scripts that are written with spaces: in others nothing shows where the word before an address ends.
_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ԯԱ-֏א-תء-ۓऀ-ॿ"
_EMAIL = re.compile(
    rf"(?<![{_LETTERS}0-9_.+@/-])[{_LETTERS}0-9_](?:[{_LETTERS}0-9_.%+'-]{{0,62}}[{_LETTERS}0-9_%+-])?@"
    rf"(?:[{_LETTERS}0-9一-鿿ぁ-ヿ가-힣-]{{1,63}}\.)+"
    rf"(?:xn--[a-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9_])|[Ѐ-ԯ؀-ۿऀ-ॿ]{{2,20}}|中国|中國|香港|台灣|台湾|公司|网络|한국|みんな)"
)
_TLDS = (
    "com|org|net|edu|gov|mil|int|io|dev|ai|co|me|info|biz|app|eu|uk|de|fr|es|it|nl|be|ch|at|se|no|fi|dk|pl|pt|cz|ru|ua|in"
    "|cn|jp|kr|br|mx|ar|cl|ca|us|au|nz|za|ae|sa|eg|ie|gr|tr|il|ir|hk|tw|sg"
)
_SPELT = re.compile(
    # name (at) host (dot) org: brackets say what it is; bare words in capitals, or with a word that says so before them
    r"(?<![\w.@/+-])[A-Za-z0-9][\w.+-]{0,40} ?(?P<open>[\[({<]) ?(?:at|@) ?[\])}>] ?[A-Za-z0-9-]{1,63}"
    r"(?:(?: ?[\[({<] ?(?:dot|\.) ?[\])}>] ?| dot |\.)[A-Za-z0-9-]{1,63})*(?: ?[\[({<] ?(?:dot|\.) ?[\])}>] ?| dot |\.)[A-Za-z]{2,24}\b"
    rf"|(?<![\w.@/+-])[A-Za-z0-9][\w.+-]{{0,40}}(?: dot \w{{1,30}})? (?P<word>at) [A-Za-z0-9-]{{1,63}}(?: dot [A-Za-z0-9-]{{1,63}}){{0,2}} dot (?:{_TLDS})\b",
    re.ASCII | re.IGNORECASE,
)
_MAIL_WORD = re.compile(r"(?:e-?mail|mail|contact|write|reach|address|message|ping)\w*\b[^\n]{0,24}$", re.IGNORECASE)
_RESERVED_DOMAINS = re.compile(r"(^|\.)(example\.(com|org|net|edu)|example|test|invalid|localhost|local)$")
_FILE_ENDINGS = frozenset(
    "png jpg jpeg gif svg webp avif heic bmp ico tif tiff psd pdf mp3 mp4 wav ttf woff js jsx ts tsx mjs css scss less py"
    " html htm xml json yaml yml toml txt csv md rst lock tgz gz zip service socket target timer mount device slice".split()
)
_IN_ADDRESS = re.compile(r"\b(?:acct:|[a-z][a-z0-9+.-]*://[^\s/@]*)$", re.IGNORECASE)
_USED_AS_CODE = re.compile(r"[(\[]|:[~/.]")  # a product of matrices; host:path of scp and git


def email_addresses(text: str) -> Iterator[Span]:
    """Of people, in any script and spelt out; no handles of social networks, files, units of systemd, examples."""
    for match in _EMAIL.finditer(text):
        domain = match[0].lower().rpartition("@")[2]
        if _RESERVED_DOMAINS.search(domain) or domain.rpartition(".")[2] in _FILE_ENDINGS:
            continue
        if (
            re.match(r"\d+\.\d", domain)
            or match[0].startswith("git@")
            and text.startswith(":", match.end())
            or _USED_AS_CODE.match(text, match.end())
        ):
            continue
        if not _IN_ADDRESS.search(text[max(0, match.start() - 80) : match.start()]):
            yield match.span()
    for match in _SPELT.finditer(text):
        bare = match["word"]
        told = bare is None or bare == "AT" or _MAIL_WORD.search(text[max(0, match.start() - 48) : match.start()])
        if told and not re.search(r"\bexample\b", match[0], re.IGNORECASE):
            yield match.span()


_KEYS = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # Amazon access key
    r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bgl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|oas)-[A-Za-z0-9_.-]{20,}",  # GitLab
    r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic
    r"\b(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{20,}",  # Stripe
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{20,}",  # Slack
    r"(?<=hooks\.slack\.com/services/)T\w{6,}/B\w{6,}/\w{16,}",
    r"(?<=discord\.com/api/webhooks/)\d{16,20}/[\w-]{40,}",
    r"\bAIza[A-Za-z0-9_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{20,}|\bya29\.[A-Za-z0-9_-]{20,}",  # Google
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\bnpm_[A-Za-z0-9]{36}|\bpypi-AgEI[A-Za-z0-9_-]{40,}",
    r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}|\bkey-[0-9a-f]{32}\b",  # SendGrid, Mailgun
    r"\bdo[opr]_v1_[a-f0-9]{64}|\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|\bdapi[a-f0-9]{32}\b",  # DigitalOcean, Shopify, Databricks
    r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b",  # Telegram bot
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # JSON web token
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,.()-]{64,}?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
)
_KEY = re.compile("|".join(_KEYS))
_NAMES = (
    r"(?:[A-Za-z0-9]+[_.-])*(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_.-]?key|secret[_.-]?(?:access[_.-]?)?key|access[_.-]?key"
    r"|private[_.-]?key|auth[_.-]?key|account[_.-]?key|client[_.-]?secret|encryption[_.-]?key|credentials?)"
)
#: A value that stands where a password or key does: `NAME=value` to the end of a line or of a pair, or in quotes.
_ASSIGNED = re.compile(
    rf"(?i:(?<![A-Za-z0-9]){_NAMES})[\"']?\s*(?:=|:|=>|:=)\s*(?:[\"'](?P<quoted>[^\s\"'\\]{{8,200}})[\"']"
    r"|(?P<bare>[^\s\"'`;,&<>(){}\[\]$]{8,200})(?=[;&,]?(?:\s|$)|[;&]))"
)
_IN_URL = re.compile(
    r"\b[a-z][a-z0-9+]{1,20}://[^\s:/@\"'<>]{0,64}:(?P<password>[^\s/@\"'<>]{3,128})@(?=[\w\[])", re.IGNORECASE
)
_IN_HEADER = re.compile(r"(?i:\b(?:bearer|authorization: ?(?:basic|token))) +(?P<sent>[A-Za-z0-9._~+/-]{20,}={0,2})")
_PASSWORD = re.compile(r"pass|pwd", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"(?i)example|placeholder|change.?me|your|dummy|sample|redacted|insert|replace|^x{3,}|\*{3}|\.{3}|^<|\$\{|%\(|\{\{|^\$"
    r"|^(?:pass(?:word|wd)?|pwd|secret|token|none|null|true|false|undefined|user(?:name)?|foo|bar|test|admin|root|key)\d*$"
)


def secrets(text: str) -> Iterator[Span]:
    """Keys by their issuers' forms; passwords in addresses; values given to a name that says password, token or key."""
    for match in _KEY.finditer(text):
        if "EXAMPLE" not in match[0].upper() and len(set(match[0])) > 6:
            yield match.span()
    for match in _IN_URL.finditer(text):
        if not _NO_SECRET.search(match["password"]):
            yield match.span("password")
    for match in _IN_HEADER.finditer(text):
        if _is_random(match["sent"]):
            yield match.span("sent")
    for match in _ASSIGNED.finditer(text):
        group = "quoted" if match["quoted"] else "bare"
        named_password = group == "quoted" and _PASSWORD.search(text, match.start(), match.start(group))
        if _is_random(match[group], like_names=bool(named_password)):
            yield match.span(group)


def _is_random(value: str, like_names: bool = False) -> bool:
    """Letters and digits that are no path, date or, unless passwords may be `like_names`, the name of something."""
    if _NO_SECRET.search(value) or len(set(value)) < 6:
        return False
    letters, digits = sum(char.isalpha() for char in value), sum(char.isdigit() for char in value)
    if not letters or not digits or like_names:
        return bool(letters and digits)
    # parts.of_a.name2, /paths/to/v1, 2024-01-15T10:30, https://
    if re.fullmatch(
        r"[A-Za-z_]+\d{0,3}(?:[._:/-]+[A-Za-z_]+\d{0,3})*|[\d.:T+-]+[Za-z]?|(?:\w+:)?//.*|[~./]+\w.*/.*", value
    ):
        return value.isalnum() and digits > 1 and value != value.lower()
    return True


SECRET_HINT = (
    r"AKIA|ASIA|gh[pousr]_|github_pat_|\bgl[a-z]{2,5}-|\bsk-|[sr]k_live_|[sr]k_test_|whsec_|xox[abeprs]-|xapp-|hooks\.slack\.com"
    r"|discord\.com/api/webhooks|AIza|GOCSPX-|ya29\.|\bhf_|npm_|pypi-AgEI|SG\.|\bkey-[0-9a-f]|do[opr]_v1_|shp[a-z]{2}_|dapi[a-f0-9]"
    r"|\d:AA|eyJ|PRIVATE KEY|://[^\s/@]*:[^\s/@]+@|(?i:bearer|basic|token) +[a-z0-9._~+/-]{20}"
    r"|(?i:pass|word|wd|phrase|secret|token|key|credentials?)[\"']?\s*(?::?=>?|:)\s*[\"']?[^\s\"'`]{8}"
)
EMAIL_HINT = (
    r"[\p{L}\p{N}_%+-]@[\p{L}\p{N}-]+\.[\p{L}x]|(?i:[\[({<] ?(?:at|@) ?[\])}>]|\bat [\w-]+(?: dot [\w-]+)* dot [a-z])"
)
