"""The JSON schema of the messages on the output queue, generated from the row types.

``python -m surveillance_pipelines.contracts.schema`` prints it; ``docs/schemas/`` keeps one file per version.
"""

import json
import sys
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from surveillance_pipelines.contracts.outputs import (
    INSTANT_FIELDS,
    SCHEMA_VERSION,
    Anomaly,
    OutputRow,
    Score,
    Signal,
    message_fields,
)

ROW_TYPES: Final[tuple[type[OutputRow], ...]] = (Anomaly, Signal, Score)

_MEANINGS: Final = {
    "type": "What the message is.",
    "id": "Deterministic id of the row, also the MessageDeduplicationId: one row has one id, however often it is sent.",
    "schema_version": "Version of this schema.",
    "event_time": "Event time of the last tick that the score has seen.",
    "knowledge_time": "When the platform learned that tick.",
    "source": "Where the bar's data came from.",
    "source_message_id": "MessageId of that tick on the input queue; null when the bar came from elsewhere.",
    "symbol": "Instrument; also the MessageGroupId.",
    "timeframe": "Length of the bar.",
    "bar_start": "First instant of the bar.",
    "revision": "0: what was known when the bar closed.",
    "bar_status": "provisional while the bar is in progress, final once it has closed.",
    "input_hash": "sha256 of the feature vector that was scored.",
    "feature_view": "Released set of features.",
    "bundle_hash": "sha256 of the model bundle's manifest; warmup while no model is promoted.",
    "code_version": "Version and source hash of the scoring code.",
    "config_hash": "Hash of the settings that can change a score.",
    "runtime_hash": "Hash of processor, libraries and inference settings.",
    "score": "anomaly, score: anomaly score. signal: probability of the action.",
    "threshold": "The score from which the row's statement is made.",
    "kind": "Kind of anomaly, or the action of a signal, or normal. The set of kinds is open.",
    "confidence": "Probability of kind.",
    "risk_score": "anomaly, score: score times confidence. signal: anomaly score of the bar it stands on.",
    "explanation": "Why: both detectors' scores, the likeliest kinds, the features that stand out. Empty on a score.",
    "fallback_used": "A missing input was replaced by a substitute.",
    "warmup": "Made by rules of thumb, because no model has passed its gate.",
    "tenant": "Whose platform this is.",
    "strategy": "Which strategy asks.",
    "correlation_id": "MessageId of the input that caused the row.",
    "run_id": "Dagster run that made the row.",
    "t_received": "When the causing input was received.",
    "t_computed": "When features and models were done.",
    "t_committed": "When the row was committed.",
    "t_published": "When this message was sent.",
    "alert_status": "opened while the bar is in progress; confirmed or retracted when it closes.",
    "alert_id": "Shared by the messages that open, confirm and retract one alert.",
    "price": "Close of the bar, so far or final.",
    "volume": "Volume of the bar, so far or final; 0 means that none was reported.",
    "reconstruction_error": "Mean squared error of the autoencoder in scaled units; null in warm-up.",
    "action": "The call.",
    "is_anomaly": "Whether score reaches threshold.",
    "buy_probability": "Probability that the price rises beyond the band within the horizon.",
    "hold_probability": "Probability that it stays within the band.",
    "sell_probability": "Probability that it falls beyond the band.",
    "horizon_minutes": "How far ahead the direction looks.",
    "market_return": "Bar in progress: mean log return of the peers one minute before, as known then.",
    "market_peers": "Bar in progress: how many peers that was. Both are null on a closed bar.",
}  # fmt: skip

_SHARES: Final = frozenset(
    {"score", "threshold", "confidence", "risk_score", "buy_probability", "hold_probability", "sell_probability"}
)
_HASHES: Final = frozenset({"id", "input_hash", "config_hash", "runtime_hash", "alert_id"})
_JSON_TYPES: Final[dict[Any, str]] = {
    str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", NoneType: "null",
}  # fmt: skip


def output_message_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) of every message that the output queue carries."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"output-message-{SCHEMA_VERSION}.json",
        "title": "Message of the market surveillance output queue",
        "description": "Instants are ISO 8601 UTC. Fields that this version does not name are to be ignored.",
        "oneOf": [{"$ref": f"#/$defs/{_type_name(row_type)}"} for row_type in ROW_TYPES],
        "$defs": {_type_name(row_type): _row_schema(row_type) for row_type in ROW_TYPES},
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(output_message_schema(), indent=2, ensure_ascii=False) + "\n"


def _type_name(row_type: type[OutputRow]) -> str:
    return row_type.__name__.lower()


def _row_schema(row_type: type[OutputRow]) -> dict[str, Any]:
    hints = get_type_hints(row_type)
    properties: dict[str, dict[str, Any]] = {"type": {"const": _type_name(row_type), "description": _MEANINGS["type"]}}
    for name in message_fields(row_type):
        properties[name] = _field_schema(name, hints[name])
        if name == "schema_version":
            properties[name]["const"] = SCHEMA_VERSION
    return {"type": "object", "properties": properties, "required": list(properties)}


def _field_schema(name: str, hint: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": _MEANINGS[name]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint)), **schema}
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    types = [_json_type(name, option) for option in options]
    schema = {"type": types[0] if len(types) == 1 else types, **schema}
    if name in INSTANT_FIELDS:
        schema["format"] = "date-time"
    if name in _SHARES:
        schema |= {"minimum": 0, "maximum": 1}
    if name in _HASHES:
        schema["pattern"] = "^[0-9a-f]{64}$"
    return schema


def _json_type(name: str, hint: Any) -> str:
    if name in INSTANT_FIELDS and hint is int:
        return "string"
    return _JSON_TYPES[get_origin(hint) or hint]


if __name__ == "__main__":
    sys.stdout.write(schema_text())
