"""Sending of notifications through Apprise. No part of a URL but its scheme reaches a log, an error or the caller."""

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import NotReadyError, extra_remedy

if TYPE_CHECKING:
    from types import ModuleType

SEND_SECONDS: Final = 10.0
"""Time for one message; the evaluation of a sensor may take 60 s."""

_HTTP_STATUS: Final = re.compile(r"\berror=(\d{3})\b")


def send(url: str, title: str, body: str) -> str | None:
    """Send a message to the receiver of a URL of Apprise; return why it failed, None if it was accepted."""
    try:
        apprise = _apprise()
        sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="surveillance", app_desc="surveillance_pipelines"))
        if not sender.add(url):
            return "not a URL of a receiver that Apprise knows"
        result = sender.notify(
            title=title,
            body=body,
            notify_type=apprise.NotifyType.WARNING,
            body_format=apprise.NotifyFormat.TEXT,
            timeout=SEND_SECONDS,
        )
        return None if result else _reason(result)
    except NotReadyError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its text may contain the URL
        return type(error).__name__


def understands(url: str) -> bool:
    """Return whether Apprise knows the receiver of a URL; nothing is sent.

    Raises:
        NotReadyError: if the package apprise is not installed.
    """
    return bool(_apprise().Apprise().add(url))


def _apprise() -> "ModuleType":
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise NotReadyError("expected the package apprise, found none", remedy=extra_remedy("notify")) from error
    log = logging.getLogger("apprise")  # it logs URLs that it does not understand
    if log.propagate:
        log.propagate = False
        log.addHandler(logging.NullHandler())
    return apprise


def _reason(result: Any) -> str:
    """Return the reason of a failure in words of ours, because Apprise's contain hosts and answers of servers."""
    text = " ".join(entry.message for entry in result.logs())
    if status := _HTTP_STATUS.search(text):
        return f"the receiver answered with status {status[1]}"
    if result.timeout_count:
        return f"no answer in {SEND_SECONDS:.0f} s"
    return "no connection to the receiver" if "onnection" in text else "the receiver did not accept the message"
