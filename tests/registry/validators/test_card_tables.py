"""Which numbers in the tables of a card contradict the manifest and the index."""

import pytest

from saereg.registry.files.place import FolderPlace
from saereg.registry.validators.checks.card_tables import tables_agree
from saereg.registry.validators.options import Options
from saereg.registry.validators.subject import ReleaseSubject
from tests.releases import CARD, tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The tiny release: layer_1/topk has an L0 of 2.9167 and 10 latents."""
    return tiny_release(tmp_path_factory.mktemp("tables"))


@pytest.fixture
def found(release):
    """Return what a table with one cell states wrongly."""

    def find(header: str, cell: str) -> list[str | None]:
        table = f"\nAs `l0` says.\n\n| SAE | {header} |\n|---|---|\n| layer_1/topk | {cell} |\n"
        (release / "README.md").write_text(CARD + table)
        return [finding.found for finding in tables_agree(ReleaseSubject(FolderPlace(release), Options()))]

    return find


@pytest.mark.parametrize(("header", "cell"), [("L0", "29%"), ("L0 (%)", "29.2"), ("Quality", "L0 29%"), ("L0", "≈2.9")])
def test_an_l0_as_a_share_of_the_latents_contradicts_nothing(found, header, cell):
    assert found(header, cell) == []


@pytest.mark.parametrize(("header", "cell"), [("L0", "29"), ("Mean L0 ↓", "3.9"), ("EV (%)", "36"), ("EV", "36%")])
def test_a_number_of_another_size_is_found(found, header, cell):
    assert found(header, cell) == [cell]
