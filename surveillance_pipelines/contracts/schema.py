"""The JSON schema of the messages on the output queue, generated from the row types.

``python -m surveillance_pipelines.contracts.schema`` prints it; ``docs/schemas/`` keeps one file per version.
"""

import json
import sys
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

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

_SHARE: Final = Annotated[float, Field(ge=0, le=1)]
_HASH: Final = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_MESSAGE_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(INSTANT_FIELDS, datetime),
    **dict.fromkeys(("id", "input_hash", "config_hash", "runtime_hash", "alert_id"), _HASH),
    **dict.fromkeys(("score", "threshold", "confidence", "risk_score"), _SHARE),
    **dict.fromkeys(("buy_probability", "hold_probability", "sell_probability"), _SHARE),
    "schema_version": Literal[SCHEMA_VERSION],
}
"""Fields that a message carries in another form than the row, or within narrower bounds."""


def output_message_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) of every message that the output queue carries."""
    models = [_message_model(row_type) for row_type in ROW_TYPES]
    _, schema = models_json_schema([(model, "validation") for model in models], schema_generator=_PlainSchema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"output-message-{SCHEMA_VERSION}.json",
        "title": "Message of the market surveillance output queue",
        "description": "Instants are ISO 8601 UTC. Fields that this version does not name are to be ignored.",
        "oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in models],
        "$defs": schema["$defs"],
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(output_message_schema(), indent=2, ensure_ascii=False) + "\n"


class _PlainSchema(GenerateJsonSchema):
    """pydantic's schema in the order of the row contract, without titles, and with ``[type, "null"]`` for optional."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        del parent_key
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return {name: value for name, value in super().model_schema(schema).items() if name != "title"}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        return {**inner, "type": [inner["type"], "null"]}


def _message_model(row_type: type[OutputRow]) -> type[BaseModel]:
    name, hints = row_type.__name__.lower(), get_type_hints(row_type)
    types = {"type": Literal[name]} | {field: _message_type(field, hints[field]) for field in message_fields(row_type)}
    described: dict[str, Any] = {field: (hint, Field(description=_MEANINGS[field])) for field, hint in types.items()}
    return create_model(name, **described)


def _message_type(name: str, hint: Any) -> Any:
    message_type = _MESSAGE_TYPES.get(name, hint)
    return message_type | None if NoneType in get_args(hint) else message_type


if __name__ == "__main__":
    sys.stdout.write(schema_text())
