"""Values as text: reports, tables, sizes. No logic but layout."""
