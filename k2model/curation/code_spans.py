"""Where code stands in a text that people wrote: fenced, marked up, or lines that only a program has.

Numbers there are literals, constants and versions, so nothing that looks like someone's number is looked for in it. A
line is judged by its form: an assignment, a call, a declaration, a literal's rest, a prompt, a pinned package. Of a
paragraph that is code for the most part, the other lines (arguments, comments, what a prompt answered) are code too,
which is how an indented block is known; an indented address or poem has no such lines.
"""

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^`\n]*\n.*?(?:^[ \t>]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)(``?)(?!`)[^`\n]+\1(?!`)")
_OPENING = re.compile(r"<(code|pre|script|style|kbd|samp)\b|\\begin\{(lstlisting|verbatim|minted)\*?\}")

_NAME = r"[A-Za-z_$][\w$]*(?:(?:\.|->|::)[\w$]+|\[[^\]\n]*\])*"
_LITERAL = r"[-+]?(?:0[xXbB])?[\da-fA-F_]*\d\w*(?:\.\w*)?\s*(?:;?$|[,)\]}#/*%&|^<>?:]|; *(?:[#/]|\w+ ?[=(])|[-+]\s)"
_VALUE = rf"""(?:[\[({{"'&*!~<]|[bfru]{{1,2}}["']|{_LITERAL}|{_NAME}\s*(?:[;,(\[.*/%|&<>?+-]|$))"""
_FORMS = (
    rf"\s*(?:export\s+|--?)?(?:[A-Za-z_][\w:<>,*&\[\]]*\s+){{0,3}}[*&]*{_NAME}\s*(?::\s*[\w\[\], |.]+)?\s*"
    rf"(?:[-+*/%|&^@:]|<<|>>|//|\*\*)?=(?![=>])\s*{_VALUE}",  # an assignment
    rf"\s*(?:return\s|await\s|yield\s|throw\s|raise\s|new\s|@)?\s*{_NAME}\(.*\)\s*[;,:{{]?\s*(?:(?:#|//).*)?$",  # call
    r".*(?:\w\(|\w ?= ?\S|\]|\+\+|->).*;\s*(?:(?:#|//).*)?$",  # a statement that ends with a semicolon
    r"\s*[\])}]+[\])};,]*\s*$|.*\S\s*\{\s*$|.*\{.*[;:].*\}\s*$",  # where a block begins or ends
    r"\s*[\w.-]+\s*:\s*[\[{]",
    r"""\s*["'][^"'\n]+["']\s*:\s*\S""",  # an entry of a mapping
    r"\s*\[*\s*-?\d[\w.]*(?:\s*,\s*-?\d[\w.]*)+\s*[,\])}]*\s*$",  # a row of an array
    r"\s*(?:def|class|struct|enum|interface|trait|impl|fn|func|function)\s+\w+\s*[(<:{]",
    r"\s*(?:from\s+[\w.]+\s+import\s"
    r"|import\s+[\w.{*]+(?:\s+as\s+\w+|\s+from\s.*)?;?\s*$|#include\b|#define\b|use\s+\w+::)",
    r"\s*(?:if|elif|for|while|with|switch|except|case)\b.*(?::|\{)\s*$|\s*(?:else|try|finally)\s*[:{]\s*$",
    r"\s*(?:return|assert|yield)\s+(?:[\"'\[({\d-]|[^\s.]+\s*;?\s*$)|\s+return\b(?!.*[.!?]\s*$)",
    r"\s*(?:SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|CREATE\s+TABLE|DELETE\s+FROM|VALUES\s*\()",
    rf"\s*{_NAME}\s*[=!<>]=\s*{_VALUE}|\s*(?:[A-Z_][A-Z0-9_]*=\S+\s+){{2,}}\S",  # a comparison; settings of a command
    r"\s*(?:curl|wget|ssh|scp|ping|nmap|dig)\s+--?\w",
    r".*\b0x[\da-fA-F]{2,16}\b",  # what machines write
    r"\s*[a-z]{1,6}\s+[$%#]?(?:[rxw]\d{1,2}|[er]?[abcds][xpi]|[ast]\d)\s*,",  # what assemblers read
    r"\s*[A-Z]{3,}\s+\S+\s+(?:TO|FROM|BY|INTO|GIVING)\s+[A-Z][A-Z\d-]+\s*\.?\s*$",  # COBOL
    r"\s*assert\s.*[=!<>]=|\s*(?:echo|cat|grep|printf)\s.*[|>]\s*\w",
    r"\s*(?:>>>|\.\.\.|In \[\d+\]:|Out\[\d+\]:)\s",  # prompts of Python
    r"\s*(?:\$|PS>|[\w.-]+@[\w.-]+:\S*[$#])\s+[a-z]",  # and of a shell
    r"\s*(?:sudo\s+)?(?:pip3?|npm|yarn|apt|apt-get|brew|conda|cargo|docker|git)\s+(?:install|add|run|pull|clone|tag)\s",
    r"\s*[A-Za-z][\w.-]*(?:\[[\w,]+\])?\s*(?:===?|[><~!]=)\s*\d[\w.*+!-]*",  # a pinned package
)
_LINE = re.compile("|".join(f"(?:{form})" for form in _FORMS))
_LONGEST_LINE = 1_000  # characters: a longer one is a paragraph, or was written by no one
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")


def code_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) in characters of what is code in a text, in order and apart."""
    made = list[tuple[int, int]]()
    for start, end in sorted(_code(text)):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return made


def _code(text: str) -> Iterator[tuple[int, int]]:
    if "`" in text or "~~~" in text:
        yield from (match.span() for match in _FENCE.finditer(text))
        yield from (match.span() for match in _INLINE.finditer(text))
    yield from _marked(text)
    for paragraph in _PARAGRAPH.finditer(text):
        lines = list(_lines(text, *paragraph.span()))
        code = [(start, end) for start, end in lines if end - start <= _LONGEST_LINE and _is_code(text[start:end])]
        yield from [paragraph.span()] if 2 * len(code) > len(lines) else code


def _marked(text: str) -> Iterator[tuple[int, int]]:
    last, unclosed = 0, set[str]()
    for match in _OPENING.finditer(text):
        close = f"</{match[1]}>" if match[1] else f"\\end{{{match[2]}"
        if match.start() < last or close in unclosed:
            continue
        end = text.find(close, match.end())
        if end < 0:
            unclosed.add(close)
        else:
            last = end + len(close)
            yield match.start(), last


def _is_code(line: str) -> bool:
    if _LINE.match(line):
        return True
    ends = line.rstrip(" ,;").endswith(("]", "}", "])", "})", "))"))  # of what began on another line
    return ends and sum(map(line.count, ")]}")) > sum(map(line.count, "([{"))


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield start, stop
        start = stop + 1
