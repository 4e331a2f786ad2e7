"""R3: a coverage-guided fuzzer on the decoder, with counts: ``python -m benchmarks.fuzz``.

A run is seeded: on one machine, equal seeds and numbers of inputs produce equal bodies. Every body must be accepted or
refused according to the guarantees of ``market/decoder_oracle.py``. To show that the fuzzer is effective, it also runs
on decoders with one planted mistake each, starting from one valid message; it must find every mistake.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from benchmarks.fuzz_decoder import MISTAKES
from benchmarks.harness import REPOSITORY, counted
from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.market import messages
from surveillance_pipelines_tests.market.decoder_oracle import ENDS, checked_outcome
from surveillance_pipelines_tests.market.test_messages import GOOD, MALFORMED

RUNS: Final = 1_000_000
MISTAKE_RUNS: Final = 300_000

_PROGRESS: Final = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_NOT_THE_DECODER: Final = frozenset({"encode_tick", "<module>", "RefusedError"})


def fuzzed(folder: Path, *, runs: int, seed: int, mistake: str | None = None) -> dict[str, Any]:
    """Run the fuzzer in a separate process and return its counts; ``crashes`` are bodies that violated a guarantee.

    Args:
        folder: working folder; ``corpus`` in it holds the bodies to begin with, and afterwards those that reach more.
        runs: bodies to try.
        seed: of libFuzzer.
        mistake: planted in the decoder, one of ``MISTAKES``.
    """
    counts = folder / "counts.json"
    command = [
        sys.executable, "-m", "benchmarks.fuzz_decoder", f"--runs={runs}", f"--seed={seed}",
        f"--counts={counts}", f"--corpus={folder / 'corpus'}", *([] if mistake is None else [f"--mistake={mistake}"]),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    crashes = sorted(path.name for path in folder.glob("*-*") if path.is_file())
    if ended.returncode != 0 and not crashes:
        raise RuntimeError(f"expected the fuzzer to run, it ended with {ended.returncode}: {ended.stderr[-2000:]}")
    coverage = _PROGRESS.findall(ended.stderr) or [("0", "0", "0")]
    edges, features, corpus = map(int, coverage[-1])
    told = json.loads(counts.read_text()) if counts.exists() else {"inputs": 0, "ends": {}, "longest_ms": 0.0}
    if crashes:
        told["first_crash"] = ended.stdout[-2000:]  # the traceback; libFuzzer writes to standard error
    return {**told, "edges": edges, "features": features, "corpus": corpus, "crashes": len(crashes)}


def write_corpus(folder: Path, bodies: Iterable[str]) -> None:
    """Write the initial corpus of a fuzzer."""
    folder.mkdir(parents=True)
    for body in bodies:
        data = body.encode("utf-8", "surrogateescape")
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def lines_reached(corpus: Path) -> tuple[int, list[int]]:
    """Return the number of lines of the decoder, and the lines that no body of a corpus executes."""
    path = messages.__file__
    codes = [
        code for code in _codes(compile(Path(path).read_text(), path, "exec")) if code.co_name not in _NOT_THE_DECODER
    ]
    wanted = {
        line for code in codes for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno
    }
    seen: set[int] = set()

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != path:
            return None
        seen.add(frame.f_lineno)
        return trace

    sys.settrace(trace)
    try:
        for body in corpus.iterdir():
            checked_outcome(body.read_bytes().decode("utf-8", "surrogateescape"))
    finally:
        sys.settrace(None)
    return len(wanted), sorted(wanted - seen)


def prove(*, runs: int, seed: int) -> dict[str, Any]:
    """Fuzz the decoder, then the decoder with each mistake, and return the counts and whether all goals are met."""
    bodies = [json.dumps(GOOD), *(body for _, body, _ in MALFORMED)]
    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / "ours"
        write_corpus(ours / "corpus", bodies)
        begin = SYSTEM_CLOCK.now_us()
        found = fuzzed(ours, runs=runs, seed=seed)
        seconds = (SYSTEM_CLOCK.now_us() - begin) / 1e6
        lines, unreached = lines_reached(ours / "corpus")
        caught = {mistake: _inputs_until_caught(Path(scratch), mistake, seed) for mistake in MISTAKES}
    unmet = sorted(set(ENDS) - set(found["ends"]))
    reached, slowest = lines - len(unreached), found["longest_ms"]
    return {
        "work": f"{found['inputs']:,} bodies made by libFuzzer (atheris {version('atheris')}), guided by the branches "
        f"of the decoder that they reach; seed {seed}",
        "goal": "0 crashes; every refusal code reached; every mistake planted in the decoder caught",
        "found": [
            f"{found['crashes']} crashes in {seconds:.0f} s, slowest body {slowest} ms",
            f"{reached} of {lines} lines of the decoder, {len(ENDS) - len(unmet)} of {len(ENDS)} ends reached",
            *(f"{mistake}: {_caught(inputs)}" for mistake, inputs in caught.items()),
            *([found["first_crash"]] if found["crashes"] else []),
        ],
        "met": found["crashes"] == 0 and not unmet and None not in caught.values(),
        "figures": {
            **found,
            "seconds": seconds,
            "decoder_lines": lines,
            "decoder_lines_not_reached": unreached,
            "ends_never_reached": unmet,
            "mistakes_caught_after_inputs": caught,
        },
    }


def _caught(inputs: int | None) -> str:
    return "not caught" if inputs is None else f"caught after {inputs:,} bodies"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if no guarantee was violated, every result was reached and every mistake was found, else 1."""
    parser = argparse.ArgumentParser(description="Fuzz the decoder of market messages.")
    parser.add_argument("--runs", type=int, default=RUNS, help="bodies to try")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    result = counted("r3_fuzz", path=options.result, **prove(runs=options.runs, seed=options.seed))
    return 0 if result["met"] else 1


def _inputs_until_caught(scratch: Path, mistake: str, seed: int) -> int | None:
    folder = scratch / hashlib.sha256(mistake.encode()).hexdigest()[:8]
    write_corpus(folder / "corpus", [json.dumps(GOOD)])
    found = fuzzed(folder, runs=MISTAKE_RUNS, seed=seed, mistake=mistake)
    return found["inputs"] + 1 if found["crashes"] else None


def _codes(code: CodeType) -> Iterable[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


if __name__ == "__main__":
    sys.exit(main())
