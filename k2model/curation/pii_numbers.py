"""Numbers that are someone's: network addresses, bank accounts, cards, social security and telephone numbers.

Each is looked for by its form and confirmed by what its issuer guarantees: check digits, prefixes and lengths, reserved
ranges. What digits alone cannot decide is decided by the nearest word that tells (`told_by_words`): the same sixteen
digits are a card beside "Visa" and none beside "order". All patterns are for texts in `one_form` (`pii`).
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

Span = tuple[int, int]

_BEFORE, _AFTER = 60, 24  # characters in which a word tells


def words(*stems: str, other: str = "") -> re.Pattern[str]:
    """Words that begin with one of the stems, in Latin script or (`other`) as they are written in any."""
    latin = rf"(?<![A-Za-z])(?:{'|'.join(stems)})"
    return re.compile(f"{latin}|{other}" if other else latin, re.IGNORECASE)


def told_by_words(text: str, start: int, end: int, yes: re.Pattern[str], no: re.Pattern[str]) -> bool | None:
    """What the nearest word says of the number, one before it rather than one behind; None when there is no word."""
    before = text[max(0, start - _BEFORE) : start].rpartition("\n\n")[2]
    last = {answer: max((m.end() for m in words.finditer(before)), default=-1) for answer, words in _both(yes, no)}
    if max(last.values()) >= 0:
        return last[True] > last[False]
    after = text[end : end + _AFTER].partition("\n")[0]
    first = {answer: m.start() if (m := words.search(after)) else _AFTER for answer, words in _both(yes, no)}
    return None if min(first.values()) == _AFTER else first[True] < first[False]


_RUN = re.compile(r"\d(?:[ ().\-/]{0,3}\d){6,}", re.ASCII)


def in_runs(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """What a pattern finds where seven or more digits stand together, which is little of a text."""
    for start, end in _runs(text):
        yield from pattern.finditer(text, max(0, start - 2), end + 8)


@lru_cache(maxsize=1)  # several kinds of numbers are looked for in one text after the other
def _runs(text: str) -> list[Span]:
    return [run.span() for run in _RUN.finditer(text)]


def _both(yes: re.Pattern[str], no: re.Pattern[str]) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    return (True, yes), (False, no)


#: What numbers count that belong to goods, papers and records.
_RECORDS = (
    r"orders?\b(?!\s+by)", "invoice", "track", "parcel", "shipment", "consignment", "waybill", "serial", r"s/n",
    "isbn",
    "issn", "imei", "imsi", "iccid", r"ref\b", "reference", "ticket", "booking", "reservation", r"parts?\b",
    "product",
    "article", "model", "sku", "barcode", "ean", "upc", "gtin", "asin", "guid", "uuid", "hash", "checksum", "commit",
    "timestamp", "epoch", r"ids?\b", "identifier", "record", "catalog", "docket", r"case\b", "patent", "doi", "pmid",
    "arxiv", "batch", r"lot\b", "seed", "offset", "population", "transaction", "receipt", "warranty", "policy",
    "claim", "confirm", "member", r"forms?\b", "licen[cs]e", "bestell", "auftrag", "rechnung", "sendung", "artikel",
    "commande", "facture", "suivi", "pedido", "factura", "ordine",
)  # fmt: skip
_RECORDS_ELSEWHERE = "заказ|накладн|артикул|счёт-фактур|订单|单号|运单|編號|注文|伝票|주문|송장|طلب|فاتورة|شحنة|रसीद"

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_NETWORK = re.compile(
    rf"(?<![\w.@])(?<![A-Za-z_]-)(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.[\w]|-[A-Za-z]|\+[A-Za-z])"
    r"|(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])",
    re.ASCII,
)
_ADDRESS_WORDS = words(
    r"ips?\b", r"ipv[46]", "address", "host", "server", "client", "visitor", "proxy", "ping", "connect", "login",
    r"log(?:ged)? in", "dns", "resolv", "router", "gateway", "peer", "subnet", "network", "firewall", "banned",
    "blocked", "attack", "request", "traffic", "node", "endpoint", "ssh", "upstream", "crawl", r"timed out",
    "visit", "https?://", "adresse", "servidor",
    other="адрес|сервер|地址|服务器|アドレス|サーバ|주소|서버|عنوان|خادم",
)  # fmt: skip
_VERSION_WORDS = words(
    "version", r"ver\b", r"v\.?(?![A-Za-z])", r"rev\b", "revision", "release", r"build(?:s|er)?\b", "upgrad",
    "updat", "downgrad",
    "firmware", "driver", "chrom", "firefox", r"edge\b", r"opera\b", "safari", "webview", "patch", "hotfix",
    "kernel", "bios", "sdk", "runtime", "assembly", "package", "plugin", "installer", "library", "section", "clause",
    r"§", "chapter", "paragraph", r"item\b", "figure", r"table\b", "appendix", "module", "edition", "stable",
    "beta", "sql server", r"bump", "changelog",
    r"oid\b", "schema", "bundle", r"apps?\b",
    other="верси|сборк|обновл|раздел|版本|升级|更新|バージョン|ビルド|버전|إصدار|نسخة|(?:[=<>~!]=|[~^])\\s?$",
)  # fmt: skip


#: A name right before, as in "Zoom 5.15.57.2", has this version. Words that lead to a place are no names.
_NAMED_BEFORE = re.compile(
    r"(?<![A-Za-z])(?!(?:from|at|by|via|to|on|in|is|was|and|or|with|against|for|of|the|with|seen|used|whois|traceroute)\b)"
    r"[A-Za-z][\w+#-]* $",
    re.ASCII | re.IGNORECASE,
)


def network_addresses(text: str) -> Iterator[Span]:
    """Public IPv4 and IPv6 addresses that are no versions: such words, or a form that versions have, say so."""
    for match in _NETWORK.finditer(text):
        told = told_by_words(text, *match.span(), _ADDRESS_WORDS, _VERSION_WORDS)
        parts = match[0].split(".")
        small = [len(part) == 1 for part in parts]
        doubtful = (
            parts[1:2] == ["0"]
            or sum(small) > 2
            or _NAMED_BEFORE.search(text[max(0, match.start() - 24) : match.start()])
        )
        like_version = len(parts) == 4 and (all(small[:3]) or (not told and doubtful))
        sparse = ":" in match[0] and not told and len([part for part in match[0].split(":") if part]) < 3
        if told is not False and not like_version and not sparse and _is_global(match[0]):
            yield match.span()


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
_ACCOUNT = re.compile(r"(?<![\w-])(?=([A-Z]{2}\d\d(?:[ -]?[A-Z0-9]){11,29}))", re.ASCII | re.IGNORECASE)


def bank_accounts(text: str) -> Iterator[Span]:
    """IBANs: a country's length, and the remainder 1 modulo 97 of ISO 13616."""
    for match in _ACCOUNT.finditer(text):
        places = [place for place, char in enumerate(match[1]) if char.isalnum()]
        length = _IBAN_LENGTHS.get(match[1][:2].upper(), 0)
        if not 0 < length <= len(places):
            continue
        end = match.start() + places[length - 1] + 1
        code = "".join(match[1][place] for place in places[:length])
        number = int("".join(str(int(char, 36)) for char in code[4:] + code[:4]))
        if number % 97 == 1 and not text[end : end + 1].isalnum():
            yield match.start(), end


_GROUPED = re.compile(
    r"(?<![\w.,+/-])(?<!\d{4} )\d{4}(?:([ -]|\.)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|([ -])\d{6}\2\d{4,5}|\d{8,15})"
    r"(?![\w-]|[.,/]\d| \d{4}(?!\d))", re.ASCII
)  # fmt: skip
#: Prefixes and lengths of issuers, ISO/IEC 7812: Visa, Mastercard, American Express, Discover, Diners Club, JCB,
#: UnionPay, Maestro, Mir, RuPay, Troy.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?|(?:30[0-5]\d|3095|36\d\d|3[89]\d\d)\d{10}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|(?:62|81)\d{14}(?:\d{3})?|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}|220[0-4]\d{12}"
    r"|(?:508[5-9]|60\d\d|82\d\d|9792)\d{12}"
)
_CARD_WORDS = words(
    "card", "visa", "master ?card", r"amex\b", "american express", "discover", "diners", "maestro", "unionpay",
    r"cc\b",
    "credit", "debit", r"pan\b", "cvv", "cvc", "expir", r"exp\b", "karte", "kreditkarte", "carte", "tarjeta", "carta",
    "cartão", other="карт|卡号|信用卡|银行卡|カード|카드|بطاقة|कार्ड",
)  # fmt: skip
RECORD_WORDS = words(*_RECORDS, other=_RECORDS_ELSEWHERE)
_EXPIRY = re.compile(r"[ |,;:/\t]+(?:0?[1-9]|1[0-2])[ |/-](?:20)?[2-4]\d\b", re.ASCII)


def payment_cards(text: str) -> Iterator[Span]:
    """Card numbers by issuer and Luhn's checksum (ISO/IEC 7812-1). Digits in one run need a word or an expiry date."""
    for match in in_runs(_GROUPED, text):
        digits = re.sub(r"\D", "", match[0])
        if not _ISSUERS.fullmatch(digits) or len(set(digits)) < 2 or not _luhn(digits):
            continue
        told = told_by_words(text, *match.span(), _CARD_WORDS, RECORD_WORDS)
        written = len(digits) < len(match[0]) or _EXPIRY.match(text, match.end())
        if told or (told is None and written):
            yield match.span()


def _luhn(digits: str) -> bool:
    doubled = [int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


_SSN = re.compile(
    r"(?<![\w.+-])(?!000|666|9)\d{3}(?:([ -])(?!00)\d\d\1|(?!00)\d\d)(?!0000)\d{4}(?![\w-]|[.,]\d| ?[+*/=<>^])",
    re.ASCII,
)
_SSN_WORDS = words(
    r"ssns?\b", "social security", "social-security", r"soc\.? sec", r"tin\b", "taxpayer", "tax id", "seguro social"
)
_NO_SSN_WORDS = words(*_RECORDS, "phone", r"tel\b", "zip", "fax", "amount", "total", "score", "range")


def social_security_numbers(text: str) -> Iterator[Span]:
    """Of the United States: areas, groups and serials that are given out. Without dashes a word must say what it is."""
    for match in in_runs(_SSN, text):
        told = told_by_words(text, *match.span(), _SSN_WORDS, _NO_SSN_WORDS)
        if told or (told is None and match[1] == "-"):
            yield match.span()


OTHER_DIGITS = r"[\x{660}-\x{669}\x{6f0}-\x{6f9}\x{966}-\x{96f}\x{9e6}-\x{9ef}\x{e50}-\x{e59}\x{ff10}-\x{ff19}]"
#: Seven digits that may be of one number, or a digit of another script than Latin: few texts have either.
DIGITS_HINT = rf"[0-9](?:[ ().\-/\x{{a0}}\x{{2009}}\x{{202f}}\x{{2010}}-\x{{2014}}]{{0,3}}[0-9]){{6}}|{OTHER_DIGITS}"
NETWORK_HINT = (
    rf"[0-9]\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]|\b[23][0-9A-Fa-f]{{3}}:[0-9A-Fa-f:]*:[0-9A-Fa-f]|{OTHER_DIGITS}"
)
ACCOUNT_HINT = r"[A-Za-z]{2}[0-9]{2}[ \x{a0}-]?[A-Za-z0-9]{4}[ \x{a0}-]?[A-Za-z0-9]{4}"
