"""``surveillance prepare``: create what is missing before anything runs."""

from surveillance_pipelines.commands.console import say, table


def prepare() -> None:
    """Create the tables, queues and the lake's bucket that your settings name and that do not exist yet.

    Run it once for a new database, an AWS account or a local emulator; what exists is left as it is. On AWS the
    credentials need sqs:CreateQueue and s3:CreateBucket; without them, create the FIFO queues and the bucket yourself.
    """
    from surveillance_pipelines.services.cloud_stores import ensure_bucket, ensure_queues
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    say("finding the services, and bringing the database to the newest migration …")
    endpoints = platform.endpoints
    queues = ensure_queues(endpoints)
    buckets = ensure_bucket(endpoints, platform.settings.lake_endpoint_url)
    wanted = [url.rsplit("/", 1)[1] for url in (*endpoints.queue_urls, endpoints.output_queue_url)]
    rows = [("database", "surveillance", "at the newest migration")]
    rows += [("queue", name, "created" if name in queues else "was there") for name in wanted]
    rows.append(("lake", endpoints.lake_url, "bucket created" if buckets else "was there or needs no bucket"))
    table("prepared", ("store", "name", ""), rows)
