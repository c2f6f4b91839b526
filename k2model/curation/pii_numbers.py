"""Numbers that are someone's: cards, social security and telephone numbers in the forms that people of many countries
write.

Each is looked for by its form and confirmed by what its issuer guarantees: check digits, prefixes and lengths, reserved
ranges. What digits alone cannot decide is decided by the nearest word that tells (`told_by_words`): the same sixteen
digits are a card beside "Visa" and none beside "order". All patterns are for texts in `one_form` (`pii`).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

Span = tuple[int, int]

_BEFORE, _AFTER = 60, 24  # characters in which a word tells


class Words(NamedTuple):
    """Words of Latin script, and with those of other scripts, which plain English is not searched for."""

    latin: re.Pattern[str]
    all: re.Pattern[str]

    def last(self, text: str) -> int:
        """Where the last one in a text of lower case ends, or -1."""
        ends = [match.end() for match in (self.latin if text.isascii() else self.all).finditer(text)]
        return ends[-1] if ends else -1

    def first(self, text: str) -> int:
        """Where the first one begins, or as far away as no word is asked for."""
        match = (self.latin if text.isascii() else self.all).search(text)
        return match.start() if match else _AFTER


def words(*stems: str, other: str = "") -> Words:
    """Words in lower case that begin with a stem, in Latin script or (`other`) as they are written in any."""
    latin = rf"(?<![a-z])(?:{'|'.join(stems)})"
    return Words(re.compile(latin), re.compile(f"{latin}|{other}" if other else latin))


#: What is counted so has a number of its own: "PO# 7", "Raum Nr. 7", "dossier n° 7", "claim id: 7", value="7".
_LABEL = re.compile(r"[^\W\d_] ?(?:#|№|n[°º]|\bno?s?\.|\bnr\.|\bid:|\bcode:)\s*$|[=<>]\s?[\"']?$")


def told_by_words(text: str, start: int, end: int, yes: Words, no: Words, otherwise: bool = False) -> bool:
    """Whether the nearest word says so of the number, one before it rather than one behind; `otherwise` without any."""
    before = text[max(0, start - _BEFORE) : start].rpartition("\n\n")[2].lower()
    said = yes.last(before)
    if said >= 0 or otherwise:
        denied = no.last(before)
        if max(said, denied) >= 0:
            return said > denied
        if _LABEL.search(before):
            return False
    after = text[end : end + _AFTER].partition("\n")[0].lower()
    said_after = yes.first(after)
    if not otherwise:
        return said_after < min(_AFTER, no.first(after)) and no.last(before) < 0
    return said_after <= no.first(after)


_SIGNS = re.compile(r"[^0-9]+")
_RUN = re.compile(r"\d(?:[ ().\-/]{0,3}\d){6,}", re.ASCII)


def in_runs(
    pattern: re.Pattern[str], text: str, least: int, before: int = 2, after: int = 8, apart: bool = False
) -> list[re.Match[str]]:
    """What a pattern finds where so many digits or more stand together (`apart`: in groups), little of a text."""
    return [
        match
        for start, end, digits in _runs(text)
        if digits >= least and not (apart and end - start == digits)
        for match in pattern.finditer(text, max(0, start - before), end + after)
    ]


@lru_cache(maxsize=1)  # several kinds of numbers are looked for in one text after the other
def _runs(text: str) -> list[tuple[int, int, int]]:
    """[start, end) of seven digits or more that stand together and are no decimal fraction, and how many they are."""
    runs = []
    for run in _RUN.finditer(text):
        written = run[0]
        digits = len(written) if written.isdigit() else len(_SIGNS.sub("", written))
        if digits + 1 != len(written) or "." not in written:
            runs.append((*run.span(), digits))
    return runs


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
    for match in in_runs(_GROUPED, text, 12):
        digits = re.sub(r"\D", "", match[0])
        if not _ISSUERS.fullmatch(digits) or len(set(digits)) < 2 or not _luhn(digits):
            continue
        written = len(digits) < len(match[0]) or _EXPIRY.match(text, match.end()) is not None
        if told_by_words(text, *match.span(), _CARD_WORDS, RECORD_WORDS, written):
            yield match.span()


def _luhn(digits: str) -> bool:
    doubled = [int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


_SSN = re.compile(
    r"(?<![\w.+'-])(?!000|666|9)\d{3}(?:([ -])(?!00)\d\d\1|(?!00)\d\d)(?!0000)\d{4}(?![\w-]|[.,]\d| ?[+*/=<>^])",
    re.ASCII,
)
_SSN_WORDS = words(
    r"ssns?\b", "ss ?#", "social security", "social-security", r"soc\.? sec", r"tin\b", "taxpayer", "tax id",
    "seguro social",
)  # fmt: skip
_NO_SSN_WORDS = words(
    *_RECORDS, r"files?\b", "code", "aktenzeichen", "phone", r"tel\b", "zip", "fax", "amount", "total", "score", "range"
)


def social_security_numbers(text: str) -> Iterator[Span]:
    """Of the United States: areas, groups and serials that are given out. Without dashes a word must say what it is."""
    for match in in_runs(_SSN, text, 9):
        if told_by_words(text, *match.span(), _SSN_WORDS, _NO_SSN_WORDS, match[1] == "-"):
            yield match.span()


#: Country code : length of the national number without trunk prefix : its first digits. Of what is dialled at home or
#: by mobile, after ITU-T E.164 and the national plans as libphonenumber's metadata (9.0.43) gathers them.
_PLANS = (
    "1:10:2-9 7:10:34789 20:8-10:12345689 27:5-9:12345678 30:10:269 31:9-11:1-9 32:8-9:1-9 33:9:12345679 34:9:46789 "
    "36:8-9:1-9 39:6-12:0345 40:6-9:237 41:9:2-9 43:7-13:1234567 44:9-10:1257 45:8:2-9 46:7-9:1-9 47:8:2-9 48:7-9:1-9 "
    "49:6-12:1-9 51:8-9:1456789 52:10:2-9 53:6-10:2-8 54:10-11:12369 55:10-11:1-9 56:9:2-9 57:8-10:3469 58:10:2456 "
    "60:8-10:13456789 61:9:123478 62:7-12:2-9 63:6-10:2-9 64:8-10:234679 65:8:3689 66:8-9:1-9 81:9-10:1-9 "
    "82:5-10:1234567 84:9-10:12356789 86:7-11:1-9 90:10:23458 91:10:1-9 92:9-10:2-9 93:9:234567 94:9:1-9 "
    "95:6-10:12456789 98:6-10:1-9 211:9:19 212:9:5678 213:8-9:12345679 216:8:2345789 218:9:2-9 220:7-9:2-9 221:9:379 "
    "222:8:234 223:8:2456789 224:8-9:367 225:10:02 226:8:024567 227:8:2789 228:8:279 229:10:0 230:7-8:2-8 231:7-9:2-8 "
    "232:8:236789 233:9:235 234:10:2789 235:8:236789 236:8:267 237:9:26 238:7:23459 239:7:29 240:9:235 "
    "241:7-8:01234567 242:9:02 243:7-10:12345689 244:9:29 245:7-9:49 246:7:3 247:5:23467 248:7:2469 249:9:19 "
    "250:8-9:027 251:9:12345789 252:6-9:1-9 253:8:27 254:7-9:124567 255:9:2467 256:9:2347 257:8:2367 258:8-9:28 "
    "260:9:25679 261:9:23 262:9:2679 263:9-10:235678 264:8-9:68 265:7-9:123789 266:8:256 267:7-8:234567 268:8:237 "
    "269:7:347 290:4-5:25689 291:7:178 297:7:25679 298:6:2-9 299:6:1-9 350:8:256 351:9:12369 352:4-11:2-9 "
    "353:7-10:12456789 354:7-9:3-8 355:8-9:234568 356:8:2379 357:8:29 358:5-10:12345689 359:6-9:2-9 370:8:345689 "
    "371:8:26 372:7-8:3-8 373:8:23567 374:8:1-9 375:9:1234 376:6-9:35678 377:8-9:346789 378:8-10:056 380:9:3456789 "
    "381:7-12:1236 382:8:234567 383:8-12:234 385:8-9:123459 386:8:12345678 387:8-9:3456 389:8:2347 420:9:2345679 "
    "421:6-9:2345689 423:7-9:2367 500:5:234567 501:7:2-8 502:8:2-8 503:8:2567 504:8:23789 505:8:25678 506:8:2-8 "
    "507:7-8:1-9 508:6-9:2-9 509:8:23459 590:9:56789 591:8:234567 592:7:234567 593:8-9:2345679 594:9:56789 595:7-9:2-9 "
    "596:9:56789 597:6-7:2-9 598:8:1249 599:7-8:3479 670:7-8:2347 672:6:13 673:7:234578 674:7:2456789 675:7-8:2-9 "
    "676:5-7:2-9 677:5-7:1-9 678:5-7:2345789 679:7:2-9 680:7:2-9 681:6:789 682:5:234578 683:4-7:45678 685:5-10:2-8 "
    "686:5-8:2-8 687:6:2345789 688:5-7:279 689:8:48 690:4-7:2347 691:7:389 692:7:23456 800:8:0-9 808:8:1-9 "
    "850:8-10:12345678 852:8:2-9 853:8:268 855:8-9:1-9 856:8-10:2-8 870:9-12:23567 878:12:1 880:6-10:1-9 "
    "881:9-10:01236789 882:7-12:123459 883:8-12:12345 886:8-11:2-9 888:11:0-9 960:7:34679 961:7-8:1-9 962:8-9:2-8 "
    "963:8-9:123459 964:8-10:1234567 965:8:24569 966:9:15 967:7-9:1234567 968:8:1279 970:8-9:24589 971:8-9:2345679 "
    "972:8-12:12345789 973:8:1367 974:8:34567 975:7-8:12345678 976:8-10:1256789 977:8-10:1-9 979:9:1359 992:9:0-9 "
    "993:8:1234567 994:9:12345679 995:9:3457 996:9:2356789 998:9:2356789 "
)
_COUNTRIES = {
    code: re.compile(rf"[{first}]\d{{{','.join(str(int(end) - 1) for end in length.split('-'))}}}")
    for code, length, first in (row.split(":") for row in _PLANS.split())
}
_NORTH_AMERICA = re.compile(r"(?!\d{3}55501)[2-9]\d\d[2-9]\d{6}")  # 555-01xx is reserved for fiction

_EXTENSION = re.compile(r",? ?(?:\(?ext(?:ension|\.)?|x|#|durchwahl|poste|доб\.?)[ .:]?\d{1,6}\b\)?", re.IGNORECASE)
_INTERNATIONAL = re.compile(
    r"(?<![\w.+*/-])(?:\+|00)\(?[1-9]\d{0,3}\)?(?:[ ./-]{0,3}\(\d{1,5}\))?(?:[ ./-]?\d){4,14}(?![A-Za-wyz_])", re.ASCII
)
_BY_ITS_FORM = re.compile(
    r"(?<![\w.+/-])(?:1[ .-])?(?:\([2-9]\d\d\) ?-?[2-9]\d\d[ .-]?\d{4}|[2-9]\d\d([.-])[2-9]\d\d\1\d{4})"
    r"(?![\w-]|[.,/]\d)"
    r"|(?<![\w.+/-])\(0\d{1,5}\)[ /-]?\d{2,8}(?:[ -]\d{2,6}){0,3}(?![\w-]|[.,/]\d)"
    r"|(?<![\w.+/-])\([1-9]\d\) ?9?\d{4}[ -]\d{4}(?![\w-]|[.,/]\d)",  # Brazil
    re.ASCII,
)
_ANY = re.compile(
    r"(?<![\w.+,/'-])(?<!\w\()(?:[178][ -])?\(?\d{1,5}\)?(?:[ ./-]{0,3}\d){5,12}(?![\w]|[.,/-]\d)", re.ASCII
)
_CUES_ELSEWHERE = (
    "τηλ|телефон|тел\\.|тел:|моб\\.|звон|факс|电话|電話|手机|手機|携帯|传真|热线|전화|휴대폰|هاتف|جوال|موبايل|موبایل|اتصل"
    "|تلفن|واتساب|טלפון|फ़ोन|फोन|मोबाइल|โทร"
)
_CUE = words(
    r"(?:tele|smart|cell)?phone\b", r"phones\b", r"ph[.:]", r"tel[s.:/)]", r"tel\b",
    r"call(?:s|ed|ing)?\b(?! number)",
    r"mob(?:ile|\.|:)", r"cell(?:[:.]| is| no| number| ?#)", "fax", "whats ?app", "contact",
    r"ring (?:me|us|him|her)\b",
    r"dial(?:l?ing|s)?\b", r"text (?:me|us|him|her|at|to)\b", r"sms\b", "hotline", "helpline",
    r"reach(?:ed)? (?:me|us|him|her|at)\b", "telefon", "telefoon", r"fon\b", r"t[ée]l[ée]?(?:phone|[.:]|\b)",
    "teléfono", "móvil",
    "celular", "cellulare", "portable", "handy", "ruf(?:en|nummer)", "anruf", "appel(?:ez|er)", r"llam(?:e|ar|a)\b",
    "ligue", "chiama", "puhelin", r"tlf\b", r"tfn\b", r"gsm\b", r"bel(?:len)?\b", r"telp\b", "điện thoại", r"[tmpf]:",
    other=_CUES_ELSEWHERE,
)  # fmt: skip
_CUE_BEHIND = re.compile(r" ?[(\[,] ?(?:mobile|cell|tel|fax|phone|office|home|work|handy|mobil)\b", re.IGNORECASE)
_NOT_CALLED = words(
    *_RECORDS, "section", "figure", "amount", "total", "balance", "scores?", "years?", "pages?", "lines?", "rows?",
    "rooms?", "columns?", "dated?", "coordinates", "latitude", "longitude", "version", "ratio", "range", "between",
    "sum", "size", r"pi\b", other=_RECORDS_ELSEWHERE,
)  # fmt: skip
_AND = re.compile(r"\s*(?:or|and|oder|und|ou|et|y|o|и|أو|[,/;|])\s*")
_AMOUNT_BEFORE = re.compile(
    r"(?:\b(?:by|of|grew|grows?|rose|rises?|gain(?:ed|s)?|increased?|changed?|delta|plus|score[ds]?|net|total|about|around"
    r"|approximately|roughly|nearly|almost|profits?|balance|offset|added|adds)|[=<>~≈±×*$€£¥])\s*$",
    re.IGNORECASE,
)
_AMOUNT_BEHIND = re.compile(
    r"\s?(?:[%‰°€$£¥₹]|(?:people|persons|users|inhabitants|residents|voters|votes|views|clicks|subscribers|followers|customers"
    r"|jobs|pixels|tons?|tonnes|dollars|euros|pounds|yen|rupees|usd|eur|gbp|percent|points|bytes|bits|tokens|[kmgt]i?b|[kcm]?m|km²"
    r"|kg|hz|seconds|minutes|hours|years|times|entries|ohms?|million|billion|units|shares|copies|rows|items|words|steps|nm|[mµn]s)\b)",
    re.IGNORECASE,
)
_NO_NUMBER = re.compile(
    r"(?:1[5-9]|20|21)\d\d[-/. ]?(?:0?[1-9]|1[0-2])[-/. ]?(?:0?[1-9]|[12]\d|3[01])(?: ?\d{1,2}){0,3}"  # a date
    r"|(?:0?[1-9]|[12]\d|3[01])[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:1[5-9]|20|21)\d\d(?: ?\d{1,2}){0,3}"
    r"|(?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12]\d|3[01])[-/. ](?:1[5-9]|20|21)\d\d(?: ?\d{1,2}){0,3}"
    r"|(?:1\d|20|21)\d\d ?- ?(?:1\d|20|21)\d\d"  # years
    r"|\d+0{5}|(?:\d{1,3}\.){3}\d{1,3}|\d+\.\d+|.*\b(\d)\1*(?: \1+)+"
)


def telephone_numbers(text: str) -> Iterator[Span]:
    """Where they stand, with their extensions; the first of two that overlap is the one."""
    for match in in_runs(_INTERNATIONAL, text, 8) if "+" in text or "00" in text else ():
        end = _planned_end(match)
        if end and not _is_amount(text, match.start(), end):
            yield match.start(), _extended(text, end)
    for match in in_runs(_BY_ITS_FORM, text, 7, apart=True):
        digits = re.sub(r"\D", "", match[0]).removeprefix("1")
        fits = len(digits) != 10 or "(0" in match[0] or _NORTH_AMERICA.fullmatch(digits)
        if (
            fits
            and not _AMOUNT_BEHIND.match(text, match.end())
            and told_by_words(text, *match.span(), _CUE, _NOT_CALLED, True)
        ):
            yield match.start(), _extended(text, match.end())
    last = -1
    for match in in_runs(_ANY, text, 7):
        digits = _SIGNS.sub("", match[0])
        between = text[last : match.start()] if 0 <= match.start() - last < 9 else ""
        if not 7 <= len(digits) <= 13 or _NO_NUMBER.fullmatch(match[0]) or digits[-7:-2] == "55501":
            continue
        if _called(text, match) or (between and _AND.fullmatch(between)):
            last = _extended(text, match.end())
            yield match.start(), last


def _planned_end(match: re.Match[str]) -> int:
    """Where the number ends: the longest groups that the country's plan allows, or 0."""
    text, start = match.string, match.start()
    ends = [
        place
        for place in range(match.end(), start + 7, -1)
        if text[place - 1].isdigit() and not text[place : place + 1].isdigit()
    ]
    for end in ends:
        written = text[start:end]
        digits = re.sub(r"\D", "", written.replace("(0)", "")).removeprefix("" if written[0] == "+" else "00")
        apart = not written[1:].isdigit()
        if written[0] == "0" and not apart and _CUE.last(text[max(0, start - 28) : start].lower()) < 0:
            continue
        code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in _COUNTRIES), None)
        if code is None:
            return 0
        national = digits[len(code) :]
        if apart and national.startswith("0") and code != "39":
            national = national[1:] if not _COUNTRIES[code].fullmatch(national) else national
        if re.fullmatch(r"\+\d{5,}\.\d+", written):
            continue  # a decimal
        plan = _NORTH_AMERICA if code == "1" else _COUNTRIES[code]
        if (
            len(digits) >= 8
            and not re.match(r"[.,]\d", text[end : end + 2])
            and plan.fullmatch(national)
            and (apart or not re.search(r"0{5}$|^(\d)\1+$", national))
        ):
            return end
    return 0


def _is_amount(text: str, start: int, end: int) -> bool:
    alone = text[start + 1 : end].isdigit()
    return bool(_AMOUNT_BEHIND.match(text, end) or (alone and _AMOUNT_BEFORE.search(text[max(0, start - 24) : start])))


def _called(text: str, match: re.Match[str]) -> bool:
    """Whether a word right before, with no digit between, or in parentheses behind says that it is called."""
    start, end = match.span()
    before = text[max(0, start - 32) : start].lower()
    cue = _CUE.last(before)
    if cue < 0 or re.search(r"\d|\n\n", before[cue:]) or _NOT_CALLED.last(before) > cue:
        return _CUE_BEHIND.match(text, end) is not None
    return not _AMOUNT_BEHIND.match(text, end)


def _extended(text: str, end: int) -> int:
    extension = _EXTENSION.match(text, end)
    return extension.end() if extension else end


#: A digit of another script than Latin: few texts have one, and what it is of shows in `one_form`.
OTHER_DIGITS = r"[\x{660}-\x{669}\x{6f0}-\x{6f9}\x{966}-\x{96f}\x{9e6}-\x{9ef}\x{e50}-\x{e59}\x{ff10}-\x{ff19}]"
_APART = r" ()\-/\x{a0}\x{2009}\x{202f}\x{2010}-\x{2014}"
_NEXT = rf"(?:\.[{_APART}]|[{_APART}])[.{_APART}]{{0,2}}[0-9](?:[.{_APART}]{{0,3}}[0-9])"
#: Seven digits that may be of one number: no decimal fraction, and no literal in quotes unless it is long.
DIGITS_HINT = (
    r"(?:^|[^0-9.']|[^0-9]\.)[0-9]{7}|(?:^|[^0-9.]|[^0-9]\.)(?:[0-9]{12}|[0-9]{1,5}\.[0-9]{2,4}\.[0-9]{2}"
    rf"|[0-9]{{1,2}}{_NEXT}{{4}}|[0-9]{{3,6}}{_NEXT}{{3}})|{OTHER_DIGITS}"
)
