"""The published schema is the one the code speaks."""

import json
import warnings

import pytest

from surveillance_pipelines.contracts.outputs import SCHEMA_VERSION
from surveillance_pipelines.contracts.schema import output_message_schema, schema_text
from surveillance_pipelines.runtime.send_calls import send_entries
from surveillance_pipelines.stores.outbox import outbox_rows
from surveillance_pipelines_tests.engine.market import stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema


@pytest.fixture(scope="module")
def messages() -> list[dict]:
    effects = feed(make_engine(), [stream(120)]).stamped(committed_at=1_700_000_000_000_000)
    entries = send_entries(outbox_rows(effects, "all"), published_at=1_700_000_000_500_000)
    return [json.loads(entry.body) for entry in entries]


@pytest.fixture(scope="module")
def committed(repository) -> dict:
    """The published schema of the current version."""
    return json.loads((repository / "docs" / "schemas" / f"output-message-{SCHEMA_VERSION}.json").read_text())


def constraints(schema: dict) -> dict:
    """Return what a schema demands, in one form: ``const`` and ``enum`` imply their type, no order counts."""
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return {"values": sorted(values), "description": schema["description"]}
    rest = {name: value for name, value in schema.items() if (name, value) != ("additionalProperties", True)}
    if "properties" in rest:
        rest["properties"] = {name: constraints(value) for name, value in rest["properties"].items()}
        rest["required"] = sorted(rest["required"])
    types = rest.get("type", [])
    return rest | {"type": sorted([types] if isinstance(types, str) else types)}


def test_generated_schema_demands_what_the_published_one_does(committed):
    generated = json.loads(schema_text())
    for part in generated["$defs"]:
        assert constraints(generated["$defs"][part]) == constraints(committed["$defs"][part])
        assert list(generated["$defs"][part]["properties"]) == list(committed["$defs"][part]["properties"])
    assert {**generated, "$defs": None} == {**committed, "$defs": None}
    assert generated["$defs"].keys() == committed["$defs"].keys()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("score", {"maximum": 2}),
        ("symbol", {"type": ["string", "null"]}),
        ("bar_start", {"format": "date"}),
        ("bar_status", {"enum": ["final"]}),
        ("type", {"const": "order"}),
        ("id", {"pattern": "^.*$"}),
        ("kind", {"description": "Something else."}),
    ],
)
def test_comparison_sees_a_changed_field(committed, field, change):
    part = committed["$defs"]["anomaly"]
    altered = {**part, "properties": {**part["properties"], field: {**part["properties"][field], **change}}}
    assert constraints(altered) != constraints(part)


def test_comparison_sees_a_field_that_is_not_required_any_more(committed):
    part = committed["$defs"]["anomaly"]
    assert constraints({**part, "required": part["required"][1:]}) != constraints(part)


VALUES = (
    None,
    True,
    0,
    1,
    -1,
    1.5,
    7,
    "",
    "x",
    "0" * 64,
    "opened",
    "final",
    "BUY",
    "1.1",
    "2026-01-02T03:04:05Z",
    {},
    [],
)


@pytest.mark.parametrize("kind", ["anomaly", "signal", "score"])
def test_generated_schema_accepts_and_rejects_what_the_published_one_does(messages, committed, kind):
    message = next(message for message in messages if message["type"] == kind)
    schemas = [jsonschema.Draft202012Validator(schema) for schema in (output_message_schema(), committed)]
    altered = [{**message, field: value} for field in message for value in VALUES]
    altered += [{name: value for name, value in message.items() if name != field} for field in message]
    verdicts = [
        [validator.is_valid(one) for one in [message, {**message, "new": 1}, *altered]] for validator in schemas
    ]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0][:2] == [True, True]
    assert len(verdicts[0]) / 10 < sum(verdicts[0]) < len(verdicts[0]) / 2


@pytest.mark.requirement("SCH-05", "SCH-34")
def test_every_message_of_a_run_is_valid(messages):
    validator = jsonschema.Draft202012Validator(output_message_schema())
    jsonschema.Draft202012Validator.check_schema(output_message_schema())
    assert {message["type"] for message in messages} == {"anomaly", "signal", "score"}
    for message in messages:
        validator.validate(message)


@pytest.mark.parametrize(
    "change", [{"kind": 3}, {"alert_status": "reopened"}, {"confidence": 1.5}, {"id": "x"}, {"type": "order"}]
)
def test_altered_message_is_invalid(messages, change):
    anomaly = next(message for message in messages if message["type"] == "anomaly")
    validator = jsonschema.Draft202012Validator(output_message_schema())
    assert not validator.is_valid({**anomaly, **change})


@pytest.mark.requirement("SCH-34")
def test_instants_are_iso_8601_utc(messages):
    names = ("event_time", "knowledge_time", "bar_start", "t_received", "t_computed", "t_committed", "t_published")
    assert all(message[name].endswith("Z") and "T" in message[name] for message in messages for name in names)


def test_alerts_alone_are_published_by_default():
    effects = feed(make_engine(), [stream(120)])
    published = {row.id for row in outbox_rows(effects, "alerts")}
    assert published == {row.id for row in [*effects.anomalies, *effects.signals]}
    assert len(outbox_rows(effects, "all")) == len(effects.outputs)


def test_page_names_every_field(repository):
    page = (repository / "docs" / "output-messages.md").read_text()
    names = {name for part in output_message_schema()["$defs"].values() for name in part["properties"]}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
