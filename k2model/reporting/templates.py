"""The templates of pages that people open: one way to fill one, and what all of them do with text from elsewhere.

A page is one file without addresses. The template escapes all text, so that what a document, a model or a recipe says
is shown and never taken for HTML; only drawings and scripts of ours are put in as they are (`markupsafe.Markup`). In
all of it control characters and marks of direction are made visible. A name that a template uses and is not given is an
error, not an empty place.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k2model.errors import visible_page

HERE = Path(__file__).parent  # the style sheet and sections that pages of other rooms include lie here
SHOWN = 500  # characters of a text


def filled(path: Path, filters: Mapping[str, Any], shown: Mapping[str, Any]) -> str:
    """The page of the template in the file at `path`, which may include its neighbours and those of this room.

    filters: of what is `shown`, by their names in it. Raises jinja2.TemplateError for a file that is no template.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([path.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return visible_page(environment.get_template(path.name).render(shown))


def shortened(text: str) -> str:
    """Its beginning."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
