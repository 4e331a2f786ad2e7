"""Delivery run without Dagster: ``python -m surveillance_pipelines.services.delivery --channel redis``."""

import argparse
import json
import sys
from dataclasses import asdict

from surveillance_pipelines.runtime.delivery import deliver
from surveillance_pipelines.services.configuration import read_settings
from surveillance_pipelines.services.failures import print_failure
from surveillance_pipelines.services.provisioning import provision


def main(arguments: list[str] | None = None) -> int:
    """Run one delivery from the command line and print its report as JSON.

    Returns:
        0; 2 if the command line or a setting is invalid, 1 for any other error. The error and its remedy are printed.

    Raises:
        Exception: a defect of the platform, with its traceback.
    """
    parser = argparse.ArgumentParser(description="Deliver the outbox to one channel, without Dagster.")
    parser.add_argument("--channel", required=True, help="deliver to this channel of OUTPUT_CHANNELS, except sqs")
    parser.add_argument("--run-id", help="record this run id")
    parser.add_argument("--window-seconds", type=float, help="stop after this time; default: DRAIN_WINDOW_SECONDS")
    options = parser.parse_args(arguments)
    try:
        settings = read_settings()
        report = deliver(
            provision(settings),
            settings,
            options.channel,
            run_id=options.run_id,
            window_seconds=options.window_seconds,
        )
    except Exception as error:  # noqa: BLE001 (the boundary of a process: a known error is printed for the user)
        return print_failure(error)
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
