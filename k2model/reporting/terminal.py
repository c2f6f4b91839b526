"""The terminal: where text from elsewhere is shown, and neither markup nor a command.

Names, reasons and samples come from documents, models, servers and people. Rich would read `[red]` in them as a style
and hand `ESC ]` on to the terminal, which may then change its title, its clipboard or what stands above; so on this
console no text is markup (a style is a `Text`'s), and control characters are shown as pictures.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from k2model.errors import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text


def safe_console(width: int | None = None) -> "Console":
    """A console of rich's on standard output; width: in columns, by default the terminal's."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """What is rendered is `visible`, whatever it was made of; rich's own commands of the cursor are kept."""

        def render_str(self, text: str, **how: Any) -> "Text":
            return super().render_str(visible(text), **how)  # before its width is measured

        def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> "Iterable[Segment]":
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    return SafeConsole(width=width, markup=False, emoji=False)


def heading(name: str, rest: str = "") -> "Text":
    """A name in bold, and what is said of it."""
    from rich.text import Text

    return Text.assemble((visible(name), "bold"), "  " if rest else "", visible(rest))
