"""Rules for values and names of settings: cron expressions, URLs, and the setting that a misspelled name means."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import product
from typing import Final
from urllib.parse import urlsplit

NOT_SHOWN: Final = "another value (not shown: it may contain a password)"

_USER_OF_URL: Final = re.compile(r"://\S*@")
"""User and password of a URL; a password may contain ``@`` and ``/``."""

_MACROS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART: Final = re.compile(r"(?P<first>\*|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a cron expression: its name, bounds, names of values from the lowest on, and special forms.

    ``is_special_alone``: whether a list of special forms has no other values.
    ``has_question_mark``: whether a lone ``?`` means any value.
    """

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    special: str = ""
    is_special_alone: bool = False
    has_question_mark: bool = False

    def value(self, text: str) -> int | None:
        """Return a value of the field; None if the text is not one."""
        if text.lower() in self.names:
            return self.lowest + self.names.index(text.lower())
        number = int(text) if text.isascii() and text.isdecimal() else None
        return number if number is not None and self.lowest <= number <= self.highest else None

    def is_valid(self, text: str) -> bool:
        if text == "?":
            return self.has_question_mark
        parts = text.split(",")
        special = [part for part in parts if self._is_special(part)]
        if special and self.is_special_alone:
            return special == parts
        return all(self._is_special(part) or self._is_part(part) for part in parts)

    def _is_special(self, text: str) -> bool:
        return bool(self.special and re.fullmatch(self.special, text, re.IGNORECASE))

    def _is_part(self, text: str) -> bool:
        part = _PART.fullmatch(text)
        if part is None or (part["step"] is not None and int(part["step"]) == 0):
            return False
        if part["first"] == "*":
            return part["last"] is None
        return all(self.value(bound) is not None for bound in (part["first"], part["last"]) if bound is not None)


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, special="L", has_question_mark=True),
    _Field("month", 1, 12, _MONTHS),
    _Field(
        "day of the week", 0, 7, _WEEKDAYS, special="L[0-6]|[0-7]#[1-5]", is_special_alone=True, has_question_mark=True
    ),
)


def cron_problem(text: str) -> str | None:
    """Return why a text is not a cron expression of five fields that Dagster accepts; None if it is one."""
    if text.strip().startswith("@"):
        return None if text.strip().lower() in _MACROS else f"the names are {', '.join(_MACROS)}"
    parts = text.split()
    if len(parts) != len(_FIELDS):
        return f"it has {len(parts)} fields instead of 5 (minute, hour, day of the month, month, day of the week)"
    for field, part in zip(_FIELDS, parts, strict=True):
        if not field.is_valid(part):
            return f"{part!r} is not a {field.name} ({field.lowest}–{field.highest}, a range, a list, a step or *)"
    _, _, days, months, weekdays = parts
    return _date_problem(days, months, has_weekday=weekdays not in ("*", "?"))


def _date_problem(days: str, months: str, *, has_weekday: bool) -> str | None:
    """Return that a day does not exist in any of the months; only plain lists are judged.

    Cron joins day and weekday by "or", so with a weekday such an expression does occur; but Dagster refuses a single
    day that February lacks even then.
    """
    day_field, month_field = _FIELDS[2], _FIELDS[3]
    chosen_days = [day_field.value(part) for part in days.split(",")]
    chosen_months = [month_field.value(part) for part in months.split(",")]
    pairs = [(day, month) for day, month in product(chosen_days, chosen_months)]
    if any(day is None or month is None or day <= _LONGEST_MONTHS[month - 1] for day, month in pairs):
        return None
    if not has_weekday:
        return f"month {months} has no day {days}, so it never occurs"
    if set(chosen_months) != {2} or len(set(chosen_days)) != 1:
        return None
    return f"month {months} has no day {days}; for the day of the week alone, write * as the day"


def require_scheme(name: str, url: str, schemes: Sequence[str], *, example: str, is_secret: bool) -> None:
    """Check the start of a URL.

    Args:
        name: name of the setting.
        url: its value.
        schemes: accepted schemes; a driver after ``+`` is accepted, as in ``postgresql+psycopg2``.
        example: a valid value for the message.
        is_secret: whether the message must not contain the value.

    Raises:
        ValueError: if the scheme is another one, or nothing follows it.
    """
    scheme, separator, rest = url.partition("://")
    if separator and rest and scheme.lower().partition("+")[0] in schemes:
        return
    starts = " or ".join(f"{known}://" for known in schemes)
    raise ValueError(f"expected {name} to start with {starts}, as in {example}, got {_shown(url, is_secret=is_secret)}")


def require_http(name: str, url: str, *, example: str, path: bool = False) -> None:
    """Check that a value is an HTTP URL with a host, a valid port and, if ``path``, a last part after the host.

    Raises:
        ValueError: if it is not.
    """
    require_scheme(name, url, ("http", "https"), example=example, is_secret=False)
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and (parts.port is None or parts.port > 0) and not re.search(r"\s", url)
    except ValueError:  # of the port or an IPv6 address
        is_valid = False
    if not is_valid or (path and not urlsplit(url).path.rpartition("/")[2]):
        wanted = "the URL of a queue, with host and name" if path else "a URL with a host and, if any, a port number"
        raise ValueError(f"expected {name} as {wanted}, as in {example}, got {_shown(url, is_secret=False)}")


def split_urls(text: str) -> tuple[str, ...]:
    """Return the URLs of a list separated by commas; a comma inside a URL separates only before ``scheme://``."""
    return tuple(re.split(r"[\s,]+(?=[A-Za-z0-9]+://)", text.strip(" ,\n")))


def without_user(text: str) -> str:
    """Return a text in which user and password of URLs are masked."""
    return _USER_OF_URL.sub("://***@", text)


def _shown(value: str, *, is_secret: bool) -> str:
    return NOT_SHOWN if is_secret else repr(without_user(value))


def nearest_name(name: str, known: Collection[str], *, least: float) -> str | None:
    """Return the known name that is most similar to a name; None if no similarity reaches ``least`` (0–1)."""
    scored = [(_similarity(name, one), one) for one in known]
    best, found = max(scored, default=(0.0, ""))
    return found if best >= least else None


def _similarity(name: str, other: str) -> float:
    # Words count once more as a set, because users swap and omit them: SQS_URL, QUEUE_SQS_URL.
    words, others = set(name.split("_")), set(other.split("_"))
    letters = SequenceMatcher(None, name, other, autojunk=False).ratio()
    return max(letters, 0.95 * 2 * len(words & others) / (len(words) + len(others)))
