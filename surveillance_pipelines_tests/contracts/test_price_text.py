import pytest

from surveillance_pipelines.contracts.price_text import price_text


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (1.52e-06, "0.00000152"),
        (0.000012345678, "0.0000123457"),
        (0.12345678, "0.123457"),
        (0.0999996, "0.0999996"),
        (1.08765, "1.08765"),
        (150.0, "150.00"),
        (150.12346, "150.1235"),
        (68_123.456789, "68,123.4568"),
        (-37.63, "-37.63"),  # crude oil on 2020-04-20
        (0.0, "0.00"),
        (5e-324, "0.00"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_price_text_keeps_six_significant_digits_without_an_exponent(price: float, text: str) -> None:
    assert price_text(price) == text
