"""Envelopes around a message: SNS notifications, EventBridge events, JSON in a string, and base64."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

MAX_ENVELOPES: Final = 3
"""Maximum nesting of envelopes: an event in a notification in a string."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
_SNS_CONFIRMATIONS: Final = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})


def decoded_base64(body: str) -> str | None:
    """Return the text in a base64 body; None if it is not base64 of text. JSON objects are never base64."""
    text = body.strip()
    if len(text) % 4 or _BASE64.fullmatch(text) is None:
        return None
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def content_of(value: Any) -> tuple[Any, str] | None:
    """Return the content of an envelope and the envelope's name; None if a value is no envelope.

    The content is a string of JSON, or a JSON value. An object with a symbol is a message, whatever else it has.
    """
    if isinstance(value, str):
        return value, "a JSON string"
    if not isinstance(value, Mapping) or "symbol" in value:
        return None
    if value.get("Type") == "Notification" and "TopicArn" in value and isinstance(value.get("Message"), str):
        return value["Message"], "the Message of an SNS notification"
    if {"detail-type", "source", "detail"} <= value.keys():
        return value["detail"], "the detail of an EventBridge event"
    return None


def is_sns_confirmation(value: Any) -> bool:
    """Return whether a value is a message of SNS about a subscription, which has no content."""
    return isinstance(value, Mapping) and "TopicArn" in value and value.get("Type") in _SNS_CONFIRMATIONS


def remedy_of(name: str) -> str:
    """Return how to send messages without an envelope."""
    if "SNS" in name:
        return "turn on raw message delivery of the subscription"
    if "EventBridge" in name:
        return "set the input path $.detail of the rule's target"
    return "send the JSON object itself"
