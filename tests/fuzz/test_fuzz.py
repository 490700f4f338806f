"""Whatever stands in a release folder, `saereg validate` answers: in time, in words, twice the same.

`make test` runs a few hundred cases; `make fuzz` twenty thousand, in which time and memory are looked at too.
"""

import os
import re

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.fuzz import laws
from tests.fuzz.damage import FAMILIES, Edit, to_toml
from tests.fuzz.fragments import SETTINGS
from tests.fuzz.laws import FORMATS, MOST_MEGABYTES, MOST_SECONDS, Folder, answer, guarded, hold, peak
from tests.releases import tiny_release

pytestmark = pytest.mark.slow

QUICK = 510
"""Cases of `make check`."""

CASES = int(os.environ.get("SAEREG_FUZZ", QUICK))
NIGHTLY = CASES > QUICK

LEVELS = ("header",) * 6 + ("layout", "weights")


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Bugs are raised; no colours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAEREG_TRACEBACK", "1")
        patch.setenv("NO_COLOR", "1")
        yield


@pytest.fixture(scope="module")
def folder(environment, tmp_path_factory) -> Folder:
    """A release outside of any repository, so that no configuration is found above it."""
    folder = Folder(tiny_release(tmp_path_factory.mktemp("fuzz"), checkpoints=False))
    for level in set(LEVELS):
        assert answer(folder.root, level, *FORMATS).code == 0  # and every module is imported before time is taken
    return folder


def test_the_configuration_that_is_damaged_is_sound(folder):
    """Otherwise every case of its family would be refused in the same line."""
    settings_file = Edit("saereg.toml", content=to_toml(SETTINGS).encode())
    with folder.damaged([settings_file], indexed=False) as root:
        assert hold(root, "header", "html").code in (0, 1)


def test_a_bug_is_no_answer(folder, monkeypatch):
    """An exception that nobody meant gets through to the test."""
    monkeypatch.setattr("saereg.registry.validators.runner.validate", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        hold(folder.root, "header", "html")


def test_what_never_ends_is_stopped(monkeypatch):
    """Also inside a regular expression, where most hangs come from."""
    monkeypatch.setattr(laws, "GUARD_SECONDS", 1)
    with pytest.raises(TimeoutError), guarded():
        re.match(r"(a+)+b", "a" * 60)


def test_a_damaged_folder_is_mended(folder):
    """Whatever was done to it, so that each case starts from the sound release."""
    before = dict(folder.files)
    everything = [Edit("layer_1", kind, b"..") for kind in ("many", "deep", "locked", "link", "pipe", "folder")]
    with folder.damaged([*everything, Edit("x.pt"), Edit("manifest.json", "remove")], indexed=True) as root:
        assert not (root / "manifest.json").exists()
    assert Folder(folder.root).files == before


@pytest.mark.parametrize("family", FAMILIES)
def test_any_damage_is_answered(folder, ledger, family):
    """Findings or one line, never a traceback; the report fits its schema, and the format changes no exit code."""

    @settings(
        max_examples=-(-CASES // len(FAMILIES)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.data())
    def one(data):
        edits = FAMILIES[family](data.draw, folder.files)
        note(repr(edits))
        level, form = data.draw(st.sampled_from(LEVELS)), data.draw(st.sampled_from(FORMATS))
        before = peak()
        with folder.damaged(edits, indexed=data.draw(st.booleans())) as root:
            slowest = hold(root, level, form)
            if NIGHTLY and slowest.seconds > MOST_SECONDS:
                slowest = hold(root, level, form)  # once more: another process may have been in the way
        grown = peak() - before
        ledger.add(family, slowest.code, slowest.seconds, edits)
        ledger.megabytes = max(ledger.megabytes, grown)
        assert not NIGHTLY or slowest.seconds <= MOST_SECONDS, (slowest.seconds, edits)
        assert not NIGHTLY or grown <= MOST_MEGABYTES, (grown, edits)

    one()
