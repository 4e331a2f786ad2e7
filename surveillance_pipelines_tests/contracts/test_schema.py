"""The published schema is the one the code speaks."""

import json
import warnings
from typing import get_args

import pytest

from surveillance_pipelines.contracts.outputs import SCHEMA_VERSION
from surveillance_pipelines.contracts.schema import output_message_schema, schema_text
from surveillance_pipelines.runtime.send_calls import send_entries
from surveillance_pipelines.stores.outbox import Published, outbox_rows
from surveillance_pipelines_tests.engine.market import stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema


@pytest.fixture(scope="module")
def messages() -> list[dict]:
    effects = feed(make_engine(), [stream(120)]).stamped(committed_at=1_700_000_000_000_000)
    entries = send_entries(outbox_rows(effects, "scores"), published_at=1_700_000_000_500_000)
    return [json.loads(entry.body) for entry in entries]


def test_published_schema_is_the_printed_one_byte_for_byte(repository):
    published = repository / "docs" / "schemas" / f"output-message-{SCHEMA_VERSION}.json"
    assert published.read_bytes() == schema_text().encode()


@pytest.mark.requirement("SCH-05", "SCH-34")
def test_every_message_of_a_run_is_valid(messages):
    validator = jsonschema.Draft202012Validator(output_message_schema())
    jsonschema.Draft202012Validator.check_schema(output_message_schema())
    assert {message["type"] for message in messages} == {"anomaly", "incident", "signal", "score"}
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


def test_levels_of_publication_each_include_the_ones_before():
    effects = feed(make_engine(), [stream(120)])
    published = {level: [row.id for row in outbox_rows(effects, level)] for level in get_args(Published)}
    incidents_and_signals = [*effects.incidents, *effects.signals]
    assert effects.incidents
    assert set(published["incidents"]) == {row.id for row in incidents_and_signals}
    assert set(published["alerts"]) == {row.id for row in [*incidents_and_signals, *effects.anomalies]}
    assert published["scores"] == [row.id for row in effects.outputs]


def test_page_names_every_field(repository):
    page = (repository / "docs" / "output-messages.md").read_text()
    names = {name for part in output_message_schema()["$defs"].values() for name in part["properties"]}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
