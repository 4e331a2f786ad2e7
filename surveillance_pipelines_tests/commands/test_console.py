"""What is printed of inputs that may hold anything."""

import pytest

from surveillance_pipelines.commands.console import mark, price_cell, show_error, table
from surveillance_pipelines.contracts.errors import OperationFailedError


@pytest.mark.parametrize("body", ['[{"a": "[/b]"}]', "[red]no colour[/red]", "[/]", "plain"])
def test_table_shows_brackets_of_a_cell_as_they_are(capsys, body) -> None:
    table("", ("body",), [(body,)])
    assert body in capsys.readouterr().out


def test_table_replaces_what_a_terminal_would_obey(capsys) -> None:
    table("", ("body",), [("\x1b[2Jgone\x07",)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "[2Jgone" in printed


def test_table_shows_a_verdict_without_markup(capsys) -> None:
    table("", ("part", ""), [("queue", mark("ok"))])
    assert "[green]" not in capsys.readouterr().out


def test_error_is_one_line_whatever_its_length_and_its_line_breaks(capsys) -> None:
    show_error(
        OperationFailedError("connection failed\n\tat host\x1b[2J " + "x" * 300, remedy="start\nit " + "y" * 300)
    )
    error, remedy = capsys.readouterr().err.splitlines()
    assert error.startswith("error: connection failed at host")
    assert error.endswith("x" * 300)
    assert "\x1b" not in error
    assert remedy == "what to do: start it " + "y" * 300


@pytest.mark.parametrize(
    ("price", "shown"),
    [(1631.25, "1,631.25"), (150.0, "150.00"), (0.00123, "0.00123"), (12345.6789, "12,345.6789"), (None, "–")],
)
def test_price_cell_keeps_the_price_as_given(price: float | None, shown: str) -> None:
    assert price_cell(price) == shown
