"""Cron expressions, URLs and misspelled names of settings."""

import warnings

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveillance_pipelines.setting_rules import cron_problem, nearest_name, require_http, require_scheme

VALID = [
    "0 6 * * 6", "*/15 * * * *", "0 6 * jan-mar SAT", "0 0 L * *", "0 6 * * 5#2", "0 6 * * 6-2", "5/10 * * * *",
    "1,2,3-9/2 * * * *", "@daily", "@Weekly", "  0  6 * * 7 ", "0 0 29 2 *", "0 0 31 1,4 *", "0 0 31 4 1",
    "0 0 ? * 1", "0 0 1 * ?", "0 0 31 2,4 5", "0 0 L,5 * *", "0 0 * * L3,2#2",
]  # fmt: skip
INVALID = {
    "every day": "2 fields instead of 5",
    "0 6 * *": "4 fields instead of 5",
    "0 0 6 * * 6": "6 fields instead of 5",
    "60 * * * *": "'60' is not a minute (0–59",
    "0 24 * * *": "'24' is not a hour",
    "0 0 0 * *": "'0' is not a day of the month (1–31",
    "0 0 * FEB-FOO *": "'FEB-FOO' is not a month",
    "0 6 * * 8": "'8' is not a day of the week (0–7",
    "*/0 * * * *": "is not a minute",
    "0,, * * * *": "is not a minute",
    "0 0 30 2 *": "month 2 has no day 30",
    "0 0 30 2 5": "month 2 has no day 30; for the day of the week alone, write *",
    "0 0 * * 1,2#2": "'1,2#2' is not a day of the week",
    "0 0 31 4,6 *": "month 4,6 has no day 31",
    "0 0 1 ? 0": "'?' is not a month",
    "? 0 1 * 0": "'?' is not a minute",
    "0 0 ?/2 * 0": "'?/2' is not a day of the month",
    "0 0 ?,1 * 0": "'?,1' is not a day of the month",
    "@reboot": "@daily",
}


def dagster_accepts(cron: str) -> bool:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found a cron schedule with an interval greater", UserWarning)
        try:
            dg.ScheduleDefinition(name="s", job_name="j", cron_schedule=cron)
        except dg.DagsterInvalidDefinitionError:
            return False
    return True


@pytest.mark.parametrize("cron", VALID)
def test_cron_expression_that_dagster_accepts_has_no_problem(cron):
    assert dagster_accepts(cron.strip())
    assert cron_problem(cron) is None


@pytest.mark.parametrize("cron", INVALID)
def test_cron_expression_that_never_runs_says_why(cron):
    assert INVALID[cron] in str(cron_problem(cron))


PARTS = st.text(alphabet="0123456789*/-,?LMONJA#", min_size=1, max_size=5)


@given(st.lists(PARTS, min_size=5, max_size=5).map(" ".join))
@settings(max_examples=500)
def test_no_expression_without_problem_is_refused_by_dagster(cron):
    assert cron_problem(cron) is not None or dagster_accepts(cron)


FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
SPECIAL = ((), (), ("L", "?"), ("jan", "DEC"), ("?", "L3", "2#2", "7#5", "sun", "FRI"))


def value(index: int) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.integers(*FIELDS[index]).map(str), st.sampled_from(("*", *SPECIAL[index])))


def stepped(index: int) -> st.SearchStrategy[str]:
    last = st.one_of(st.just(""), value(index).map("-{}".format))
    step = st.one_of(st.just(""), st.integers(1, 70).map("/{}".format))
    return st.tuples(value(index), last, step).map("".join)


def near_valid(index: int) -> st.SearchStrategy[str]:
    return st.one_of(value(index), st.lists(stepped(index), min_size=1, max_size=3).map(",".join))


@given(st.tuples(*(near_valid(index) for index in range(5))).map(" ".join))
@settings(max_examples=500)
def test_no_nearly_valid_expression_without_problem_is_refused_by_dagster(cron):
    assert cron_problem(cron) is not None or dagster_accepts(cron)


def part(lowest: int, highest: int) -> st.SearchStrategy[str]:
    value, step = st.integers(lowest, highest), st.integers(1, 9)
    stepped = st.tuples(value, value, step).map(lambda found: f"{found[0]}-{found[1]}/{found[2]}")
    return st.one_of(st.just("*"), value.map(str), stepped)


@given(st.tuples(*(part(*bounds) for bounds in FIELDS)).map(" ".join))
@settings(max_examples=200)
def test_no_usual_expression_that_dagster_accepts_has_a_problem(cron):
    assert cron_problem(cron) is None or not dagster_accepts(cron)


@pytest.mark.parametrize("url", ["host:4566", "ftp://host", "http://", "http://host:port", "http://a b", "http://:80"])
def test_value_that_is_no_http_url_is_refused_with_name_value_and_example(url):
    with pytest.raises(ValueError, match="expected SQS_ENDPOINT_URL") as refused:
        require_http("SQS_ENDPOINT_URL", url, example="http://localhost:4566")
    assert repr(url) in str(refused.value)
    assert "as in http://localhost:4566" in str(refused.value)


def test_url_without_the_name_of_a_queue_is_refused():
    with pytest.raises(ValueError, match="the URL of a queue, with host and name"):
        require_http(
            "SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/", example="https://host/0/q.fifo", path=True
        )


def test_refused_url_shows_no_password():
    for is_secret in (True, False):
        with pytest.raises(ValueError, match="expected X to start with s3://") as refused:
            require_scheme("X", "ftp://me:hunter2@host/a", ("s3",), example="s3://bucket", is_secret=is_secret)
        assert "hunter2" not in str(refused.value)


KNOWN = ("SQS_QUEUE_URL", "OUTPUT_QUEUE_URL", "DATABASE_URL", "DAGSTER_DATABASE_URL", "LOG_LEVEL", "SYMBOLS")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SQS_QUEUE_URLS", "SQS_QUEUE_URL"),
        ("SQS_URL", "SQS_QUEUE_URL"),
        ("QUEUE_SQS_URL", "SQS_QUEUE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("SYMBOL", "SYMBOLS"),
        ("PATH", None),
        ("POSTGRES_PASSWORD", None),
    ],
)
def test_misspelled_name_means_the_nearest_setting(name, meant):
    assert nearest_name(name, KNOWN, least=0.75) == meant
