"""Garbage collection is put off while large documents are read, and comes back whatever happens."""

import gc

import pytest

from saereg.schemas.garbage import collected_later


def test_collection_is_off_inside_and_on_after():
    """Also where one block stands in another."""
    with collected_later():
        with collected_later():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_an_error():
    """The error goes on."""
    with pytest.raises(KeyError), collected_later():
        raise KeyError
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off():
    """Some programs collect when they see fit."""
    gc.disable()
    try:
        with collected_later():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
