"""Entry point of Alembic: migrates the database that ``stores.database.migrate`` passes, one process at a time."""

from alembic import context
from sqlalchemy import create_engine, pool, text

_LOCK = 7_310_401  # an arbitrary number; concurrent migrations are serialized by this advisory lock


def _run() -> None:
    engine = create_engine(context.config.attributes["database_url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        connection.commit()
        try:
            context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()
    engine.dispose()


_run()
