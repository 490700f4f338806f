"""Loss floors: the law L(n) = L∞ + a·n^−b fitted to early snapshots; see `docs/floors.md`.

`fit.floors_of` is the door. `series` and `logged` find curves; `law`, `joint_law`, `noise` and `bootstrap` are the
mathematics, on arrays; `fitting` and `joint` make of both what `saereg.schemas.floors` says.
"""
