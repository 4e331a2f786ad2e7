"""Drain run without Dagster: ``python -m surveillance_pipelines.services.drain --queue-url …``."""

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import Any

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.runtime.service_outages import await_services
from surveillance_pipelines.services.configuration import read_settings
from surveillance_pipelines.services.failures import print_failure
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.telemetry import configure_logging


def main(arguments: list[str] | None = None) -> int:
    """Run one drain from the command line and print its report as JSON.

    Returns:
        0; 2 if the command line or a setting is invalid, 1 for any other error. The error and its remedy are printed.

    Raises:
        Exception: a defect of the platform, with its traceback.
    """
    parser = argparse.ArgumentParser(description="Serve one input queue, without Dagster.")
    parser.add_argument("--queue-url", help="serve this queue; default: the first of SQS_QUEUE_URL")
    parser.add_argument("--run-id", help="record this run id")
    parser.add_argument("--window-seconds", type=_positive, help="stop after this time; default: DRAIN_WINDOW_SECONDS")
    options = parser.parse_args(arguments)
    try:
        report = _drain(options)
    except Exception as error:  # noqa: BLE001 (the boundary of a process: a known error is printed for the user)
        return print_failure(error)
    sys.stdout.write(json.dumps(_as_json(report)) + "\n")
    return 0


def _drain(options: argparse.Namespace) -> DrainReport:
    settings = read_settings()
    configure_logging(settings)
    endpoints = await_services(lambda: provision(settings), SYSTEM_CLOCK)
    return drain(
        endpoints,
        settings,
        options.queue_url or endpoints.queue_urls[0],
        run_id=options.run_id,
        window_seconds=options.window_seconds,
    )


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time of more than 0 seconds, got {text}")
    return seconds


def _as_json(report: DrainReport) -> dict[str, Any]:
    return {**asdict(report), "messages_per_second": report.messages_per_second}


if __name__ == "__main__":
    sys.exit(main())
