"""A release as a page that one can explore: one folder, no server, no network."""

from saereg.publishers.site.contents import Wanted
from saereg.publishers.site.make import Site, make_site

__all__ = ["Site", "Wanted", "make_site"]
