"""E-mail and network addresses, secrets and bank accounts, told from handles, file names, versions, code and examples.

All patterns are for texts in `one_form` (`k2model.curation.pii`).
"""

import ipaddress
import re
from collections.abc import Iterator

from k2model.curation.pii_numbers import OTHER_DIGITS, Span, in_runs, told_by_words, words

# Scripts that are written with spaces: in others nothing shows where the word before an address ends.
_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ԯԱ-֏א-תء-ۓऀ-ॿ"
_LOCAL_BACKWARDS = re.compile(
    rf"[{_LETTERS}0-9_%+-](?:[{_LETTERS}0-9_.%+'-]{{0,62}}[{_LETTERS}0-9_])?(?![{_LETTERS}0-9_.+@-])"
)
_DOMAIN = re.compile(
    rf"(?:[{_LETTERS}0-9一-鿿ぁ-ヿ가-힣-]{{1,63}}\.)+"
    rf"(?:xn--[a-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}(?![A-Za-z0-9_])|[Ѐ-ԯ؀-ۿऀ-ॿ]{{2,20}}"
    "|中国|中國|香港|台灣|台湾|公司|网络|한국|みんな)"
)
_TLDS = (
    "com|org|net|edu|gov|mil|int|io|dev|ai|co|me|info|biz|app|eu|uk|de|fr|es|it|nl|be|ch|at|se|no|fi|dk|pl|pt|cz|ru|ua|in"
    "|cn|jp|kr|br|mx|ar|cl|ca|us|au|nz|za|ae|sa|eg|ie|gr|tr|il|ir|hk|tw|sg"
)
_SPELT = re.compile(
    # name (at) host (dot) org: brackets say what it is; bare words in capitals, or with a word that says so before them
    r"(?<![\w.@/+-])[A-Za-z0-9][\w.+-]{0,40} ?(?P<open>[\[({<]) ?(?:at|@) ?[\])}>] ?[A-Za-z0-9-]{1,63}"
    r"(?:(?: ?[\[({<] ?(?:dot|\.) ?[\])}>] ?| dot |\.)[A-Za-z0-9-]{1,63})*"
    r"(?: ?[\[({<] ?(?:dot|\.) ?[\])}>] ?| dot |\.)[A-Za-z]{2,24}\b"
    rf"|(?<![\w.@/+-])[A-Za-z0-9][\w.+-]{{0,40}}(?: dot \w{{1,30}})? (?P<word>at) [A-Za-z0-9-]{{1,63}}"
    rf"(?: dot [A-Za-z0-9-]{{1,63}}){{0,2}} dot (?:{_TLDS})\b",
    re.ASCII | re.IGNORECASE,
)
_SPELT_SIGN = re.compile(r"[\[({<] ?(?:[Aa][Tt]|@) ?[\])}>]")
_SPELT_WORDS = re.compile(r" at [\w-]+ dot \w"), re.compile(r" AT [\w-]+ DOT \w")
_MAIL_WORD = re.compile(r"(?:e-?mail|mail|contact|write|reach|address|message|ping)\w*\b[^\n]{0,24}$", re.IGNORECASE)
_RESERVED_DOMAINS = re.compile(r"(^|\.)(example\.(com|org|net|edu)|example|test|invalid|localhost|local)$")
_FILE_ENDINGS = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|avif|heic|bmp|ico|tiff?|psd|pdf|mp[34]|wav|ttf|woff|m?jsx?|tsx?|s?css|less|py|html|xml"
    r"|json|ya?ml|toml|txt|csv|md|rst|lock|t?gz|zip|service|socket|target|timer|mount|device|slice)$"
)
_IN_ADDRESS = re.compile(r"\b(?:acct:|[a-z][a-z0-9+.-]*://[^\s/@]*)$", re.IGNORECASE)
_USED_AS_CODE = re.compile(r"[(\[]|:[~/.]")  # a product of matrices; host:path of scp and git


def email_addresses(text: str) -> Iterator[Span]:
    """Of people, in any script and spelt out; no handles of social networks, files, units of systemd, examples."""
    last, sign = 0, text.find("@")
    while sign >= 0:
        local = _LOCAL_BACKWARDS.match(text[max(last, sign - 65) : sign][::-1])
        domain = _DOMAIN.match(text, sign + 1) if local else None
        if local and domain and _is_persons(text, sign - local.end(), domain):
            yield sign - local.end(), domain.end()
        last, sign = sign, text.find("@", sign + 1)
    signs = [match.start() for match in _SPELT_SIGN.finditer(text)]
    signs += [match.start() for words in _SPELT_WORDS for match in words.finditer(text)]
    for match in (match for sign in signs for match in _SPELT.finditer(text, max(0, sign - 80), sign + 200)):
        told = match["word"] in (None, "AT") or _MAIL_WORD.search(text[max(0, match.start() - 48) : match.start()])
        if told and not re.search(r"\bexample\b", match[0], re.IGNORECASE):
            yield match.span()


def _is_persons(text: str, start: int, domain: re.Match[str]) -> bool:
    name, end = domain[0].lower(), domain.end()
    if _RESERVED_DOMAINS.search(name) or _FILE_ENDINGS.search(name) or re.match(r"\d+\.\d", name):
        return False
    if _USED_AS_CODE.match(text, end) or (text.startswith("git@", start) and text.startswith(":", end)):
        return False
    return not _IN_ADDRESS.search(text[max(0, start - 80) : start])


#: By how an issuer begins its keys. Each pattern begins with a literal or a digit, which makes looking for it quick.
_KEYS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"AKIA[0-9A-Z]{16}\b",  # Amazon access keys
        r"ASIA[0-9A-Z]{16}\b",
        r"gh[pousr]_[A-Za-z0-9]{36,}",
        r"github_pat_[A-Za-z0-9_]{22,}",
        r"gl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|oas)-[A-Za-z0-9_.-]{20,}",  # GitLab
        r"sk-[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,}",  # Stripe
        r"whsec_[A-Za-z0-9]{20,}",
        r"xox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack
        r"xapp-\d-[A-Za-z0-9-]{20,}",
        r"hooks\.slack\.com/services/(T\w{6,}/B\w{6,}/\w{16,})",
        r"discord\.com/api/webhooks/(\d{16,20}/[\w-]{40,})",
        r"AIza[A-Za-z0-9_-]{35}",  # Google
        r"GOCSPX-[A-Za-z0-9_-]{20,}",
        r"ya29\.[A-Za-z0-9_-]{20,}",
        r"hf_[A-Za-z0-9]{30,}",
        r"npm_[A-Za-z0-9]{36}",
        r"pypi-AgEI[A-Za-z0-9_-]{40,}",
        r"SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",  # SendGrid
        r"key-[0-9a-f]{32}\b",  # Mailgun
        r"do[opr]_v1_[a-f0-9]{64}",  # DigitalOcean
        r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",  # Shopify
        r"dapi[a-f0-9]{32}\b",  # Databricks
        r"\d{8,10}:AA[A-Za-z0-9_-]{33}\b",  # a bot of Telegram
        r"eyJ(?<!\weyJ)[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # JSON web token
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s:,.()]|-(?!-)){64,}"
        r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    )
)
#: A value that a name of a password or key is given: in quotes, or to the end of a line or of a pair.
_ASSIGNED = re.compile(
    r"[=:][=>]?\s*(?:[\"'](?P<quoted>[^\s\"'\\]{8,200})[\"']"
    r"|(?P<bare>[^\s\"'`;,&<>(){}\[\]$=:][^\s\"'`;,&<>(){}\[\]$]{7,199})(?=[;&,]?(?:\s|$)|[;&]))"
)
_NAMED = re.compile(
    r"(?P<password>pass(?:word|wd|phrase)?|pwd)[\"']?\s*$|(?:secret|token|api[_.-]?key|(?:secret|access|private|auth|account"
    r"|encryption)[_.-]?key|credentials?)[\"']?\s*$",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"://[^\s:/@\"'<>]{0,64}:(?P<password>[^\s/@\"'<>]{3,128})@(?=[\w\[])", re.IGNORECASE)
_IN_HEADER = re.compile(r"[ABab](?i:earer|uthorization: ?(?:basic|token)) +(?P<sent>[A-Za-z0-9._~+/-]{20,}={0,2})")
_NO_SECRET = re.compile(
    r"(?i)example|placeholder|change.?me|your|dummy|sample|redacted|insert|replace|^x{3,}|\*{3}|\.{3}|^<|\$\{|%\(|\{\{|^\$"
    r"|^(?:pass(?:word|wd)?|pwd|secret|token|none|null|true|false|undefined|user(?:name)?|foo|bar|test|admin|root|key)\d*$"
)


def secrets(text: str) -> Iterator[Span]:
    """Keys by their issuers' forms; passwords in addresses; values given to a name that says password, token or key."""
    for key in _KEYS:
        for match in key.finditer(text):
            start, end = match.span(match.lastindex or 0)
            apart = not re.match(r"\w", text[match.start() - 1 : match.start()])
            if apart and "EXAMPLE" not in match[0].upper() and len(set(match[0])) > 6:
                yield start, end
    for match in _IN_URL.finditer(text):
        if not _NO_SECRET.search(match["password"]):
            yield match.span("password")
    for match in _IN_HEADER.finditer(text):
        if _is_random(match["sent"]):
            yield match.span("sent")
    for match in _ASSIGNED.finditer(text):
        group = "quoted" if match["quoted"] else "bare"
        name = _NAMED.search(text[max(0, match.start() - 32) : match.start()])
        if name and _is_random(match[group], like_names=bool(name["password"] and match["quoted"])):
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
        r"[A-Za-z_]+\d{0,3}(?:[._:/-]+[A-Za-z_]+\d{0,3}|/\d{1,4})*|[\d.:T+-]+[Za-z]?|(?:\w+:)?//.*|[~./]+\w.*/.*", value
    ):
        return value.isalnum() and digits > 1 and value != value.lower()
    return True


SECRET_HINT = (
    r"AKIA|ASIA|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|sk-|[sr]k_live_|[sr]k_test_|whsec_|xox[abeprs]-|xapp-"
    r"|hooks\.slack\.com|discord\.com/api/webhooks|AIza|GOCSPX-|ya29\.|hf_|npm_|pypi-AgEI|SG\.|key-[0-9a-f]"
    r"|do[opr]_v1_|shp[a-z]{2}_|dapi[a-f0-9]|[0-9]:AA|eyJ|PRIVATE KEY|://[^\s/@]*:[^\s/@]+@|(?i:bearer |authorization:)"
    r"|(?i:pass|word|wd|phrase|secret|token|key|credentials?)[\"']?\s*(?::?=>?|:)\s*[\"']?[^\s\"'`]{8}"
)
EMAIL_HINT = (
    r"[^\x00-\x20@\x{ff20}][@\x{ff20}][^\x00-\x20@\x{ff20}]+[.\x{ff0e}][^\x00-\x20]"
    r"|(?i:[\[({<\x{ff08}] ?(?:at|@) ?[\])}>\x{ff09}]| at [^ ]+ dot [a-z])"
)


_NETWORK = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\w|\+[A-Za-z]|-(?!\d+\.)\w)"
    r"|[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])",
    re.ASCII,
)
_GOES_ON = re.compile(r"[\w.@]$|[A-Za-z_]-$", re.ASCII)  # before it: a name, a longer number
NETWORK_HINT = (
    rf"[0-9]\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]|\b[23][0-9A-Fa-f]{{3}}:[0-9A-Fa-f:]*:[0-9A-Fa-f]|{OTHER_DIGITS}"
)
_ADDRESS_WORDS = words(
    r"ips?\b", r"ipv[46]", "address", "host", "server", "client", "visitor", "proxy", "ping", "connect", "login",
    r"log(?:ged)? in", "dns", "resolv", "router", "gateway", "peer", "subnet", "network", "firewall", "banned",
    "blocked", "attack", "request", "traffic", "endpoint", "ssh", "upstream", "crawl", r"timed out",
    "visit", "https?://", "adresse", "servidor",
    other="адрес|сервер|地址|服务器|アドレス|サーバ|주소|서버|عنوان|خادم",
)  # fmt: skip
_VERSION_WORDS = words(
    "version", r"ver\b", r"v\.?(?![A-Za-z])", r"rev\b", "revision", "release", r"build(?:s|er)?\b", "upgrad",
    "updat", "downgrad",
    "firmware", "driver", "chrom", "firefox", r"edge\b", r"opera\b", "safari", "webview", "patch", "hotfix",
    "kernel", "bios", "sdk", "runtime", "assembly", "package", "plugin", "installer", "library", "section", "clause",
    r"§", "chapter", "paragraph", r"item\b", "figure", r"table\b", "appendix", "module", "edition", "stable",
    "beta", "sql server", r"bump", "changelog", r"tags?\b",
    r"oid\b", "schema", "bundle", r"apps?\b",
    other="верси|сборк|обновл|раздел|版本|升级|更新|バージョン|ビルド|버전|إصدار|نسخة|(?:[=<>~!]=|[~^])\\s?$",
)  # fmt: skip


#: A name right before, as in "Zoom 5.15.57.2" or nginx/1.25.3.12, has this version. Words before a place do not.
_NAMED_BEFORE = re.compile(
    r"(?<![A-Za-z])(?!(?:from|at|by|via|to|on|in|is|was|and|or|with|against|for|of|the|seen|used|whois|traceroute)\b)"
    r"[A-Za-z][\w+#-]*[ /]$",
    re.ASCII | re.IGNORECASE,
)


def network_addresses(text: str) -> Iterator[Span]:
    """Public IPv4 and IPv6 addresses that are no versions: such words, or a form that versions have, say so."""
    for match in _NETWORK.finditer(text):
        if _GOES_ON.search(text[max(0, match.start() - 2) : match.start()]):
            continue
        told = told_by_words(text, *match.span(), _ADDRESS_WORDS, _VERSION_WORDS, not _like_version(match))
        if told and _is_global(match[0]) and not re.match(r"\d\.\d\.\d\.", match[0]):  # a version; a resolver
            yield match.span()


def _like_version(match: re.Match[str]) -> bool:
    """Without a word that tells: behind a name, or with small numbers or a zero in second place; short in IPv6."""
    if ":" in match[0]:
        return len([part for part in match[0].split(":") if part]) < 3
    parts = match[0].split(".")
    small = sum(len(part) == 1 for part in parts)
    before = match.string[max(0, match.start() - 24) : match.start()]
    return parts[1] == "0" or small > 2 or _NAMED_BEFORE.search(before) is not None


def _is_global(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


#: Length by country, of the registry of ISO 13616 (release 99).
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in re.findall(
        r"(\d+):(\S+)",
        "15:NO 16:BE 18:DK,FI,FO,GL,NL,SD,FK 19:MK,SI 20:AT,BA,EE,KZ,LT,LU,XK,MN 21:CH,HR,LI,LV "
        "22:BG,BH,CR,DE,GB,GE,IE,ME,RS,VA 23:AE,GI,IL,IQ,OM,SO,TL 24:AD,CZ,ES,MD,PK,RO,SA,SE,SK,TN,VG "
        "25:LY,PT,ST 26:IS,TR 27:BI,DJ,FR,GR,IT,MC,MR,SM 28:AL,AZ,BY,CY,DO,GT,HU,LB,NI,PL,SV,HN "
        "29:BR,EG,PS,QA,UA 30:JO,KW,MU,YE 31:MT,SC 32:LC 33:RU",
    )
    for country in countries.split(",")
}
_ACCOUNT = re.compile(r"\d\d(?<=(?<![\w-])[A-Za-z][A-Za-z]\d\d)(?=((?:[ -]?[A-Za-z0-9]){11,29}))", re.ASCII)


def bank_accounts(text: str) -> Iterator[Span]:
    """IBANs: a country's length, and the remainder 1 modulo 97 of ISO 13616."""
    for match in in_runs(_ACCOUNT, text, 7, before=24, after=36):
        start = match.start() - 2
        written = text[start : match.end()] + match[1]
        places = [place for place, char in enumerate(written) if char.isalnum()]
        length = _IBAN_LENGTHS.get(written[:2].upper(), 0)
        if not 0 < length <= len(places):
            continue
        end = start + places[length - 1] + 1
        code = "".join(written[place] for place in places[:length])
        number = int("".join(str(int(char, 36)) for char in code[4:] + code[:4]))
        if number % 97 == 1 and not text[end : end + 1].isalnum():
            yield start, end
