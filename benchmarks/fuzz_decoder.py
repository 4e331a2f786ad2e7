"""The fuzzed process: libFuzzer generates bodies, guided by the branches of the decoder that they reach.

Started by ``benchmarks/fuzz.py``. It never returns: libFuzzer ends the process, with an exit code other than 0 at the
first body that violates a guarantee, and writes that body to the working folder.
"""

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import atheris
from atheris.import_hook import instrument_imports

with instrument_imports(include=["surveillance_pipelines.market.messages", "surveillance_pipelines.clock"]):
    from surveillance_pipelines.market import messages

from surveillance_pipelines.symbols import SYMBOL_PATTERN
from surveillance_pipelines_tests.market.decoder_oracle import checked_outcome

MAX_BYTES: Final = 20_000
"""Above the decoder's limit of 16,384 characters."""
FIELDS: Final = ("symbol", "price", "volume", "timestamp", "change", "change_percent", "venue")
LITERALS: Final = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-320", "-0.0", "0", "1", "150.25", "1e12", "1e13", "1e16",
    "9" * 400, "9" * 5000, "-1", "-100.1", "true", "false", "null", '""', '"150.25"', "[]", "[[[[]]]]", "{}",
    '{"a":{"a":1}}', '"AAPL"', '"aapl"', '"AAPL\\n"', '"\\ud800"', '"\\u0000"', '"A\\u0663"', '"^GSPC"', '"9988.HK"',
    '"' + "A" * 33 + '"', '"2024-01-15T10:30:00Z"', '"2024-01-15T10:30:00"', '"2024-01-15"', '"20240115T103000Z"',
    '"2024-W03-1T10:30:00Z"', '"2024-01-15T10:35:01.000001Z"', '"2024-01-15T10:40:01+00:00"', '"24:00"',
    '"2024-01-15T24:00:00Z"', '"2024-01-15T10:30:60Z"', '"0001-01-01T00:00:00+23:59"', '"1969-12-31T23:59:59Z"',
    '"9999-12-31T23:59:59-23:59"', '"2024-01-15T10:30:00.1234567891Z"', "1705314600",
)  # fmt: skip
"""Typical values of faulty producers; a mutation replaces a field's value by one of them."""


class Target:
    """Checks each body, counts the results, and writes the counts continuously, because the process ends abruptly."""

    def __init__(self, counts: Path, runs: int) -> None:
        self._path = counts
        self._runs = runs
        self._ends: Counter[str] = Counter()
        self._longest = 0.0

    def __call__(self, data: bytes) -> None:
        body = data.decode("utf-8", "surrogateescape")
        begin = time.perf_counter()
        try:
            self._ends[checked_outcome(body)] += 1
        except BaseException:  # write the counts now, because libFuzzer ends the process afterwards
            self._write(self._ends.total())
            raise
        self._longest = max(self._longest, time.perf_counter() - begin)
        total = self._ends.total()
        if total % 10_000 == 0 or total >= self._runs - 1:
            self._write(total)

    def _write(self, total: int) -> None:
        counts = {"inputs": total, "ends": dict(self._ends), "longest_ms": round(self._longest * 1e3, 3)}
        self._path.write_text(json.dumps(counts))


def _convert_first(name: str, value: Any, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high:
        raise messages._RefusedError("out_of_bounds", f"expected {name} in bounds, got {number}")
    return number


MISTAKES: Final[dict[str, dict[str, Any]]] = {
    "a symbol is matched at its beginning only": {"is_symbol": lambda value: SYMBOL_PATTERN.match(value) is not None},
    "ticks of the future are accepted": {"MAX_FUTURE_SECONDS": 1e12},
    "a number is converted before it is judged": {"_number": _convert_first},
    "a reason quotes what came as it came": {"_show": str},
    "a bound lets zero through": {"MIN_PRICE": 0.0},
}
"""Typical decoder mistakes → replacements of names in its module. The fuzzer must find each mistake."""


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Return a mutated body: bytes changed by libFuzzer, or a field changed, duplicated or dropped."""
    rng = random.Random(seed)
    fields = None if rng.random() < 0.4 else _fields(data)
    if fields is None:
        return atheris.Mutate(data, max_size)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(FIELDS)
        fields = [pair for pair in fields if pair[0] != name or rng.random() < 0.05]
        if rng.random() < 0.9:
            fields.insert(rng.randint(0, len(fields)), (name, rng.choice(LITERALS)))
    text = ",".join(f"{json.dumps(name)}:{literal}" for name, literal in fields)
    return f"{{{text}}}".encode("utf-8", "surrogateescape")[:max_size]


def _fields(data: bytes) -> list[tuple[str, str]] | None:
    """Return a message's fields with their values as JSON text, or None if it is not an object."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return [(name, json.dumps(held)) for name, held in value.items()] if isinstance(value, dict) else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--mistake", choices=list(MISTAKES))
    options = parser.parse_args()
    arguments = [
        "fuzz_decoder", f"-runs={options.runs}", f"-seed={options.seed}", f"-max_len={MAX_BYTES}", "-timeout=5",
        "-print_final_stats=1", str(options.corpus),
    ]  # fmt: skip
    for name, value in MISTAKES.get(options.mistake, {}).items():
        setattr(messages, name, value)
    atheris.Setup(arguments, Target(options.counts, options.runs), custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
