"""What text from elsewhere does on a terminal: nothing."""

from dataclasses import replace

import pytest
from rich.table import Table
from rich.text import Text

from k2model.cli.terminal import console, say, table
from k2model.continual.notify import slack_text
from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import GateConfig
from k2model.reporting.summary import summary_table
from k2model.reporting.terminal import heading, safe_console

TITLE, CLIPBOARD, UPWARDS = "\x1b]0;owned\x07", "\x1b]52;c;aGk=\x07", "\x1b[2A\x1b[2K"
HOSTILE = (
    f"[red]a[/] {TITLE}{CLIPBOARD}{UPWARDS}\x9b31m "
    "\u202eb\u2066 \u200bc\u2028d \U000e0041 \ud800 :smile: [link=http://e]x"
)
FORBIDDEN = {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\U000e0041", "\ud800", "😄"}
ROW = ScoreRow("sft", "loss/x", 0.5, 10, 0.4, 0.6, "nats/token")


def read(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    said = told.out + told.err
    assert said and not FORBIDDEN & {*said} and "\n" in said
    return said


@pytest.mark.parametrize(
    "shown",
    [HOSTILE, Text(HOSTILE), Text(HOSTILE, "red"), heading(HOSTILE, HOSTILE), Table(HOSTILE),
     Table("a", title=HOSTILE, width=300),
     table((HOSTILE, "b"), [(HOSTILE, Text(HOSTILE))])],
    ids=["str", "text", "styled", "heading", "column", "title", "table"],
)  # fmt: skip
def test_no_text_commands_the_terminal_or_is_markup(shown: object, capsys: pytest.CaptureFixture[str]) -> None:
    safe_console(1000).print(shown)
    said = read(capsys)
    assert "[red]a[/] ␛]0;owned" in said and "<U+202E>b" in said and ":smile:" in said


def test_a_line_that_is_said_commands_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE, err=True)
    assert "[red]a[/] ␛]0;owned" in read(capsys)


def test_names_in_the_summary_of_a_run_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"loss/[red]{UPWARDS}"
    rows = [replace(ROW, score=name, phase="[bold]p")]
    console().print(summary_table(rows, gates=[GateConfig("[bold]p", name, 0.1)]))
    said = read(capsys)
    assert "[bold]p" in said and "loss/[red]␛[2A␛[2K" in said and "✓ 0.50" in said


def test_styles_of_ours_still_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    safe_console(80).print(heading("name", "rest"))
    assert capsys.readouterr().out == "\x1b[1mname\x1b[0m  rest\n"


def test_slack_takes_no_markup() -> None:
    assert slack_text("<!channel> <http://e|x> a & b") == "&lt;!channel&gt; &lt;http://e|x&gt; a &amp; b"
