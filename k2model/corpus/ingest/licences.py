"""The licence of source code, by the tag in its header or the wording of its licence file.

Only common licences are told apart. A wording that is not among them is `unknown`, never what the source declares: a
licence file that nobody has read grants nothing.
"""

import re

UNKNOWN_LICENCE = "unknown"
LICENCE_BYTES = 40_000  # of a licence file that are read
HEADER_CHARACTERS = 4_000  # in which a licence tag is looked for
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+()\- ]*[A-Za-z0-9.+)])")
#: Licence -> words that its text has, tried in order; the first whose words all occur is it.
LICENCE_WORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license", "2.0")),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1-only", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("BSL-1.0", ("boost software license",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
    ("MIT", ("permission is hereby granted, free of charge",)),
    ("Unlicense", ("this is free and unencumbered software",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
)


def licence_of_header(text: str) -> str:
    """The SPDX expression that a source file's header names; "" when it names none."""
    found = _SPDX.search(text, 0, HEADER_CHARACTERS)
    return found.group(1) if found else ""


def licence_of_text(text: str) -> str:
    """The SPDX id of a licence by its wording; "" when it is none of `LICENCE_WORDINGS`."""
    if header := licence_of_header(text):
        return header
    words = " ".join(text.lower().split())
    return next((name for name, wording in LICENCE_WORDINGS if all(part in words for part in wording)), "")
