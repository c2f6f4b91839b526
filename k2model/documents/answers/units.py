"""Units of quantities, so that 5 km are 5000 m and neither 5 m nor 5 kg.

Factors are exact by definition (SI; the international yard and pound). Temperatures and money are not converted:
20 degrees Celsius and 20 degrees Fahrenheit, or 5 dollars and 5 euros, only differ.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple


class Unit(NamedTuple):
    """How many base units it is, and the exponents of those that are not zero, by name in order."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]


_PREFIXES = {"k": 3, "M": 6, "G": 9, "T": 12, "d": -1, "c": -2, "m": -3, "u": -6, "µ": -6, "n": -9, "p": -12}
_PREFIX_WORDS = {
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
    "deci": -1,
    "centi": -2,
    "milli": -3,
    "micro": -6,
    "nano": -9,
}
#: symbol, word, factor, dimensions, prefixes that are used
_TABLE = """
m metre 1 m:1 kdcmuµn
m meter 1 m:1 kdcmuµn
g gram 1/1000 kg:1 kmuµ
t tonne 1000 kg:1 kM
s second 1 s:1 muµnp
L liter 1/1000 m:3 dcm
l litre 1/1000 m:3 dcm
N newton 1 kg:1,m:1,s:-2 k
J joule 1 kg:1,m:2,s:-2 kMGm
W watt 1 kg:1,m:2,s:-3 kMGTm
Wh watt-hour 3600 kg:1,m:2,s:-2 kMG
Pa pascal 1 kg:1,m:-1,s:-2 kM
Hz hertz 1 s:-1 kMGT
V volt 1 volt:1 kmM
A ampere 1 ampere:1 mk
mol mole 1 mol:1 mk
cal calorie 523/125 kg:1,m:2,s:-2 k
B byte 8 bit:1 kMGT
b bit 1 bit:1 kMGT
ha hectare 10000 m:2 -
in inch 127/5000 m:1 -
ft foot 381/1250 m:1 -
yd yard 1143/1250 m:1 -
mi mile 201168/125 m:1 -
oz ounce 45359237/1600000000 kg:1 -
lb pound 45359237/100000000 kg:1 -
min minute 60 s:1 -
h hour 3600 s:1 -
d day 86400 s:1 -
wk week 604800 s:1 -
mo month 1 month:1 -
yr year 12 month:1 -
° degree 1 degree:1 -
rad radian 1 radian:1 -
°C celsius 1 celsius:1 -
°F fahrenheit 1 fahrenheit:1 -
K kelvin 1 kelvin:1 -
$ dollar 1 dollar:1 -
€ euro 1 euro:1 -
£ sterling 1 sterling:1 -
¥ yen 1 yen:1 -
₹ rupee 1 rupee:1 -
"""
_OTHER_NAMES = {
    "inches": "inch", "feet": "foot", "hr": "hour", "hrs": "hour", "sec": "second", "secs": "second", "mins": "minute",
    "lbs": "pound", "USD": "dollar", "US$": "dollar", "EUR": "euro", "GBP": "sterling", "JPY": "yen", "INR": "rupee",
    "deg": "degree", "kph": "km/h", "kmh": "km/h", "mph": "mile/hour", "cc": "cm^3", "sqft": "ft^2",
    "years old": "year", "degrees celsius": "celsius", "degrees fahrenheit": "fahrenheit", "ºC": "celsius",
    "º": "degree", "amp": "ampere", "amps": "ampere",
}  # fmt: skip
_SQUARED = re.compile(r"\b(square|sq\.?|cubic|cu\.?) ([a-z]+)")
_POWER = re.compile(r"(\D+?)(?:\^?\{?(-?\d)\}?)?")


def _units() -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        symbol, word, factor, dimensions, prefixes = line.split()
        exponents = tuple((name, int(power)) for name, power in (one.split(":") for one in dimensions.split(",")))
        found[symbol] = found[word] = Unit(Fraction(factor), exponents)
        used = [one for one in prefixes if one != "-"]
        found |= {one + symbol: Unit(Fraction(factor) * Fraction(10) ** _PREFIXES[one], exponents) for one in used}
        powers = {_PREFIXES[one] for one in used}
        spoken = {name: power for name, power in _PREFIX_WORDS.items() if power in powers}
        found |= {
            name + word: Unit(Fraction(factor) * Fraction(10) ** power, exponents) for name, power in spoken.items()
        }
    return found


_UNITS = _units()


@lru_cache(maxsize=4096)
def unit_of(text: str) -> Unit | None:
    """The unit that `text` is: `km`, `square metres`, `m/s^2`, `kg*m/s^2`, `miles per hour`; None where it is none."""
    text = text.replace("\u03bc", "µ")  # the Greek letter
    text = _SQUARED.sub(lambda found: f"{found[2]}^{'2' if found[1].startswith('s') else '3'}", text.strip())
    text = re.sub(r"\s+per\s+", "/", _OTHER_NAMES.get(text, _OTHER_NAMES.get(text.casefold(), text)))
    above, *below = (part.strip() for part in text.split("/"))
    factor, exponents = Fraction(1), dict[str, int]()
    for sign, part in ((1, above), *((-1, part) for part in below)):
        for one in [part] if part in _OTHER_NAMES else re.split(r"[ *·⋅]+", part):
            if (found := _POWER.fullmatch(one)) is None or (single := _named(found[1])) is None:
                return None
            power = sign * int(found[2] or 1)
            factor *= single.factor**power
            for name, exponent in single.dimensions:
                exponents[name] = exponents.get(name, 0) + exponent * power
    return Unit(factor, tuple(sorted((name, power) for name, power in exponents.items() if power)))


def _named(name: str) -> Unit | None:
    if name in _OTHER_NAMES and "/" not in _OTHER_NAMES[name] and "^" not in _OTHER_NAMES[name]:
        name = _OTHER_NAMES[name]
    words = (name, name.casefold(), name.casefold().removesuffix("s"))
    # A symbol means what its case says, a word means the same in any: M is no m, Metres are metres.
    return next((_UNITS[one] for one in words if one in _UNITS and (one == name or len(one) > 2)), None)
