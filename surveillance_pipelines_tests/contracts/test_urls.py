"""URLs with a password: no part of it is shown, and a URL with several readings is refused."""

import pytest

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.urls import require_readable_url, without_password
from surveillance_pipelines.stores.database import normalise_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://a:b@host:1/x", "postgresql://a:***@host:1/x"),
        ("postgresql+psycopg2://a:p%40b@host/x", "postgresql+psycopg2://a:***@host/x"),
        ("postgresql://a:b:c@host/x", "postgresql://a:***@host/x"),
        ("postgresql://a@host/x", "postgresql://a@host/x"),
        ("postgresql://a:b@one:1,two:2/x", "postgresql://a:***@one:1,two:2/x"),
        ("postgresql://a:b@[::1]:5432/x", "postgresql://a:***@[::1]:5432/x"),
        ("postgresql://%2Ftmp/x", "postgresql://%2Ftmp/x"),
        ("postgresql://host/x?user=me@server", "postgresql://host/x?user=me@server"),
        ("postgresql:///x?host=/tmp", "postgresql:///x?host=/tmp"),
        ("postgresql://:b@host/x", "postgresql://:***@host/x"),
        ("postgresql:///x?host=h&password=b&port=1", "postgresql:///x?host=h&password=***&port=1"),
        ("redis://:b@host:6379/0", "redis://:***@host:6379/0"),
        ("/var/mlruns", "/var/mlruns"),
    ],
)
def test_without_password_hides_only_the_password(url: str, shown: str) -> None:
    require_readable_url(url, "URL")
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@tail@host/x",
        "postgresql://me:secret/tail@host/x",
        "postgresql://me:secret?tail@host/x",
        "postgresql://me:12?tail@host/x",
        "postgresql://me:secret",
        "postgresql://me:secret/x",
        "postgresql://me@host:secret/x",
        "redis://me:secret tail",
    ],
)
def test_url_with_a_mistyped_password_is_refused_and_shown_without_any_part_of_it(url: str) -> None:
    assert without_password(url) == url.partition("://")[0] + "://***"
    with pytest.raises(InvalidInputError) as refused:
        require_readable_url(url, "REDIS_URL")
    assert "secret" not in f"{refused.value} {refused.value.remedy}"
    assert "tail" not in f"{refused.value} {refused.value.remedy}"


@pytest.mark.parametrize("url", ["secret", "me:secret@host", "postgresql://me:secret@tail@host/x"])
def test_normalise_url_says_nothing_of_a_url_that_it_refuses(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        normalise_url(url, "libpq")
    assert "secret" not in str(refused.value)
