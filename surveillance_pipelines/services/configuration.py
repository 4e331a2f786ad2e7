"""The settings as a user wrote them: invalid values by name, and names that are no setting but look like one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.setting_rules import NOT_SHOWN, nearest_name, without_user
from surveillance_pipelines.settings import Settings

ENV_FILE: Final = ".env"

_BOUNDS: Final = {"le": "at most", "ge": "at least", "lt": "less than", "gt": "more than", "expected": "one of"}
"""Pydantic's name of a bound → text."""

_OWN_PREFIXES: Final = ("SURVEILLANCE_", "SQS_", "DRAIN_", "YFINANCE_", "WARMUP_", "NOTIFY_", "MODEL_TRAINING_")
"""Beginnings of names that no other program is known to use."""
_OTHER_PROGRAMS: Final = (
    "SURVEILLANCE_COMMAND",
    "SURVEILLANCE_HOLDS_SERVICES",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "MLFLOW_REGISTRY_URI",
    "S3_ENDPOINT_URL",
)
"""Names, or their beginnings, that resemble settings and belong to the platform's processes or to other programs."""
_SIMILAR_IN_ENVIRONMENT: Final = 0.85
_SIMILAR_IN_FILE: Final = 0.75
"""Lower than for the environment, in which most names belong to other programs."""
_SIMILAR_OWN: Final = 0.5


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """A setting with an invalid value, or a name that is no setting.

    Attributes:
        name: name of the variable.
        found: what was expected and what was received; no secret.
        remedy: what to do.
    """

    name: str
    found: str
    remedy: str


class InvalidSettingsError(InvalidInputError):
    """One or more settings are invalid; ``problems`` has each of them."""

    def __init__(self, problems: Sequence[SettingProblem]) -> None:
        self.problems = tuple(problems)
        sources = sorted({_source(problem.name) for problem in problems})
        super().__init__(
            "; ".join(problem.found for problem in problems),
            remedy=f"correct the value in {' and in '.join(sources)}; .env.example describes all settings",
        )


def read_settings(env_file: str | None = ENV_FILE) -> Settings:
    """Return the settings of the environment and a file of variables; None for no file.

    Raises:
        InvalidSettingsError: if a setting is invalid; the message names each of them.
    """
    try:
        return Settings(_env_file=env_file)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        raise InvalidSettingsError([_problem(found) for found in error.errors()]) from error
    except UnicodeDecodeError as error:
        found = f"expected {env_file} in UTF-8, got another encoding at byte {error.start}"
        raise InvalidInputError(found, remedy=f"save {env_file} as UTF-8") from error


def unknown_settings(
    environment: Mapping[str, str] | None = None, env_file: str | None = ENV_FILE
) -> list[SettingProblem]:
    """Return the variables that are no setting but look like a misspelled one; values are not read.

    Args:
        environment: environment variables; None for those of this process.
        env_file: file of variables; None for none.
    """
    variables = os.environ if environment is None else environment
    found = {name: "the environment" for name in variables if _is_unknown(name)}
    found |= {name: str(env_file) for name in _names_of_file(env_file) if _is_unknown(name)}
    return [
        SettingProblem(name, f"{name} in {source} is no setting: did you mean {meant}?", f"rename it to {meant}")
        for name, source in sorted(found.items())
        if (meant := _meant(name, in_file=source != "the environment")) is not None
    ]


def misspelled_settings() -> list[Fact]:
    """Return a warning for each variable that is no setting but looks like a misspelled one."""
    return [Fact(f"variable {one.name}", "warn", one.found, one.remedy) for one in unknown_settings()]


def _known() -> list[str]:
    return [name.upper() for name in Settings.model_fields]


def _is_unknown(name: str) -> bool:
    return name.upper() not in _known() and not name.upper().startswith(_OTHER_PROGRAMS)


def _meant(name: str, *, in_file: bool) -> str | None:
    upper = name.upper()
    least = _SIMILAR_IN_FILE if in_file else _SIMILAR_IN_ENVIRONMENT
    return nearest_name(upper, _known(), least=_SIMILAR_OWN if upper.startswith(_OWN_PREFIXES) else least)


def _names_of_file(env_file: str | None) -> list[str]:
    if env_file is None or not Path(env_file).is_file():
        return []
    from dotenv import dotenv_values

    return list(dotenv_values(env_file, interpolate=False))


def _source(name: str) -> str:
    """Return where a setting comes from; the environment wins over the file."""
    given = {variable.upper() for variable in os.environ}
    in_file = name not in given and name in {variable.upper() for variable in _names_of_file(ENV_FILE)}
    return ENV_FILE if in_file else "the environment"


def _problem(found: Any) -> SettingProblem:
    """Describe a validation error, as in ``SQS_MAX_MESSAGES: expected at most 10, got 50``; secrets are not shown."""
    context = found.get("ctx", {})
    name = str(found["loc"][0]).upper() if found["loc"] else "OUTPUT_CHANNELS"  # the only check of several settings
    if found["type"] == "value_error":  # a validator of ``Settings`` states name, expected and received value
        text = str(context["error"])
    else:
        bounds = [f"{text} {context[bound]}" for bound, text in _BOUNDS.items() if bound in context]
        wanted = " and ".join(bounds) or found["msg"].removeprefix("Input should be ")
        text = f"{name}: expected {wanted}, got {_received(found)}{_example(name)}"
    return SettingProblem(name, text, f"correct {name} in {_source(name)}")


def _example(name: str) -> str:
    """Return the default value as an example, as in ``, for example SQS_MAX_MESSAGES=10``; nothing if there is none."""
    field = Settings.model_fields.get(name.lower())
    default = None if field is None else field.default
    if default is None or default == "":
        return ""
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f", for example {name}={text.lower() if isinstance(default, bool) else text}"


def _received(found: Any) -> str:
    field = Settings.model_fields.get(str(found["loc"][0])) if found["loc"] else None
    if field is None or "Secret" in str(field.annotation) or not field.repr:
        return NOT_SHOWN
    return without_user(str(found["input"]))
