"""Output rows of the platform: alerts, incidents, signals and scores, with the same contract in tables and messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, get_args

from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.contracts.market import BarStatus, Source
from surveillance_pipelines.hashing import canonical_json, sha256_json, sha256_text

SCHEMA_VERSION: Final = "1.2"
"""Version of the rows and of the messages on the output queue; see docs/output-messages.md."""

DEFAULT_TENANT: Final = "default"
DEFAULT_STRATEGY: Final = "surveillance"

AlertStatus = Literal["opened", "confirmed", "retracted"]
IncidentStatus = Literal["opened", "confirmed", "updated", "closed", "retracted"]
Severity = Literal["low", "medium", "high"]
Disposition = Literal["manipulation", "suspicious", "explained", "data_error", "false_alarm"]
"""What a person decided about an incident."""
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""Severities of incidents, ascending."""
Action = Literal["BUY", "SELL", "HOLD"]
RowType = Literal["anomaly", "incident", "signal", "score"]

ANOMALY_KINDS: Final = (
    "volume_spike",
    "price_gap",
    "price_volume_divergence",
    "volatility_burst",
    "ramping",
    "pump_and_dump",
    "marking_the_close",
    "momentum_ignition",
    "cross_symbol_divergence",
)
"""Kinds that the classifier distinguishes, using bars only."""

UNCLASSIFIED: Final = "unclassified"
"""Kind of a bar that only the autoencoder flags; the set of kinds is open."""


STORED_ONLY: Final = MappingProxyType({"stored_only": True})
"""Marks fields that are stored in PostgreSQL but not sent in messages; consumers find them by ``bundle_hash``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRow:
    """The row contract. Instants are microseconds since the epoch, UTC; hashes are hex sha256.

    Each row type ends with ``market_return`` and ``market_peers``: the market context at the time when a bar in
    progress was scored, which cannot be reconstructed later. Both are None on a final bar, because its row in
    ``ops.live_bars`` has them; ``market_return`` is also None if no peer had a bar.
    """

    id: str
    schema_version: str = SCHEMA_VERSION
    event_time: int  # of the last input included in the score
    knowledge_time: int  # time at which the platform learned that input
    source: Source
    source_message_id: str | None
    symbol: str
    timeframe: str
    bar_start: int
    revision: int
    bar_status: BarStatus
    input_hash: str  # hash of the float64 bytes of the feature vector
    feature_view: str
    bundle_hash: str  # "warmup" before the first promotion
    code_version: str
    config_hash: str
    runtime_hash: str
    score: float
    threshold: float
    kind: str
    confidence: float  # probability of kind, 0..1
    risk_score: float  # 0..1
    explanation: dict[str, Any]
    fallback_used: bool = False
    warmup: bool = False
    tenant: str = DEFAULT_TENANT
    strategy: str = DEFAULT_STRATEGY
    correlation_id: str | None = None
    run_id: str | None = None
    t_received: int | None = None  # live lane only
    t_computed: int | None = None
    t_committed: int | None = None
    t_published: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly(OutputRow):
    """An anomalous bar. There is one alert per symbol, bar and kind: opened, then confirmed or retracted."""

    alert_status: AlertStatus
    alert_id: str  # shared by the rows that open, confirm and retract one alert
    price: float
    volume: float
    reconstruction_error: float | None = None
    market_return: float | None = None
    market_peers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident(OutputRow):
    """A step in the life of an incident: the alerts of one symbol that have one cause.

    An incident is opened by a strong alert on a bar in progress, confirmed by the first closed bar with an alert,
    updated when its severity rises, and closed after some time without an alert. If the bar that opened it closes
    without an alert, it is retracted. Score, kind, confidence and explanation are those of its strongest alert; price,
    volume and the other fields are those of its last one.
    """

    incident_status: IncidentStatus
    incident_id: str  # shared by all rows of one incident
    severity: Severity
    first_bar_start: int  # of the first alert
    last_bar_start: int  # of the last alert
    alerts: int  # number of confirmed alerts
    kinds: dict[str, int]  # kind → number of confirmed alerts
    alert_ids: tuple[str, ...]  # of the first alerts; the strongest alert is always among them
    first_price: float
    price: float
    volume: float
    market_return: float | None = None
    market_peers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(OutputRow):
    """A direction signal of a closed bar; ``kind`` repeats the action."""

    action: Action
    price: float
    buy_probability: float
    hold_probability: float
    sell_probability: float
    horizon_minutes: int
    market_return: float | None = None
    market_peers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(OutputRow):
    """The model outputs for one bar, with or without an alert.

    Scores of final bars are stored in ``surveillance.predictions``; with ``PUBLISH_SCORES=all``, all scores are sent.
    """

    price: float
    volume: float
    is_anomaly: bool
    reconstruction_error: float | None
    buy_probability: float
    hold_probability: float
    sell_probability: float
    horizon_minutes: int
    market_return: float | None = None
    market_peers: int | None = None
    model_ids: tuple[str, ...] = field(default=(), metadata=STORED_ONLY)  # serving members of the bundle
    excluded_models: tuple[str, ...] = field(default=(), metadata=STORED_ONLY)  # excluded after failures


IDENTITY_FREE: Final = frozenset(
    {"knowledge_time", "source_message_id", "correlation_id", "run_id",
     "t_received", "t_computed", "t_committed", "t_published"}
)  # fmt: skip
"""Fields that are not part of a row's identity; rows that differ only in them are the same row."""

INSTANT_FIELDS: Final = frozenset(
    {"event_time", "knowledge_time", "bar_start", "first_bar_start", "last_bar_start", "t_received", "t_computed",
     "t_committed", "t_published"}
)  # fmt: skip


_Row = TypeVar("_Row", bound=OutputRow)


def row_id(
    row_type: RowType,
    *,
    kind: str,
    tenant: str,
    strategy: str,
    symbol: str,
    timeframe: str,
    bar_start: int,
    revision: int,
    bar_status: BarStatus,
    trigger_message_id: str | None,
    feature_view: str,
    bundle_hash: str,
    config_hash: str,
) -> str:
    """Return the deterministic id of an output row, which is also its MessageDeduplicationId.

    Args:
        trigger_message_id: message that caused a provisional row; None for final and revised rows, so that batch and
            live rows have the same id.
    """
    if (bar_status == "provisional") != (trigger_message_id is not None):
        raise ValueError(f"expected a trigger message if and only if the row is provisional, got {bar_status!r}")
    return sha256_json(
        [row_type, kind, tenant, strategy, symbol, timeframe, bar_start, revision, bar_status, trigger_message_id,
         feature_view, bundle_hash, config_hash]
    )  # fmt: skip


def final_row_ids(
    row_type: Literal["anomaly", "signal", "score"],
    symbols: Sequence[str],
    bar_starts: Sequence[int],
    *,
    kind: str,
    tenant: str,
    strategy: str,
    timeframe: str,
    feature_view: str,
    bundle_hash: str,
    config_hash: str,
) -> list[str]:
    """Return ``row_id`` of many final revision-0 rows that differ only in symbol and bar start.

    Common values are encoded once, because a backfill has millions of rows.
    """
    head = canonical_json([row_type, kind, tenant, strategy])[:-1]
    tail = canonical_json([0, "final", None, feature_view, bundle_hash, config_hash])[1:]
    heads = {symbol: f"{head},{canonical_json(symbol)},{canonical_json(timeframe)}," for symbol in set(symbols)}
    pairs = zip(symbols, bar_starts, strict=True)
    return [sha256_text(f"{heads[symbol]}{bar_start},{tail}") for symbol, bar_start in pairs]


def alert_id(
    *, tenant: str, symbol: str, timeframe: str, bar_start: int, kind: str, strategy: str = DEFAULT_STRATEGY
) -> str:
    """Return the common id of the rows that open, confirm and retract one alert.

    The default strategy is not part of the hash, so ids equal those of releases with a single strategy.
    """
    other = [] if strategy == DEFAULT_STRATEGY else [strategy]
    return sha256_json(["alert", tenant, symbol, timeframe, bar_start, kind, *other])


def incident_id(
    *, tenant: str, symbol: str, timeframe: str, first_bar_start: int, strategy: str = DEFAULT_STRATEGY
) -> str:
    """Return the common id of the rows of one incident."""
    other = [] if strategy == DEFAULT_STRATEGY else [strategy]
    return sha256_json(["incident", tenant, symbol, timeframe, first_bar_start, *other])


@cache
def column_names(row_type: type[OutputRow]) -> tuple[str, ...]:
    """Return the columns of a row type in the order of the contract, which is also the order in PostgreSQL."""
    return tuple(field.name for field in fields(row_type))


@cache
def message_fields(row_type: type[OutputRow]) -> tuple[str, ...]:
    """Return the fields of a row type in its messages, in the order of the contract."""
    return tuple(each.name for each in fields(row_type) if not each.metadata.get("stored_only"))


def to_record(row: OutputRow) -> dict[str, Any]:
    """Return a row as a dict with instants in microseconds."""
    return dict(zip(column_names(type(row)), _all_values(type(row))(row), strict=True))


def to_message(row: OutputRow) -> dict[str, Any]:
    """Return the message of a row as a JSON object; instants are ISO 8601 UTC (SCH-34)."""
    names, values = message_fields(type(row)), _message_values(type(row))(row)
    message = {"type": type(row).__name__.lower(), **dict(zip(names, values, strict=True))}
    for name in _instants(type(row)):
        if message[name] is not None:
            message[name] = to_iso(message[name])
    return message


@cache
def _instants(row_type: type[OutputRow]) -> tuple[str, ...]:
    return tuple(name for name in message_fields(row_type) if name in INSTANT_FIELDS)


def with_stamps(row: _Row, *, t_computed: int, t_committed: int) -> _Row:
    """Return the row with these instants; faster than ``dataclasses.replace``, a loop over the fields."""
    record = to_record(row)
    record["t_computed"], record["t_committed"] = t_computed, t_committed
    return type(row)(**record)


@cache
def _all_values(row_type: type[OutputRow]) -> Callable[[OutputRow], tuple[Any, ...]]:
    return attrgetter(*column_names(row_type))


@cache
def _message_values(row_type: type[OutputRow]) -> Callable[[OutputRow], tuple[Any, ...]]:
    return attrgetter(*message_fields(row_type))
