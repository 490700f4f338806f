"""What an author can claim, and what tells two artifacts apart."""

import json

import pytest

from saereg.errors import DocumentError
from saereg.schemas.document import canonical
from saereg.schemas.manifest import CROSSCODERS, TRANSCODERS, Architecture, Manifest, Sources, identity
from tests.releases import CROSSCODER, _artifact, _manifest

TOPK = _artifact("layer_1/topk", None)


def manifest(*artifacts: dict, **changes: object) -> Manifest:
    return Manifest.from_text(canonical(_manifest(list(artifacts)) | changes))


def of_second(change: dict, **changes: object) -> tuple[dict, dict]:
    """Return the identities of an artifact and of a changed copy of it."""
    both = manifest(TOPK, TOPK | change, **changes)
    return identity(both.artifacts[0], both), identity(both.artifacts[1], both)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"seed": None},
        {"snapshot": "50M"},
        {"variant": "layernorm"},
        {"sparsity": {"k": 4.0}},
        {"sparsity": {"k": 3.0, "l1_coefficient": 0.1}},
        {"d_sae": 11},
        {"architecture": "abstopk"},
        {"site": "block-1-mlp"},
    ],
)
def test_a_field_that_differs_tells_two_artifacts_apart(change):
    """Each of these alone makes another dictionary."""
    first, second = of_second(change)

    assert first != second


@pytest.mark.parametrize(
    "change",
    [{"id": "again"}, {"path": "again"}, {"canonical": True}, {"claims": []}, {"training": {"tokens": 5}}],
)
def test_a_name_or_a_claim_does_not_tell_two_artifacts_apart(change):
    """Two names for one thing are two names for one thing."""
    first, second = of_second(change)

    assert first == second


def test_the_commit_and_the_step_of_the_base_model_are_part_of_the_identity():
    """The same site of two checkpoints of a trajectory is two things."""
    models = {"tiny": {"id": "tiny/model", "step": 0}, "late": {"id": "tiny/model", "step": 1000}}
    site = {"model": "late", "layer": 1, "module": "model.layers.1"}
    sites = _manifest([])["sites"] | {"late": site, "same": site | {"model": "tiny"}}

    first, second = of_second({"site": "late"}, base_models=models, sites=sites)

    assert first["base_models"] == (("tiny/model", None, 0),)
    assert second["base_models"] == (("tiny/model", None, 1000),)


def test_kind_and_sources_are_part_of_the_identity():
    """A crosscoder and an SAE of equal widths are never one; neither are crosscoders of other steps."""
    crosscoder = _artifact("W_U/cross-snapshot-2", None)
    other = crosscoder | {"id": "b", "sources": CROSSCODER["sources"] | {"steps": [0, 2000]}}
    transcoder = _artifact("layer_1/transcoder", None)
    every = manifest(TOPK, crosscoder, other, transcoder)

    identities = [identity(artifact, every) for artifact in every.artifacts]

    assert len({repr(found) for found in identities}) == 4
    assert identities[3]["sites"] == ("block-1", "block-1-mlp")


UNFIT = {
    "snapshot without steps": ({"axis": "snapshot", "site": "W_U"},
                               "axis 'snapshot' needs `site` and `steps`, and no `sites`"),
    "snapshot with sites": ({"axis": "snapshot", "site": "W_U", "steps": [0, 1], "sites": ["a"]},
                            "axis 'snapshot' needs `site` and `steps`, and no `sites`"),
    "steps that fall": ({"axis": "snapshot", "site": "W_U", "steps": [1000, 0]},
                        "`steps` must rise from source to source, as numbers"),
    "steps twice": ({"axis": "snapshot", "site": "W_U", "steps": [5, 5]},
                    "`steps` must rise from source to source, as numbers"),
    "layer without sites": ({"axis": "layer"}, "axis 'layer' needs `sites`, and neither `site` nor `steps`"),
    "model with a site": ({"axis": "model", "sites": ["a"], "site": "b"},
                          "axis 'model' needs `sites`, and neither `site` nor `steps`"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_sources_say_what_they_run_over(name):
    """One site over steps, or several sites; never half of each."""
    sources, message = UNFIT[name]
    artifact = _artifact("W_U/cross-snapshot-2", None) | {"sources": sources}

    with pytest.raises(DocumentError) as caught:
        manifest(artifact)

    assert caught.value.problem == message
    assert caught.value.pointer == "/artifacts/0/sources"


def test_sources_are_counted_and_named():
    """As many sources as steps, or as sites."""
    steps = Sources(axis="snapshot", site="W_U", steps=(0, 1, 2))
    sites = Sources(axis="layer", sites=("a", "b"))

    assert (steps.count, steps.site_keys) == (3, ("W_U",))
    assert (sites.count, sites.site_keys) == (2, ("a", "b"))


@pytest.mark.parametrize("kind", ["sae", "transcoder", "crosscoder"])
@pytest.mark.parametrize("architecture", Architecture.__args__)
def test_a_kind_takes_its_architectures_alone(kind, architecture):
    """A transcoder called an SAE would be compared with its own input."""
    name = {"sae": "layer_1/topk", "transcoder": "layer_1/transcoder", "crosscoder": "W_U/cross-snapshot-2"}[kind]
    fits = {
        "sae": architecture not in TRANSCODERS,
        "transcoder": architecture in TRANSCODERS,
        "crosscoder": architecture in CROSSCODERS,
    }[kind]
    artifact = _artifact(name, None) | {"architecture": architecture}

    if fits:
        assert manifest(artifact).artifacts[0].architecture == architecture
    else:
        with pytest.raises(DocumentError, match=r"^document#/artifacts/0/architecture: "):
            manifest(artifact)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ({"stream": "parameter"}, "a site of stream 'parameter' needs `parameter`, such as 'W_U'"),
        ({"layer": 1}, "a site needs `module` (transformers path) or `hook_name` (TransformerLens)"),
    ],
)
def test_a_site_names_a_place(site, message):
    """A layer alone could be five tensors."""
    with pytest.raises(DocumentError) as caught:
        manifest(sites={"here": {"model": "tiny"} | site})

    assert caught.value.problem == message


def test_the_schema_key_of_editors_is_kept():
    """`$schema` is written back under its own name."""
    text = manifest(**{"$schema": "https://example.org/manifest.json"}).text()

    assert json.loads(text)["$schema"] == "https://example.org/manifest.json"
