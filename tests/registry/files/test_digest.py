"""Digests: of files, of texts, of trees."""

import hashlib
import random

import pytest

from saereg.registry.files.digest import BLOCK, sha256_of, sha256_text, tree_digest


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path, size):
    """Whatever the size against the block."""
    raw = random.Random(size).randbytes(size)
    (tmp_path / "x").write_bytes(raw)

    assert sha256_of(tmp_path / "x") == hashlib.sha256(raw).hexdigest()


def test_the_digest_of_a_text_is_that_of_its_utf_8():
    """So a manifest's digest is that of its file."""
    assert sha256_text("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()


def test_the_digest_of_a_tree_does_not_depend_on_order():
    """But on every path, size and digest."""
    files = [("a", 1, "0" * 64), ("b", 2, "1" * 64)]

    assert tree_digest(files) == tree_digest(reversed(files))
    others = [[("b", 1, "0" * 64), files[1]], [("a", 3, "0" * 64), files[1]], [("a", 1, "2" * 64), files[1]], files[:1]]
    assert len({tree_digest(files), *map(tree_digest, others)}) == 5
