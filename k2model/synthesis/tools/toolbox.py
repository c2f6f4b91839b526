"""Tools with their definitions in MCP's form, and an executor that computes exactly.

Arguments are validated against the definition's JSON schema before a tool runs. A call that cannot be carried out
is answered, as real servers answer it, by a text that begins with `error:`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction
from statistics import mean, median
from typing import Any, NamedTuple

from k2model.documents.families.facts import fact_tables
from k2model.synthesis.conversation import ToolCall

ERROR = "error: "
#: Unit -> (what it measures, its size in the base unit).
UNITS: dict[str, tuple[str, Fraction]] = {
    "mm": ("length", Fraction(1, 1000)),
    "cm": ("length", Fraction(1, 100)),
    "m": ("length", Fraction(1)),
    "km": ("length", Fraction(1000)),
    "inch": ("length", Fraction(254, 10_000)),
    "mile": ("length", Fraction(1_609_344, 1000)),
    "g": ("mass", Fraction(1)),
    "kg": ("mass", Fraction(1000)),
    "tonne": ("mass", Fraction(1_000_000)),
    "second": ("time", Fraction(1)),
    "minute": ("time", Fraction(60)),
    "hour": ("time", Fraction(3600)),
    "day": ("time", Fraction(86_400)),
}
PRICES = {
    "apple": 35,
    "loaf": 280,
    "notebook": 195,
    "lamp": 2450,
    "pencil": 60,
    "kettle": 3190,
    "stamp": 85,
    "scarf": 1275,
}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Tool(NamedTuple):
    definition: Mapping[str, Any]
    run: Callable[..., str]

    @property
    def text(self) -> str:
        """The definition as JSON."""
        return json.dumps(self.definition, ensure_ascii=False)


def execute(call: ToolCall, offered: Sequence[str]) -> str:
    """What the tool answers. Never raises: `error: ...` says what was wrong with the call."""
    if call.name not in offered:
        return f"{ERROR}there is no tool '{call.name}'; there are {', '.join(offered)}"
    arguments = parse_arguments(call.arguments)
    if arguments is None:
        return f"{ERROR}the arguments are not a JSON object"
    if fault := schema_fault(TOOLS[call.name].definition["inputSchema"], arguments):
        return f"{ERROR}{fault}"
    try:
        return TOOLS[call.name].run(**arguments)
    except (ValueError, KeyError, ArithmeticError) as error:
        return f"{ERROR}{error.args[0] if error.args else type(error).__name__}"


def parse_arguments(text: str) -> dict[str, Any] | None:
    """The JSON object that a call's arguments are; None when they are none."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def schema_fault(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """How the arguments break the JSON schema of a tool of ours; None when they keep it."""
    from jsonschema import Draft202012Validator

    faults = sorted(Draft202012Validator(schema).iter_errors(arguments), key=str)
    return faults[0].message if faults else None


_INTEGER, _NUMBER, _TEXT = {"type": "integer"}, {"type": "number"}, {"type": "string"}
_DATE = {"type": "string", "description": "YYYY-MM-DD"}
_UNIT = {"type": "string", "enum": [*UNITS]}
_NUMBERS = {"type": "array", "items": _INTEGER, "minItems": 1}
_MEASURES: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "sum": lambda values: sum(values, Fraction(0)),
    "mean": mean,
    "median": median,
    "smallest": min,
    "largest": max,
}

#: By name, in the order of their definitions below, from which distractors are drawn.
TOOLS: dict[str, Tool] = {}


def _tool(description: str, /, **properties: Mapping[str, Any]) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Puts a function among the tools, under its own name; `properties` are the JSON schemas of its arguments."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    def add(run: Callable[..., str]) -> Callable[..., str]:
        definition = {"name": run.__name__, "description": description, "inputSchema": schema}
        TOOLS[run.__name__] = Tool(definition, run)
        return run

    return add


@_tool("Exact arithmetic on two whole numbers.", a=_INTEGER, op={"type": "string", "enum": ["+", "-", "*"]}, b=_INTEGER)
def calculate(a: int, op: str, b: int) -> str:
    return str({"+": a + b, "-": a - b, "*": a * b}[op])


@_tool("Convert a value from one unit to another.", value=_NUMBER, unit=_UNIT, to=_UNIT)
def convert_units(value: float, unit: str, to: str) -> str:
    (kind, size), (other_kind, other_size) = UNITS[unit], UNITS[to]
    if kind != other_kind:
        raise ValueError(f"{unit} measures {kind}, {to} measures {other_kind}")
    return _decimal(Fraction(str(value)) * size / other_size)


@_tool("The number of days from one date to another.", start=_DATE, end=_DATE)
def days_between(start: str, end: str) -> str:
    return str((date.fromisoformat(end) - date.fromisoformat(start)).days)


@_tool("The date a number of days after another.", day=_DATE, days=_INTEGER)
def add_days(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


@_tool("The day of the week of a date.", day=_DATE)
def weekday(day: str) -> str:
    return WEEKDAYS[date.fromisoformat(day).weekday()]


@_tool("A measure of a list of whole numbers.", numbers=_NUMBERS, measure={"type": "string", "enum": [*_MEASURES]})
def statistics(numbers: list[int], measure: str) -> str:
    return _decimal(_MEASURES[measure]([*map(Fraction, numbers)]))


@_tool(
    "The capital of a country or the symbol of a chemical element.",
    table={"type": "string", "enum": ["capital", "symbol"]},
    name=_TEXT,
)
def look_up(table: str, name: str) -> str:
    found = fact_tables()[table].get(name)
    if found is None:
        raise ValueError(f"the table of {table}s has no entry '{name}'")
    return found


@_tool("The price of an item in cents.", item=_TEXT)
def price(item: str) -> str:
    if item not in PRICES:
        raise ValueError(f"'{item}' is not sold here")
    return str(PRICES[item])


@_tool(
    "How often a character occurs in a text.",
    text=_TEXT,
    character={"type": "string", "minLength": 1, "maxLength": 1},
)
def count_character(text: str, character: str) -> str:
    return str(text.count(character))


def _decimal(value: Fraction) -> str:
    """Exact where the decimals end within six places, else rounded to six."""
    text = f"{float(round(value, 6)):.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
