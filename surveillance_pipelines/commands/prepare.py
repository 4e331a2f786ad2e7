"""``surveillance prepare``: create the tables, queues and bucket that do not exist yet."""

from surveillance_pipelines.commands.console import echo, table


def prepare() -> None:
    """Create the configured tables, queues and the bucket of the lake that do not exist yet.

    Run it once for a new database, AWS account or local emulator; existing stores stay unchanged. On AWS the
    credentials need sqs:CreateQueue and s3:CreateBucket; without them, create the FIFO queues and the bucket yourself.
    """
    from surveillance_pipelines.services.cloud_stores import ensure_bucket, ensure_queues
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    echo("connecting to the services and migrating the database …")
    endpoints = platform.prepare()
    queues = ensure_queues(endpoints)
    buckets = ensure_bucket(endpoints, platform.settings.lake_endpoint_url)
    wanted = [url.rsplit("/", 1)[1] for url in (*endpoints.queue_urls, endpoints.output_queue_url)]
    rows = [("database", "surveillance", "up to date")]
    rows += [("queue", name, "created" if name in queues else "exists") for name in wanted]
    bucket = "bucket created" if buckets else "bucket exists"
    rows.append(("lake", endpoints.lake_url, bucket if endpoints.lake_url.startswith("s3://") else "local folder"))
    table("prepared", ("store", "name", ""), rows)
