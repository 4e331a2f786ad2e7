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
    Incident,
    OutputRow,
    Score,
    Signal,
    message_fields,
)

ROW_TYPES: Final[tuple[type[OutputRow], ...]] = (Anomaly, Incident, Signal, Score)

_MEANINGS: Final = {
    "type": "Type of the message.",
    "id": "Deterministic id of the row, also the MessageDeduplicationId. A row that is sent again keeps its id.",
    "schema_version": "Version of this schema.",
    "event_time": "Event time of the last tick included in the score.",
    "knowledge_time": "When the platform learned that tick.",
    "source": "Source of the bar's data.",
    "source_message_id": "MessageId of that tick on the input queue; null if the bar has another source.",
    "symbol": "Instrument; also the MessageGroupId.",
    "timeframe": "Length of the bar.",
    "bar_start": "First instant of the bar.",
    "revision": "0 is the bar as known when it closed.",
    "bar_status": "provisional while the bar is in progress, final after it has closed.",
    "input_hash": "sha256 of the scored feature vector.",
    "feature_view": "Name of the frozen set of features.",
    "bundle_hash": "sha256 of the model bundle's manifest; warmup before the first promotion.",
    "code_version": "Version and source hash of the scoring code.",
    "config_hash": "Hash of the settings that can change a score.",
    "runtime_hash": "Hash of processor, libraries and inference settings.",
    "score": "anomaly, score: anomaly score. incident: highest score. signal: probability of the action.",
    "threshold": "Score from which an anomaly or a signal is raised.",
    "kind": "Kind of anomaly, or the action of a signal, or normal. The set of kinds is open.",
    "confidence": "Probability of kind.",
    "risk_score": "anomaly, score: score times confidence. signal: anomaly score of its bar.",
    "explanation": "Score of each detector, the most likely kinds and the most unusual features. Empty on a score.",
    "fallback_used": "Whether a missing input or model was replaced by a substitute.",
    "warmup": "Whether the row was created by the warm-up rules, because no model has passed its gate.",
    "tenant": "Tenant of the row.",
    "strategy": "Strategy of the row.",
    "correlation_id": "MessageId of the input that caused the row.",
    "run_id": "Dagster run that created the row.",
    "t_received": "When the input that caused the row was received.",
    "t_computed": "When features and scores were computed.",
    "t_committed": "When the row was committed.",
    "t_published": "When this message was sent.",
    "alert_status": "opened while the bar is in progress; confirmed or retracted when it closes.",
    "alert_id": "Id shared by the messages that open, confirm and retract one alert.",
    "incident_status": "opened by a strong alert on a bar in progress; confirmed by the first closed bar with an "
    "alert; updated when the severity rises; closed after some time without an alert; retracted if the bar that opened "
    "it closes without an alert.",
    "incident_id": "Id shared by the messages of one incident.",
    "severity": "Severity, from the highest score and the number of alerts.",
    "first_bar_start": "First instant of the bar of the incident's first alert.",
    "last_bar_start": "First instant of the bar of its last alert.",
    "alerts": "Number of confirmed alerts.",
    "kinds": "Kind of anomaly to its number of confirmed alerts.",
    "alert_ids": "Ids of its first alerts; the one of the strongest alert is among them.",
    "first_price": "Price of the bar of the first alert.",
    "price": "Close of the bar, or last price of a bar in progress.",
    "volume": "Volume of the bar so far; 0 means that no volume was reported.",
    "reconstruction_error": "Mean squared error of the autoencoder in scaled units; null in warm-up.",
    "action": "Predicted action.",
    "is_anomaly": "Whether score reaches threshold.",
    "buy_probability": "Probability that the price rises beyond the band within the horizon.",
    "hold_probability": "Probability that the price stays within the band.",
    "sell_probability": "Probability that the price falls beyond the band.",
    "horizon_minutes": "Horizon of the direction probabilities, in minutes.",
    "market_return": "Bar in progress: mean log return of the peers in the previous minute, as known then; else null.",
    "market_peers": "Bar in progress: number of these peers; else null.",
}  # fmt: skip

_SHARE: Final = Annotated[float, Field(ge=0, le=1)]
_HASH: Final = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_MESSAGE_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(INSTANT_FIELDS, datetime),
    **dict.fromkeys(("id", "input_hash", "config_hash", "runtime_hash", "alert_id", "incident_id"), _HASH),
    **dict.fromkeys(("score", "threshold", "confidence", "risk_score"), _SHARE),
    **dict.fromkeys(("buy_probability", "hold_probability", "sell_probability"), _SHARE),
    "schema_version": Literal[SCHEMA_VERSION],
}
"""Types of fields whose form in a message differs from the row, or that have narrower bounds."""


def output_message_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the messages on the output queue."""
    models = [_message_model(row_type) for row_type in ROW_TYPES]
    _, schema = models_json_schema([(model, "validation") for model in models], schema_generator=_PlainSchema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"output-message-{SCHEMA_VERSION}.json",
        "title": "Message of the market surveillance output queue",
        "description": "Instants are ISO 8601 UTC. Consumers must ignore fields that this version does not define.",
        "oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in models],
        "$defs": schema["$defs"],
    }


def schema_text() -> str:
    """Return the content of the schema file."""
    return json.dumps(output_message_schema(), indent=2, ensure_ascii=False) + "\n"


class _PlainSchema(GenerateJsonSchema):
    """Schema in the order of the row contract, without titles, with ``[type, "null"]`` for optional fields."""

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
