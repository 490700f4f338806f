"""On which evaluations a dictionary is measured, and in which order."""

from saereg.registry.recompute.choosing import evaluations_of
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import Manifest, TrainingFacts
from tests.releases import tiny_release


def test_the_data_set_that_it_was_trained_on_comes_first(tmp_path):
    """Of two corpora at one site the number that stands for a dictionary is the one at home, whatever their names."""
    root = tiny_release(tmp_path)
    manifest = Manifest.read(root / "manifest.json")
    claim = next(one for one in manifest.artifacts if one.id == "layer_1/topk")
    rows = {"rows": 8, "site": claim.site, "path": "evaluation/x.safetensors", "source": "activations"}
    there = {name: ActivationRows(**rows, dataset=name) for name in ("code", "prose")}
    manifest = manifest.model_copy(update={"evaluations": there})

    def order(home):
        trained = claim.model_copy(update={"training": TrainingFacts(dataset=home), "claims": ()})
        return list(evaluations_of(trained, manifest, root, (claim.d_in,)))

    assert order("prose") == ["prose", "code"]
    assert order("code") == ["code", "prose"]
    assert order(None) == order("another") == ["code", "prose"]
