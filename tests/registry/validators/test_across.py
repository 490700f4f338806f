"""Rules that compare artifacts with each other, on the names and figures of real releases."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.files.natural import natural_key
from saereg.registry.files.place import FolderPlace
from saereg.registry.naming import architectures_of, tokens_of
from saereg.registry.validators.checks import across, naming, numbers
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest
from saereg.schemas.schedule import PYTHIA
from tests.registry.validators.trajectory import INVENTORY

DIGEST = "0" * 64


def subject(
    root: Path, artifacts: list[dict], measured: dict[str, dict] | None = None, **more: object
) -> ReleaseSubject:
    """Return a release of documents alone: what these rules look at."""
    base = {
        "release": {
            "name": "real",
            "version": "1.0.0",
            "title": "Names and figures of a real release",
            "license": "mit",
        },
        "base_models": {"m": {"id": "org/model"}},
        "sites": {"W_U": {"model": "m", "stream": "parameter", "parameter": "W_U"}},
    }
    manifest = Manifest.from_text(canonical(base | more | {"artifacts": artifacts}))
    (root / "manifest.json").write_text(manifest.text())
    if measured is not None:
        entries = [
            index_entry(i, a["id"], a["path"], measured.get(a["id"], {}), a.get("weights"))
            for i, a in enumerate(artifacts)
        ]
        document = {"generated_by": {}, "manifest_sha256": DIGEST, "files": [], "artifacts": entries}
        (root / "index.json").write_text(canonical(document))
    release = ReleaseSubject(FolderPlace(root))
    assert release.document_problems == {"manifest.json": [], "index.json": []}
    return release


def index_entry(position: int, identifier: str, path: str, metrics: dict[str, float], weights: str | None) -> dict:
    weights = weights or f"{position:064x}"
    common = {"evaluation": "held-out", "data_sha256": DIGEST, "rows": 4096, "dtype": "float32", "tool": {}}
    return {
        "id": identifier,
        "files": [{"path": f"{path}/sae_weights.safetensors", "size": 1, "sha256": weights, "role": "weights"}],
        "tensors": {},
        "dtype": "float32",
        "semantics": {
            "pre_encoder_subtraction": "none",
            "activation": "relu",
            "gate_quantity": "pre_activation",
            "threshold": "none",
            "threshold_units": "none",
            "normalization": {},
        },
        "metrics": [common | {"metric": metric, "value": value} for metric, value in metrics.items()],
    }


def sae(identifier: str, **fields: object) -> dict:
    return {
        "id": identifier, "path": identifier, "kind": "sae", "architecture": "standard", "site": "W_U", "d_in": 768,
        "d_sae": 8192,
    } | fields  # fmt: skip


def claims(explained_variance: float, l0: float, kind: str = "recomputed") -> list[dict]:
    return [
        {"metric": "explained_variance", "value": explained_variance, "kind": kind},
        {"metric": "l0", "value": float(l0), "kind": kind},
    ]


def trajectory() -> list[dict]:
    """The inventory of the real release, with the fields that its names speak of."""
    artifacts = []
    for identifier, d_sae, seed, ev, l0 in INVENTORY:
        model, matrix, folder = identifier.split("/")[:3]
        fields = {"d_sae": d_sae, "seed": seed, "claims": claims(ev, l0), "variant": f"{model}/{folder}"}
        if lam := re.search(r"lam(\d)p(\d+)", identifier):
            fields["sparsity"] = {"l1_coefficient": float(f"{lam[1]}.{lam[2]}")}
        if step := re.search(r"step(\d+)$", identifier):
            artifacts.append(sae(identifier, site=f"step-{step[1]}", **fields))
        elif "saes" in folder:
            artifacts.append(sae(identifier, **fields))
        else:
            count = 16 if "snapshot-16" in folder else 32
            crosscoder = {"kind": "crosscoder", "format": "saereg", "architecture": "jumprelu"}
            crosscoder["architecture"] = next((a for a in ("batchtopk", "gated") if f"/{a}" in identifier), "jumprelu")
            artifacts.append(
                sae(identifier, **fields)
                | crosscoder
                | {
                    "sources": {
                        "axis": "snapshot",
                        "site": f"{model}-{matrix}",
                        "steps": list(PYTHIA[::-1][:count][::-1]),
                    }
                }
            )
            del artifacts[-1]["site"]
    return artifacts


def trajectory_documents(artifacts: list[dict]) -> dict:
    steps = [a["site"].removeprefix("step-") for a in artifacts if a.get("site", "").startswith("step-")]
    models = {f"pythia-{step}": {"id": "EleutherAI/pythia-160m", "step": int(step)} for step in steps}
    parameter = {"stream": "parameter", "parameter": "W_U"}
    sites = {f"step-{step}": parameter | {"model": f"pythia-{step}"} for step in steps}
    keys = {a["sources"]["site"] for a in artifacts if "sources" in a} | {"W_U"}
    return {
        "base_models": models | {"m": {"id": "org/model", "step": 143000}},
        "sites": sites | {key: parameter | {"model": "m"} for key in keys},
    }


@pytest.fixture
def real(tmp_path) -> ReleaseSubject:
    """The real release as it was published."""
    artifacts = trajectory()
    return subject(tmp_path, artifacts, **trajectory_documents(artifacts))


def test_the_failed_run_is_found_and_nothing_else(real):
    """EV 0.214 among 0.53 to 0.83; its retuned sibling and the sparse end of the lambda sweep are no failures."""
    (finding,) = across.failures_flagged(real)

    assert (finding.code, finding.severity) == ("SR432", "error")
    assert finding.artifact == "pythia-160m/W_U/architecture-comparison/d8192/gated/seed0"
    assert "its explained variance is 0.214, that of its 14 siblings" in finding.message


def test_the_failed_run_may_stay_once_it_says_so(tmp_path):
    """With a reason it is silent, and its retuned sibling may not say the same."""
    artifacts = trajectory()
    for artifact in artifacts:
        if "/gated" in artifact["id"]:
            artifact["expected_failure"] = "lambda 0.3 does not carry over"

    (finding,) = across.failures_flagged(subject(tmp_path, artifacts, **trajectory_documents(artifacts)))

    assert finding.code == "SR434"
    assert finding.artifact == "pythia-160m/W_U/architecture-comparison/d8192/gated-retuned/seed0"


def test_nine_snapshots_with_one_pair_of_figures_are_found(real):
    """Claims that differ in more than the seed; five seeds that agree in three digits are honest."""
    (finding,) = across.metrics_differ(real)

    assert finding.code == "SR403"
    assert "(9 artifacts) all claim explained_variance 0.729 and l0 1150" in finding.message
    assert finding.message.count("per-snapshot-saes/d8192/step") == 5


def test_steps_in_the_order_of_their_digits_are_found_once(real):
    """Sizes and steps of the card are sorted as text; one finding says so."""
    (finding,) = naming.natural_order(real)

    assert (finding.code, finding.fixable) == ("SR114", "safe")
    assert "stands before" in finding.message


def test_names_of_a_real_release_say_what_its_fields_say(real):
    """70 ids with layers, widths, seeds, lambdas, steps and numbers of sources, all right."""
    assert list(naming.names_match_fields(real)) == []
    assert list(naming.names_agree(real)) == []


def residual(layer: int, **more: object) -> dict:
    return {"model": "m", "layer": layer, "module": f"model.layers.{layer}"} | more


S4 = [
    ("layer_07/width_131k/topk_64_raw", 7, 131072, 64), ("layer_07/width_163k/topk_64_layernorm", 7, 163840, 64),
    ("layer_15/width_163k/topk_64_raw", 15, 163840, 64), ("layer_15/width_163k/topk_64_layernorm", 15, 163840, 64),
    ("layer_23/width_163k/topk_64_raw", 23, 163840, 64), ("layer_23/width_163k/topk_128_raw", 23, 163840, 128),
    ("layer_31/width_163k/topk_128_raw", 31, 163840, 128),
]  # fmt: skip
"""Id, layer, latents and k of a real release of TopK SAEs."""

OTHERS = [
    ("layer_0/width_16k/average_l0_105", 0, 16384, {}), ("layer_20/width_1m/average_l0_19", 20, 1048576, {}),
    ("layer_12/width_65k/average_l0_72", 12, 65536, {}), ("layer_12/width_262k/average_l0_11", 12, 262144, {}),
    ("layer_12/width_524k/canonical", 12, 524288, {}), ("layer_17_width_16k_l0_big_affine", 17, 16384, {}),
    ("Llama3_1-8B-Base-L0R-8x", 0, 32768, {}), ("Llama3_1-8B-Base-L15M-32x", 15, 131072, {}), ("l0r_8x", 0, 32768, {}),
    ("l15a_32x", 15, 131072, {}), ("blocks.8.hook_resid_pre_768", 8, 768, {}), ("v5_32k_layer_0.pt", 0, 32768, {}),
    ("blocks.12.hook_resid_post__trainer_3", 12, 4096, {}), ("gemma_2b_blocks.10.hook_resid_post_16384", 10, 16384, {}),
    ("transcoder/8x/k128/layer12_transcoder_8x_k128", 12, 16384, {"sparsity": {"k": 128.0}}),
    ("gemma-2-2b_topk_width-2pow12_date-1109/resid_post_layer_12/trainer_0", 12, 4096, {}),
    ("layer_9/width_262k_l0_medium_seed_1", 9, 262144, {"seed": 1}), ("blocks.8.hook_resid_pre", 7, 24576, {}),
    ("matryoshka_batch_top_k/layer_3", 3, 16384, {"architecture": "jumprelu"}), ("relu_L1/layer_6", 6, 3072, {}),
    ("batch_topk_50/seed2", 5, 3072, {"architecture": "batchtopk", "seed": 2, "sparsity": {"k": 50.0}}),
]  # fmt: skip
"""Ids of Gemma Scope, Llama Scope, SAEBench and others, with layer, latents and what else their fields say."""


def test_real_names_with_right_fields_are_silent(tmp_path):
    """Three public releases in one: sae_layer05_final, layer_07/width_131k/topk_64_raw, layer_20/width_1m and so on."""
    sites = {f"L{layer}": residual(layer) for layer in range(32)}
    artifacts = [sae(name, site=f"L{layer}", d_sae=d_sae, d_in=768, **more) for name, layer, d_sae, more in OTHERS]
    for name, layer, d_sae, k in S4:
        artifacts.append(sae(name, site=f"L{layer}", architecture="topk", d_sae=d_sae, sparsity={"k": float(k)}))
    for layer in range(24):
        for snapshot in ("50M", "100M", "150M", "200M", "250M", "final"):
            fields = {"site": f"L{layer}", "snapshot": snapshot, "d_sae": 32768, "sparsity": {"l1_coefficient": 3e-4}}
            name = f"pythia-410m-saes-x32-l1-3e-4-fixed/sae_layer{layer:02d}_{snapshot}"
            artifacts.append(sae(name, **fields) | {"path": f"layer_{layer}/{snapshot}"})
    release = subject(tmp_path, artifacts, sites=sites)

    assert [finding.message for finding in naming.names_match_fields(release)] == []
    assert [finding.message for finding in naming.names_agree(release)] == []


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("layer_12/x", {"site": "L11"}, "says layer_12, but the layer of its site is 11"),
        ("sae_layer05_final", {"site": "L11"}, "says layer05, but the layer of its site is 11"),
        ("Llama3_1-8B-Base-L15R-8x", {"site": "L11"}, "says L15R, but the layer of its site is 11"),
        ("width_163k", {"d_sae": 131072}, "says width_163k, but d_sae is 131072"),
        ("width_16k", {"d_sae": 24576}, "says width_16k, but d_sae is 24576"),
        ("width_1m", {"d_sae": 524288}, "says width_1m, but d_sae is 524288"),
        ("a/d8192/b", {"d_sae": 16384}, "says d8192, but d_sae is 16384"),
        ("topk-64", {"sparsity": {"k": 128.0}, "architecture": "topk"}, "says topk-64, but sparsity.k is 128"),
        ("x/k32", {"sparsity": {"k": 64.0}}, "says k32, but sparsity.k is 64"),
        ("seed0-sparse", {"seed": 1}, "says seed0, but seed is 1"),
        ("lam0p40_x", {"sparsity": {"l1_coefficient": 0.3}}, "says lam0p40, but its sparsity coefficient is 0.3"),
        ("l1_0.3", {"sparsity": {"l1_coefficient": 0.4}}, "says l1_0.3, but its sparsity coefficient is 0.4"),
        ("lambda_8e-05", {"sparsity": {"l1_coefficient": 8e-4}}, "says lambda_8e-05, but its sparsity coefficient"),
        ("x_50M", {"snapshot": "100M"}, "says _50M, but snapshot is 100M"),
        ("x/gated/seed0", {"architecture": "standard"}, "says gated, but architecture is standard"),
        ("topk_64", {"architecture": "standard"}, "says topk, but architecture is standard"),
    ],
)
def test_a_name_that_says_something_else_is_found(tmp_path, name, fields, message):
    """One wrong field each."""
    sites = {"L11": residual(11)}

    (finding,) = naming.names_match_fields(subject(tmp_path, [sae(name, **({"site": "L11"} | fields))], sites=sites))

    assert finding.code == "SR112"
    assert message.replace("_50M", "50M") in finding.message


def test_a_step_in_a_name_is_that_of_the_base_model(tmp_path):
    """Where a release has several snapshots of one model; the step of one site is another one here."""
    artifacts = [sae("step1000", site="step-1000"), sae("step2000", site="step-4000")]
    documents = trajectory_documents([*artifacts])

    (finding,) = naming.names_match_fields(subject(tmp_path, artifacts, **documents))

    assert "says step2000, but the step of its base model is 4000" in finding.message


def test_the_steps_of_a_dictionarys_own_training_are_no_snapshots(tmp_path):
    """One base model at its last step: `step_4882` can only be a checkpoint of the training."""
    models = {"m": {"id": "org/model", "step": 143000}}

    release = subject(tmp_path, [sae("trainer_0_step_0"), sae("trainer_0_step_4882")], base_models=models)

    assert list(naming.names_match_fields(release)) == []


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["layer_1", "layer_10", "layer_2"], True),
        (["layer_1/relu", "layer_1/topk", "layer_10/relu", "layer_2/relu"], True),
        (["b", "step1", "step1000", "step102000", "step2000", "a"], True),
        (["layer_1", "layer_2", "layer_10"], False),
        (["layer_01", "layer_02", "layer_10"], False),
        (["layer_10", "layer_2", "layer_1"], False),  # no order of text
        (["k_256", "k_64", "k_8"], False),  # falling on purpose
        (["gated-retuned/s", "gated/s", "x"], False),  # no number decides
        (["layer_10", "layer_2"], False),
    ],
)
def test_only_text_order_of_numbers_is_found(tmp_path, names, found):
    """Every other order is taken to be meant."""
    findings = list(naming.natural_order(subject(tmp_path, [sae(name) for name in names])))

    assert len(findings) == found


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=12, unique=True))
def test_sorted_by_natural_key_nothing_is_found(numbers):
    """What `--fix` does is what the rule asks for."""
    names = sorted((f"a/step{number}/seed0" for number in numbers), key=natural_key)

    assert naming._sorted_as_text(names) is None
    assert [int(name.split("/")[1].removeprefix("step")) for name in names] == sorted(numbers)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_name_can_be_read_and_ordered(one, other):
    """Whatever an id looks like, it says something or nothing, and stands somewhere."""
    tokens_of(one), architectures_of(one)

    assert (natural_key(one) == natural_key(other)) == (one == other)


def test_weights_under_two_ids_are_named_once(tmp_path):
    """Three seeds of one sha256: one finding with all ids."""
    release = subject(tmp_path, [sae(name) for name in ("a", "b", "c", "d")], {})
    files = [{"path": f"{n}/sae_weights.safetensors", "size": 1, "sha256": DIGEST, "role": "weights"} for n in "abc"]
    entries = [index_entry(i, name, name, {}, None) for i, name in enumerate("abcd", 1)]
    for entry, file in zip(entries, files, strict=False):
        entry["files"] = [file]
    document = {"generated_by": {}, "manifest_sha256": DIGEST, "files": [], "artifacts": entries}
    (tmp_path / "index.json").write_text(canonical(document))

    (finding,) = across.weights_unique(ReleaseSubject(FolderPlace(release.root)))

    assert finding.message == "'a', 'b' and 'c' have the same weights, byte for byte"


def test_a_second_copy_of_weights_is_found(tmp_path):
    """Not an artifact, only a file that costs a second download."""
    release = subject(tmp_path, [sae("a")], {})
    entry = index_entry(7, "a", "a", {}, None)
    entry["files"].append(entry["files"][0] | {"path": "a/backup.safetensors", "role": "other"})
    document = {"generated_by": {}, "manifest_sha256": DIGEST, "files": [], "artifacts": [entry]}
    (tmp_path / "index.json").write_text(canonical(document))

    (finding,) = across.weights_unique(ReleaseSubject(FolderPlace(release.root)))

    assert finding.message == "a/backup.safetensors is a copy of a/sae_weights.safetensors, byte for byte"


def test_without_an_index_weights_are_hashed(tmp_path):
    """Level weights reads the files themselves."""
    release = subject(tmp_path, [sae("a"), sae("b"), sae("c")])
    for name, content in {"a": b"same", "b": b"same", "c": b"else"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "sae_weights.safetensors").write_bytes(content)

    release = ReleaseSubject(FolderPlace(release.root))
    assert list(across.weights_unique(release)) == []
    (finding,) = across.weights_unique_hashed(release)
    assert finding.message == "'a' and 'b' have the same weights, byte for byte"


METRICS = {"explained_variance": 0.7123456789, "fvu": 0.2876543211, "l0": 64.0}


def test_measured_figures_that_agree_in_every_digit_are_found(tmp_path):
    """Different weights, one measurement; other figures are none of its business."""
    figures = {"a": METRICS, "b": METRICS, "c": METRICS | {"explained_variance": 0.7123456788}}

    (finding,) = across.metrics_differ(subject(tmp_path, [sae(name) for name in "abc"], figures))

    assert finding.message == "'a' and 'b' have different weights and exactly the same explained_variance and fvu"


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (claims(0.729, 1150), claims(0.729, 1150), True),
        (claims(0.72, 1150), claims(0.72, 1150), False),  # two digits say nothing
        (claims(0.729, 64), claims(0.729, 64), False),
        (claims(0.729, 1150), claims(0.728, 1150), False),
    ],
)
def test_claims_are_compared_where_they_have_digits(tmp_path, first, second, found):
    """A quality and an L0 of three digits each."""
    artifacts = [sae("a", d_sae=4096, claims=first), sae("b", claims=second)]

    assert len(list(across.metrics_differ(subject(tmp_path, artifacts)))) == found


@pytest.mark.parametrize(("digits", "found"), [((0.776, 203), False), ((0.77612, 203.14), True)])
def test_seeds_need_five_digits(tmp_path, digits, found):
    """Seeds of one setting agree in three by nature."""
    artifacts = [sae(f"seed{seed}", seed=seed, claims=claims(*digits)) for seed in range(4)]

    assert len(list(across.metrics_differ(subject(tmp_path, artifacts)))) == found


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"explained_variance": 0.0}, "its explained variance is 0"),
        ({"explained_variance": -0.3}, "its explained variance is -0.3"),
        ({"explained_variance": 0.6, "l0": 0.0}, "no latent is ever active"),
        ({"explained_variance": 0.6, "l0": 7900.0}, "nearly all latents are always active: its L0 is 7900 of 8192"),
        ({"explained_variance": 0.6, "l0": 32.0, "dead_fraction": 0.995}, "0.995 of its latents are dead"),
        ({"explained_variance": 0.6, "l0": 1.0, "dead_fraction": 0.995}, None),  # 4,096 rows cannot reach 8,192 latents
        ({"explained_variance": 0.05, "l0": 32.0, "dead_fraction": 0.98}, None),
    ],
)
def test_signs_of_failure(tmp_path, metrics, why):
    """Each alone; declared, each is silent, and only what is good may not be declared."""
    findings = list(across.failures_flagged(subject(tmp_path, [sae("a")], {"a": metrics})))
    declared = [sae("a", expected_failure="it is a control")]

    assert [finding.code for finding in findings] == (["SR432"] if why else [])
    assert all(str(why) in finding.message for finding in findings)
    silent = list(across.failures_flagged(subject(tmp_path, declared, {"a": metrics})))
    assert [finding.code for finding in silent] == ([] if why or metrics["explained_variance"] < 0.5 else ["SR434"])


@pytest.mark.parametrize(
    ("values", "failed"),
    [
        ([0.95, 0.9, 0.8, 0.65, 0.45, 0.3, 0.15], 0),  # an honest sweep of lambda
        ([0.9, 0.9, 0.9, 0.3], 1),
        ([0.9, 0.3], 0),  # too few siblings
        ([0.8, 0.81, 0.79, 0.6], 0),
    ],
)
def test_an_outlier_is_far_below_its_siblings(tmp_path, values, failed):
    """Half of the median and five times the spread, among three others or more."""
    artifacts = [sae(f"s{i}") for i in range(len(values))]
    figures = {f"s{i}": {"explained_variance": value} for i, value in enumerate(values)}

    assert len(list(across.failures_flagged(subject(tmp_path, artifacts, figures)))) == failed


@pytest.mark.parametrize(
    ("architecture", "k", "l0", "codes"),
    [
        ("topk", 64, 64.0, []), ("topk", 64, 60.0, []), ("topk", 64, 50.0, ["SR417"]), ("topk", 64, 65.0, ["SR413"]),
        ("batchtopk", 64, 40.0, []), ("batchtopk", 64, 120.0, []), ("batchtopk", 64, 30.0, ["SR417"]),
        ("batchtopk", 64, 130.0, ["SR413"]), ("matryoshka_batchtopk", 64, 100.0, []), ("jumprelu", 64, 3.0, []),
        ("standard", 64, 300.0, []),
    ],
)  # fmt: skip
def test_claimed_l0_against_k(tmp_path, architecture, k, l0, codes):
    """TopK is strict, BatchTopK keeps k on average, all others keep no k."""
    claim = {"metric": "l0", "value": l0, "evaluation": "held-out"}
    release = subject(tmp_path, [sae("a", architecture=architecture, sparsity={"k": float(k)}, claims=[claim])])

    assert [finding.code for finding in numbers.recorded_l0(release.artifacts[0])] == codes
