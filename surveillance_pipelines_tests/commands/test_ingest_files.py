"""``surveillance ingest`` of files: dry runs, folders, calendars; and the commands that change instruments."""

from datetime import UTC, date, datetime

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines_tests.market.files.test_cases import CASES
from surveillance_pipelines_tests.market.markets import market_bars

COLUMNS = ("symbol", "bar_start", "open", "high", "low", "close", "volume")


def test_ingest_dry_run_shows_how_files_are_read_and_stores_nothing(surveillance, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DEFAULT_CALENDAR", "XLON")
    row = "10,12,9,11,500"
    (tmp_path / "BTCUSDT-1m-2024-03.csv").write_text(
        "".join(f"{1709735400000 + 60_000 * n},{row},{1709735459999 + 60_000 * n},1,2,3,4,0\n" for n in range(2))
    )
    (tmp_path / "own.csv").write_text(
        f"ts,symbol,open,high,low,close,volume\n2024-03-06T14:30Z,AAPL,{row}\nsoon,AAPL,{row}\n"
    )
    answer = surveillance("ingest", tmp_path / "BTCUSDT-1m-2024-03.csv", tmp_path / "own.csv", "--dry-run")
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    for text in ("Binance klines", "epochs in ms", "symbol BTCUSDT, from the file's name", "24/7 (a crypto pair)",
                 "XLON (assumed", "line 3", "bad_timestamp", "nothing is stored"):  # fmt: skip
        assert text in said, text
    assert not (tmp_path / "home").exists()


def test_ingest_of_a_folder_reads_what_it_can_and_names_the_rest(surveillance, platform, tmp_path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    market_bars().select(COLUMNS).head(20).write_csv(folder / "good.csv")
    (folder / "odd.csv").write_text("1,2,3\n4,5,6\n")
    answer = surveillance("ingest", folder)
    assert answer.exit_code == ExitCode.USAGE
    said = " ".join(answer.output.split())
    assert "has no header line, its first row is 1,2,3; what to do: `--columns" in said
    assert "odd.csv (not read)" in said
    assert platform.lake.read("bars_landed").height == 20


def test_ingest_shows_each_calendar_with_its_basis_and_the_assumed_ones(surveillance, platform, tmp_path) -> None:
    row = "10,12,9,11,500"
    symbols = ("600519.SS", "BTC-EUR", "AAPL")
    lines = "".join(f"2024-03-06T0{n}:30Z,{symbol},{row}\n" for n in (1, 2) for symbol in symbols)
    (tmp_path / "bars.csv").write_text(f"ts,symbol,open,high,low,close,volume\n{lines}")
    said = " ".join(surveillance("ingest", tmp_path / "bars.csv", "--timeframe", "1m").output.split())
    assert "calendar XNYS is assumed for AAPL: DEFAULT_CALENDAR" in said
    with platform.connect() as connection:
        rows = connection.execute("SELECT symbol, calendar, calendar_basis FROM surveillance.instruments ORDER BY 1")
        assert rows.fetchall() == [
            ("600519.SS", "XSHG", "suffix"), ("AAPL", "XNYS", "default"), ("BTC-EUR", "24/7", "crypto pair"),
        ]  # fmt: skip
    sessions = platform.session_table(date(2024, 3, 2), date(2024, 3, 6))
    _, minute, length = sessions.for_symbol("600519.SS").position(to_us(datetime(2024, 3, 4, 1, 30, tzinfo=UTC)))
    assert (minute, length) == (0, 330)
    assert sessions.for_symbol("BTC-EUR").is_open(to_us(datetime(2024, 3, 2, 10, tzinfo=UTC))), "a Saturday"


def test_bars_older_than_their_calendar_are_stored_with_a_note(surveillance, platform) -> None:
    answer = surveillance("ingest", CASES / "12_before_calendar_7203.T.csv", "--symbol", "7203.T")
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "bars before 1997-01-01 are stored without sessions: the calendar XTKS begins then" in said
    assert platform.lake.read("bars_landed").height == 8


def test_instruments_can_be_changed_disabled_and_removed(surveillance, platform) -> None:
    assert surveillance("instruments", "add", "AAPL", "BTC-USD").exit_code == 0
    assert surveillance("instruments", "set", "AAPL", "--calendar", "XLON").exit_code == 0
    assert surveillance("instruments", "disable", "BTC-USD").exit_code == 0
    with platform.connect() as connection:
        rows = connection.execute(
            "SELECT symbol, calendar, calendar_basis, active FROM surveillance.instruments ORDER BY 1"
        )
        assert rows.fetchall() == [("AAPL", "XLON", "stated", True), ("BTC-USD", "24/7", "crypto pair", False)]
    unknown = surveillance("instruments", "set", "AAPL", "NOPE", "--calendar", "XNYS")
    assert unknown.exit_code != 0
    assert "expected registered instruments, got NOPE" in " ".join(unknown.output.split())
    assert surveillance("instruments", "set", "AAPL", "--calendar", "MOON").exit_code == ExitCode.USAGE
    assert surveillance("instruments", "remove", "BTC-USD").exit_code == 0
    with platform.connect() as connection:
        rows = connection.execute("SELECT symbol, calendar FROM surveillance.instruments").fetchall()
    assert rows == [("AAPL", "XLON")], "the refused change to XNYS is rolled back"
