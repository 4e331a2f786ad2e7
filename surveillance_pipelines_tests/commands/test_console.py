"""What is printed of inputs that may hold anything."""

from types import SimpleNamespace

import pytest

from surveillance_pipelines.commands import console
from surveillance_pipelines.commands.console import mark, price_cell, progress, show_error, table
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


def test_progress_of_a_long_operation_in_a_log_is_a_few_lines(capsys, monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now))
    with progress("steps", total=4) as bar:
        for second in range(400):
            now = float(second)
            bar.set(1, note=f"running part {second // 100}")
        bar.set(4, note="")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  steps: 1 of 4  10.0 s  running part 0"
    assert lines[3] == "  steps: 1 of 4  130.0 s  running part 1"
    assert lines[-1] == "  steps: 4 of 4  399.0 s"
    elapsed = [float(line.split()[4]) for line in lines]
    assert elapsed == [10.0, 30.0, 70.0, 130.0, 190.0, 250.0, 310.0, 370.0, 399.0]
