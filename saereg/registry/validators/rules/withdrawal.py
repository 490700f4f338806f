"""SR435 and SR436: what the author takes back."""

from saereg.registry.validators.rules.text import RuleText


class SR435(RuleText):
    """A withdrawn artifact is flagged canonical.

    Artifacts of the manifest's own version with a mark in `withdrawn` of their own, yanked or deprecated, and
    `canonical: true`. Where the whole version is withdrawn, its flags are not looked at.

    Why: Most people load the canonical dictionary of a layer and never look at another one. Here the author says that
    it is the one to take, and that it is not to be taken.

    Fix: Move the flag to another artifact, or take the mark back with `saereg yank --undo` or
    `saereg deprecate --undo`.

    Bad: manifest.json
        {
          "withdrawn": [{"version": "1.0.0", "artifact": "layer_6/topk_64", "kind": "yanked"}],
          "artifacts": [{"id": "layer_6/topk_64", "canonical": true}, {"id": "layer_6/topk_128"}]
        }

    Good: manifest.json
        {
          "withdrawn": [{"version": "1.0.0", "artifact": "layer_6/topk_64", "kind": "yanked"}],
          "artifacts": [{"id": "layer_6/topk_64"}, {"id": "layer_6/topk_128", "canonical": true}]
        }
    """

    severity = "warning"
    level = "layout"


class SR436(RuleText):
    """A mark of withdrawal leads nowhere.

    Each entry of `withdrawn` in manifest.json: its artifact and its successor are artifacts of the manifest where the
    version is the manifest's own; the successor is not the withdrawn artifact, and is not yanked itself; and no other
    entry is on the same version and artifact. Successors in other repositories are not looked at, nor what older
    versions held.

    Why: A reader who is told not to use a dictionary, and is sent to one that does not exist or is wrong too, takes
    what he has. Of two marks on one thing, programs follow one and people read the other.

    Fix: Mark it again with `saereg yank` or `saereg deprecate`: they refuse what is reported here, and name the id that
    may have been meant.

    Bad: manifest.json
        {
          "withdrawn": [{"version": "1.0.0", "artifact": "layer_6/topk_64", "successor": "layer_6/topk128"}],
          "artifacts": [{"id": "layer_6/topk_64"}, {"id": "layer_6/topk_128"}]
        }

    Good: manifest.json
        {
          "withdrawn": [{"version": "1.0.0", "artifact": "layer_6/topk_64", "successor": "layer_6/topk_128"}],
          "artifacts": [{"id": "layer_6/topk_64"}, {"id": "layer_6/topk_128"}]
        }
    """

    severity = "error"
    level = "layout"


RULES = (SR435, SR436)
