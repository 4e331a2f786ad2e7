"""Every error of the platform has a code."""

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import surveillance_pipelines
from surveillance_pipelines.contracts.errors import ErrorCode, InvalidInputError, NotFoundError, SurveillanceError

_NOT_IMPORTABLE = ("surveillance_pipelines.stores.migrations",)
"""Alembic runs these files; they cannot be imported outside a migration."""


def exception_classes() -> Iterator[type[BaseException]]:
    for module in pkgutil.walk_packages(surveillance_pipelines.__path__, "surveillance_pipelines."):
        if module.name.startswith(_NOT_IMPORTABLE):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, BaseException) and found.__module__ == module.name:
                yield found


def test_every_exception_class_of_the_package_derives_from_the_base_and_has_a_code() -> None:
    found = list(exception_classes())
    assert len(found) > 15
    assert [kind.__qualname__ for kind in found if not issubclass(kind, SurveillanceError)] == []
    assert {type(kind.code) for kind in found if issubclass(kind, SurveillanceError)} == {ErrorCode}
    unstated = [
        kind.__qualname__
        for kind in found
        if issubclass(kind, SurveillanceError) and kind.code is ErrorCode.INTERNAL and kind is not SurveillanceError
    ]
    assert unstated == []


def test_error_carries_code_message_and_remedy() -> None:
    error = InvalidInputError("expected a number, got x", remedy="give a number")
    assert (error.code, error.message, error.remedy, str(error)) == (
        ErrorCode.INVALID_INPUT,
        "expected a number, got x",
        "give a number",
        "expected a number, got x; what to do: give a number",
    )
    assert str(InvalidInputError("expected a number, got x")) == "expected a number, got x"
    assert SurveillanceError("boom").code is ErrorCode.INTERNAL
    assert SurveillanceError("no space", code=ErrorCode.EXHAUSTED).code is ErrorCode.EXHAUSTED


def test_subclass_inherits_the_code_and_may_state_a_remedy_for_all_its_errors() -> None:
    class NoSuchTableError(NotFoundError, remedy="name another table"):
        pass

    assert NoSuchTableError("x").code is ErrorCode.NOT_FOUND
    assert NoSuchTableError("x").remedy == "name another table"
    assert NoSuchTableError("x", remedy="").remedy == ""


@pytest.mark.parametrize("kind", [InvalidInputError, NotFoundError])
def test_copy_of_an_error_keeps_code_and_remedy(kind: type[SurveillanceError]) -> None:
    twin = copy.copy(kind("expected x, got y", remedy="z", code=ErrorCode.CONFLICT))
    assert (type(twin), twin.message, twin.remedy, twin.code) == (kind, "expected x, got y", "z", ErrorCode.CONFLICT)
