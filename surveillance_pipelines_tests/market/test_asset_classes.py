import pytest

from surveillance_pipelines.market.asset_classes import asset_class_of


@pytest.mark.parametrize(
    ("symbol", "calendar", "asset_class"),
    [
        ("AAPL", "XNYS", "equity"),
        ("SAP.DE", "XETR", "equity"),
        ("BTC-USD", "24/7", "crypto"),
        ("BTC-USD", "XNYS", "crypto"),  # the spelling decides, even if a user stated another calendar
        ("MYCOIN", "24/7", "crypto"),
        ("EURUSD=X", "24/5", "fx"),
        ("MYPAIR", "24/5", "fx"),
        ("ES=F", "CMES", "future"),
        ("^GSPC", "XNYS", "index"),
        ("AAPL", None, "equity"),
    ],
)
def test_asset_class_is_told_by_the_spelling_or_else_by_the_calendar(
    symbol: str, calendar: str | None, asset_class: str
) -> None:
    assert asset_class_of(symbol, calendar) == asset_class
