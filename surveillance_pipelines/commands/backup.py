"""``surveillance backup`` and ``surveillance restore``: copies of a home for another disk or machine."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveillance_pipelines.commands.console import counted, echo, progress, table
from surveillance_pipelines.commands.exit_codes import ExitCode

if TYPE_CHECKING:
    from surveillance_pipelines.services.backup_archive import Advanced


def backup(
    target: Annotated[Path, typer.Argument(help="New folder, or new file if the name ends in .tar.")],
) -> None:
    """Back up the home: database, lake, models, MLflow and settings. Runs may serve meanwhile.

    Queues, logs and secrets are not included. Exits with 1 if the backup was written and data is damaged.
    """
    from surveillance_pipelines.services.backup import back_up, expected_bytes
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    with _megabytes("backing up", expected_bytes(platform)) as advanced:
        done = back_up(platform, target, advanced)
    rows = {name: sum(counts.values()) for name, counts in done.rows.items()}
    table("backup", ("part", "files"), sorted(done.files.items()), right=("files",))
    echo(f"rows: {', '.join(f'{name} {count:,}' for name, count in rows.items())}")
    echo(f"not included: {'; '.join(done.left_out)}")
    for queue, count in done.waiting.items():
        if count:
            echo(f"not included: {counted(count, 'message')} of the queue {queue}", style="yellow")
    for problem in done.problems:
        echo(f"damaged: {problem}", style="red")
    echo(f"wrote {target}, {done.bytes / 1e6:,.1f} MB")
    echo(f"restore it into a new home: `surveillance --home DIR restore {shlex.quote(str(target))}`", wrap=False)
    if done.problems:
        raise typer.Exit(ExitCode.FAILED)


def restore(
    source: Annotated[Path, typer.Argument(help="Folder or .tar file that `surveillance backup` has written.")],
) -> None:
    """Restore a backup into SURVEILLANCE_HOME, which must be empty."""
    from surveillance_pipelines.commands.dagster_runs import cancel_unfinished_runs
    from surveillance_pipelines.services.platform import open_platform
    from surveillance_pipelines.services.restoration import restore as restore_home
    from surveillance_pipelines.services.restoration import restored_bytes

    platform = open_platform()
    with _megabytes("restoring", restored_bytes(source)) as advanced:
        done = restore_home(platform.settings, source, advanced)
    canceled = cancel_unfinished_runs(platform, "The home was restored from a backup; no process executes this run.")
    rows = {name: sum(counts.values()) for name, counts in done.rows.items()}
    echo(f"restored {platform.home} as of {done.begun_at}: {counted(done.files, 'file')}, all as in the manifest")
    echo(f"rows, equal to the backup's: {', '.join(f'{name} {count:,}' for name, count in rows.items())}")
    if canceled:
        echo(f"{counted(canceled, 'run')} of Dagster had not finished and {'is' if canceled == 1 else 'are'} canceled")
    echo(f"the settings of the backup are in {done.settings_file}; they are not applied")
    home = shlex.quote(str(platform.home))
    echo(f"next: `surveillance --home {home} replay --sample 20`, then `surveillance --home {home} up`", wrap=False)


@contextmanager
def _megabytes(title: str, total: int) -> "Iterator[Advanced]":
    """Show the progress of parts in megabytes."""
    done = 0
    with progress(f"{title} (MB)", total / 1e6) as bar:

        def advance(name: str, count: int) -> None:
            nonlocal done
            done += count
            bar.set(done / 1e6, total=max(total, done) / 1e6, note=name)

        yield advance
