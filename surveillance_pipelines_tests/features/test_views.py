import re
from pathlib import Path

import pytest

from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.views import CORE_V1, CORE_V2, VIEWS
from surveillance_pipelines.hashing import sha256_file

INPUT_NAMES = (
    "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "SESSION_ID", "MINUTE", "SESSION_MINUTES", "PEERS_RETURN", "PEERS",
)  # fmt: skip
"""The kernel's input constants, in order."""


@pytest.mark.requirement("FE-02")
def test_columns_match_the_kernels_output_order() -> None:
    assert len(CORE_V1.columns) == kernel.N_FEATURES
    assert [getattr(kernel, name.upper()) for name in CORE_V1.columns] == list(range(kernel.N_FEATURES))


def test_inputs_match_the_kernels_input_order() -> None:
    assert [getattr(kernel, name) for name in INPUT_NAMES] == list(range(len(CORE_V1.inputs)))


@pytest.mark.requirement("FE-02")
def test_source_hash_is_that_of_the_kernel_file() -> None:
    assert CORE_V1.source_hash == sha256_file(CORE_V1.source)
    assert VIEWS == {"core_v1": CORE_V1, "core_v2": CORE_V2}


def test_model_columns_are_columns_without_prices() -> None:
    assert set(CORE_V1.model_columns) < set(CORE_V1.columns)
    assert [name for name in CORE_V1.columns if name in CORE_V1.model_columns] == list(CORE_V1.model_columns)
    assert not [name for name in CORE_V1.model_columns if "[price]" in CORE_V1.descriptions[name]]
    assert {name for name in CORE_V1.columns if "[price]" in CORE_V1.descriptions[name]} == set(CORE_V1.columns) - set(
        CORE_V1.model_columns
    )


def test_every_column_has_a_formula_in_the_documentation(repository: Path) -> None:
    page = (repository / "docs" / "features.md").read_text()
    documented = re.findall(r"^\| `(\w+)`(?: (\*\*P\*\*))? \|", page, flags=re.MULTILINE)
    assert tuple(name for name, _ in documented) == CORE_V1.columns
    assert tuple(name for name, price in documented if not price) == CORE_V1.model_columns
