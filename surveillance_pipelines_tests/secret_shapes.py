"""Secrets as users have them: settings of the environment, and the texts that may be shown nowhere."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PASSWORDS = {
    "at sign": "Pw1-aT@s3cr",
    "slash": "Pw2-sL/s3cr",
    "colon": "Pw3-cO:s3cr",
    "percent": "Pw4-pE%s3cr",
    "space": "Pw5-sP s3cr",
    "hash": "Pw6-hA#s3cr",
    "dollar": "Pw7-dO$s3cr",
    "quotes": "Pw8-qU'\"s3c",
    "accent": "Pw9-aC\u00e9s3cr",
}
ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AKIAQ7EXAMPLEKEY1234", "wJalrXUtn/FEMI+example", "FwoGZXIv/session+token=="
RECEIVER = "json://me:n0tify-Pw@127.0.0.1:1/t0ken-of-receiver"
PASS_FILE_PASSWORD = "pG:pass\\file-1"


@dataclass(frozen=True)
class Shape:
    """Variables of the environment with secrets, and the secrets in them."""

    variables: dict[str, str]
    secrets: tuple[str, ...]


def shapes(folder: Path, server: str = "127.0.0.1:1") -> dict[str, Shape]:
    """Return the shapes by name. ``folder`` gets the password file of libpq."""
    file = folder / "pgpass"
    escaped = PASS_FILE_PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    file.write_text(f"# comment\n{server}:*:me:{escaped}\n")
    file.chmod(0o600)
    found = {
        name: Shape({"DATABASE_URL": f"postgresql://me:{quote(password, safe='')}@{server}/db"}, (password,))
        for name, password in PASSWORDS.items()
    }
    in_query = f"postgresql://me@{server}/db?password={quote('qUery-Pw&1', safe='')}"
    aws = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {
        **found,
        "query of a DSN": Shape({"DAGSTER_DATABASE_URL": in_query}, ("qUery-Pw&1",)),
        "password file": Shape({"PGPASSFILE": str(file)}, (PASS_FILE_PASSWORD,)),
        "AWS key": Shape(aws, (ACCESS_KEY, SECRET_KEY)),
        "AWS session": Shape({**aws, "AWS_SESSION_TOKEN": SESSION_TOKEN}, (SESSION_TOKEN,)),
        "receiver": Shape({"NOTIFY_URLS": RECEIVER}, ("n0tify-Pw", "t0ken-of-receiver")),
        "Redis": Shape({"REDIS_URL": "redis://:r3dis-Pw1@127.0.0.1:1/0"}, ("r3dis-Pw1",)),
        "MLflow": Shape({"MLFLOW_TRACKING_URI": "https://me:mLflow-Pw%401@127.0.0.1:1"}, ("mLflow-Pw@1",)),
    }


def spellings(secret: str) -> tuple[str, ...]:
    """Return a secret as it is, as in a URL, in JSON and in a representation of Python."""
    import json

    return (secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1])


def shown(text: str, secrets: tuple[str, ...]) -> list[str]:
    """Return the secrets that a text shows, in any spelling."""
    return sorted({secret for secret in secrets for spelling in spellings(secret) if spelling in text})
