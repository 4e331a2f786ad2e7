"""Drain run without Dagster: ``python -m surveillance_pipelines.services.drain --queue-url …``."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run one drain from the command line and print its report as JSON."""
    parser = argparse.ArgumentParser(description="Serve one input queue, without Dagster.")
    parser.add_argument("--queue-url", help="serve this queue; default: the first of SQS_QUEUE_URL")
    parser.add_argument("--run-id", help="record this run id")
    parser.add_argument("--window-seconds", type=float, help="stop after this time; default: DRAIN_WINDOW_SECONDS")
    options = parser.parse_args(arguments)
    settings = Settings()
    endpoints = provision(settings)
    report = drain(
        endpoints,
        settings,
        options.queue_url or endpoints.queue_urls[0],
        run_id=options.run_id,
        window_seconds=options.window_seconds,
    )
    sys.stdout.write(json.dumps(_as_json(report)) + "\n")
    return 0


def _as_json(report: DrainReport) -> dict[str, Any]:
    return {**asdict(report), "messages_per_second": report.messages_per_second}


if __name__ == "__main__":
    sys.exit(main())
