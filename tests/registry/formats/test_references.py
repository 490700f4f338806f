"""A reference is the publisher's forward, from files alone: it must differ from every reading that is mistaken."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from sparsify import SparseCoder, SparseCoderConfig

from saereg.errors import WeightsError
from saereg.registry.conversion.proof import golden_proof
from saereg.registry.formats import FORMATS
from saereg.registry.loading import read
from saereg.registry.readings.reading import Reading, told
from saereg.registry.readings.source import open_source
from saereg.schemas.cfg_crosscoder import InputStatistics
from saereg.schemas.recipe import TRANSPOSE, Step, constant, moved, scaled
from saereg.schemas.semantics import Normalization
from tests.registry.formats import test_circuit_tracer as tracer
from tests.registry.formats import test_circuit_tracer_clt as tracer_clt
from tests.registry.formats import test_dictionary_learning as learning
from tests.registry.formats import test_dictionary_learning_units as units
from tests.registry.formats import test_gemma_scope as gemma
from tests.registry.formats import test_gemma_scope_2 as gemma_2
from tests.registry.formats import test_llama_scope as llama
from tests.registry.formats import test_llama_scope_r1 as llama_r1
from tests.registry.formats import test_llamascopium as scopium
from tests.registry.formats import test_mlsae as mlsae
from tests.registry.formats import test_model_diff as model_diff
from tests.registry.formats import test_olmo_builder as olmo
from tests.registry.formats import test_openai as openai
from tests.registry.formats import test_parameter_trajectory as trajectory
from tests.registry.formats import test_saelens_legacy as legacy
from tests.registry.formats import test_small_formats as small
from tests.registry.formats import test_sof_crosscoder as sof
from tests.registry.formats import test_state_dict as state_dict
from tests.registry.formats import test_temporal_sae as temporal
from tests.upstream import D, F, K, random

WIDE = 30
"""A k with which negative latents are kept, where they are not set to 0."""

Mistake = Callable[[Reading], Reading]
"""A reading → the one that a reader with a mistake returns."""


def rules(**changes: object) -> Mistake:
    """Return the mistake of other switches."""
    return lambda reading: fields(semantics=reading.cfg.semantics.model_copy(update=changes))(reading)


def fields(**changes: object) -> Mistake:
    """Return the mistake of other fields of the configuration, which is not checked again."""
    return lambda reading: replace(reading, cfg=reading.cfg.model_copy(update=changes))


def recipe(name: str, *steps: Step) -> Mistake:
    """Return the mistake of more steps in a recipe."""

    def changed(reading: Reading) -> Reading:
        right = reading.plan[name]
        return replace(reading, plan={**reading.plan, name: right.model_copy(update={"steps": (*right.steps, *steps)})})

    return changed


def dropped(*names: str) -> Mistake:
    """Return the mistake of forgotten tensors."""
    return lambda reading: replace(reading, plan={n: r for n, r in reading.plan.items() if n not in names})


def also(*mistakes: Mistake) -> Mistake:
    """Return several mistakes at once, of which none would run without the others."""

    def changed(reading: Reading) -> Reading:
        for mistake in mistakes:
            reading = mistake(reading)
        return reading

    return changed


LAYER_NORM = Normalization(kind="layer_norm", statistics="per_row", inverted_on_output=True)
FORGOTTEN = {"normalization forgotten": rules(normalization=Normalization())}
INVENTED = {"normalization invented": rules(normalization=LAYER_NORM)}
SUBTRACTED = {"b_dec subtracted": rules(pre_encoder_subtraction="b_dec")}
NOT_SUBTRACTED = {"b_dec not subtracted": rules(pre_encoder_subtraction="none")}
BY_NORM = {"ranked by norm": rules(gate_quantity="pre_times_decoder_norm")}
BY_PRE = {"norm forgotten": rules(gate_quantity="pre_activation", latents_scaled_by_decoder_norm=False)}
NEGATIVE = {"negative latents kept": rules(rectified=False)}
RECTIFIED = {"negative latents dropped": rules(rectified=True)}
SPARSE = {"TopK": rules(activation="topk", k=float(K))}
DENSE = {"ReLU": rules(activation="relu")}
OTHER_K = {"k too large": rules(k=K + 1.0), "k too small": rules(k=K - 1.0)}
CUT = {"threshold scaled": recipe("threshold", scaled(0.8))}
SCALED = {f"{name} scaled": recipe(name, scaled(1.1)) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
BALANCED = {
    "encoder scaled against decoder": also(
        recipe("W_enc", scaled(2.0)), recipe("b_enc", scaled(2.0)), recipe("W_dec", scaled(0.5))
    )
}
TRANSPOSED = {f"{name} transposed": recipe(name, TRANSPOSE) for name in ("W_enc", "W_dec")}
SKIPPED = {"skip forgotten": dropped("W_skip"), "skip transposed": recipe("W_skip", TRANSPOSE)}
TOPK = OTHER_K | DENSE | INVENTED | SCALED | BY_NORM
RELU = SPARSE | INVENTED | SCALED | BALANCED
JUMPRELU = DENSE | INVENTED | SCALED | CUT


@dataclass(frozen=True)
class Case:
    """Files of a layout, and the mistakes that a reader could make with them.

    Attributes:
        layout: name of the layout.
        write: folder → path of what was written to it.
        mistakes: name → mistake, each of which changes the function.
        given: what the files do not say.
    """

    layout: str
    write: Callable[[Path], Path]
    mistakes: Mapping[str, Mistake]
    given: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def coder(folder: Path, signed: bool = False, **config: object) -> Path:
    """Write a coder of sparsify, of a version before 1.0 where it is signed."""
    made = SparseCoder(D, SparseCoderConfig(**{"num_latents": F, "k": K, **config}))
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    made.save_to_disk(folder)
    if signed:
        path = folder / "cfg.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"signed": True}))
    return folder


def trained(folder: Path, name: str, threshold: float = learning.THRESHOLD, config: bool = True) -> Path:
    """Write a dictionary of dictionary_learning."""
    return learning.saved(folder, learning.made(name, threshold), learning.settings(name) if config else None)


def backup(folder: Path, name: str) -> Path:
    """Write a backup of dictionary_learning, in units of scaled inputs."""
    saved = units.backup(learning.made(name), norm_factor=units.FACTOR)
    return learning.saved(folder, saved, learning.settings(name))


def with_statistics(folder: Path) -> Path:
    """Write a BatchTopK of the fork of dictionary_learning, with statistics of its inputs."""
    extra = units.statistics(random(D, seed=50), random(D, seed=51).abs() + 0.1)
    state = learning.made("BatchTopKSAE", 0.05).state_dict()
    return learning.saved(folder, state | extra, learning.settings("BatchTopKSAE"))


def script(folder: Path, latents: int = F) -> Path:
    """Write what a training script saves."""
    folder.mkdir()
    return state_dict.saved(folder / "sae.pt", state_dict.Script(D, latents).state_dict())


def qwen(folder: Path) -> Path:
    """Write a layer of Qwen Scope."""
    folder.mkdir()
    torch.save(small.QWEN, folder / "layer3.sae.pt")
    return folder / "layer3.sae.pt"


def kissane(folder: Path) -> Path:
    """Write an attention SAE on hook_z, of as many latents as inputs."""
    folder.mkdir()
    square = {"W_enc": random(D, D, seed=1), "W_dec": random(D, D, seed=2)}
    return small.kissane(folder, square | {"b_enc": random(D, seed=3), "b_dec": random(D, seed=4)}, dict_size=D)


def unset_decoupled(folder: Path) -> Path:
    """Write a BatchTopK crosscoder of DECOUPLED code norm, whose thresholds were never set."""
    weights = sof.tensors("DECOUPLED", statistics=True)
    return sof.local(folder, weights | {"threshold": torch.full((sof.SOURCES,), -1.0)})


def prepared(folder: Path) -> Path:
    """Write an original of a crosscoder of a parameter, with statistics of its rows."""
    folder.mkdir()
    stats = {"mean": random(trajectory.SNAPSHOTS, 1, D, seed=8), "scale": torch.tensor([0.5, 2.0, 3.0])[:, None, None]}
    outer = trajectory.document(training={"input_preprocess": "center_scale"})
    torch.save(outer | {"state_dict": trajectory.tensors(), "preprocess_stats": stats}, folder / "seed0.pt")
    return folder / "seed0.pt"


PLAIN = {"normalization": "none", "pre_encoder_subtraction": "none"}
STATISTICS = {
    "statistics forgotten": also(
        fields(statistics=InputStatistics(preprocess="none")), dropped("input_mean", "input_scale")
    )
}
ONE_GATE = {"one gate": fields(gate="shared", code_norm="none")}
NO_NORM = {"norm forgotten": fields(code_norm="none")}
NO_CUT = {"ReLU": fields(architecture="standard", gate="shared", code_norm="none")}
RANKED = {"TopK": fields(architecture="topk", k=float(K))}
LATER = {"later layers alone": also(fields(writes="same_and_later"), dropped("W_dec.1.0", "W_dec.2.0", "W_dec.2.1"))}
LAYERS = {f"{name} scaled": recipe(name, scaled(1.1)) for name in ("W_enc.1", "b_enc.1", "W_dec.0.1", "b_dec.1")}
ONCE = {
    "normalized once": lambda r: replace(
        r, plan={**r.plan, "W_enc": moved("encoder.weight"), "b_enc": moved("encoder.bias")}
    )
}
ATTENTION = [f"attn_layers.1.{n}.{w}" for n in ("k_ctx", "q_target", "v_ctx", "c_proj") for w in ("weight", "bias")]
FOLDED = {"scale forgotten": also(recipe("W_enc", scaled(0.5)), recipe("W_dec", scaled(2.0)))}

CASES = {
    "sparsify, topk": Case("sparsify", coder, TOPK | NOT_SUBTRACTED),
    "sparsify, large k": Case("sparsify", lambda f: coder(f, k=WIDE), NEGATIVE),
    "sparsify, groupmax": Case("sparsify", lambda f: coder(f, k=6, activation="groupmax"), SPARSE | DENSE | INVENTED),
    "sparsify, signed": Case(
        "sparsify", lambda f: coder(f, signed=True), TOPK | {"unsigned": rules(activation="topk")}
    ),
    "sparsify, square": Case("sparsify", lambda f: coder(f, num_latents=D), TRANSPOSED),
    "sparsify, skip transcoder": Case(
        "sparsify", lambda f: coder(f, transcode=True, skip_connection=True), TOPK | SUBTRACTED | SKIPPED
    ),
    "AutoEncoder": Case(
        "dictionary_learning", lambda f: trained(f, "AutoEncoder", config=False), RELU | NOT_SUBTRACTED
    ),
    "AutoEncoderNew": Case("dictionary_learning", lambda f: trained(f, "AutoEncoderNew"), RELU | SUBTRACTED),
    "AutoEncoderTopK": Case("dictionary_learning", lambda f: trained(f, "AutoEncoderTopK"), TOPK | NOT_SUBTRACTED),
    "BatchTopKSAE": Case(
        "dictionary_learning", lambda f: trained(f, "BatchTopKSAE"), JUMPRELU | NOT_SUBTRACTED | SPARSE
    ),
    "BatchTopKSAE, statistics": Case(
        "dictionary_learning", with_statistics, FORGOTTEN | {"mean scaled": recipe("input_mean", scaled(0.5))}
    ),
    "BatchTopKSAE, never set": Case(
        "dictionary_learning", lambda f: trained(f, "BatchTopKSAE", -1.0), TOPK, {"unset_threshold": "topk"}
    ),
    "BatchTopKSAE, never set, ReLU": Case(
        "dictionary_learning", lambda f: trained(f, "BatchTopKSAE", -1.0), RELU, {"unset_threshold": "relu"}
    ),
    "Matryoshka": Case(
        "dictionary_learning", lambda f: trained(f, "MatryoshkaBatchTopKSAE", config=False), JUMPRELU | NOT_SUBTRACTED
    ),
    "GatedAutoEncoder": Case(
        "dictionary_learning",
        lambda f: trained(f, "GatedAutoEncoder", config=False),
        NOT_SUBTRACTED | INVENTED | {f"{n} scaled": recipe(n, scaled(0.5)) for n in ("r_mag", "b_mag", "b_gate")},
    ),
    "JumpReluAutoEncoder": Case(
        "dictionary_learning", lambda f: trained(f, "JumpReluAutoEncoder"), JUMPRELU | SUBTRACTED
    ),
    "backup of training": Case(
        "dictionary_learning",
        lambda f: backup(f, "BatchTopKSAE"),
        CUT | {f"{n} in other units": recipe(n, scaled(1 / units.FACTOR)) for n in ("b_enc", "b_dec")},
    ),
    "Gemma Scope": Case("gemma_scope", lambda f: gemma.save(f, gemma.params()), JUMPRELU | SUBTRACTED | BY_NORM),
    "Gemma Scope, embedding": Case(
        "gemma_scope", lambda f: gemma.save(f, gemma.params()), FOLDED, {"site": "embedding"}
    ),
    "Gemma Scope 2": Case("gemma_scope_2", gemma_2.save, JUMPRELU | SUBTRACTED | BY_NORM),
    "Gemma Scope 2, affine": Case("gemma_scope_2", lambda f: gemma_2.save(f, affine=True), JUMPRELU | SKIPPED),
    "Gemma Scope 2, layers": Case("gemma_scope_2", gemma_2.save_several, LAYERS | LATER | DENSE),
    "Gemma Scope 2, later layers": Case(
        "gemma_scope_2",
        gemma_2.save_several,
        {"scaled": recipe("W_dec.0.2", scaled(1.1))},
        {"writes": "same_and_later"},
    ),
    "Llama Scope, jumprelu": Case("llama_scope", llama.save, JUMPRELU | SUBTRACTED | BY_PRE | FOLDED),
    "Llama Scope, topk": Case(
        "llama_scope",
        lambda f: llama.save(f, **llama.VARIANTS["topk"], apply_decoder_bias_to_pre_encoder=True),
        OTHER_K | DENSE | INVENTED | SCALED | BY_PRE | NOT_SUBTRACTED,
    ),
    "Llama Scope, transcoder": Case("llama_scope", lambda f: llama.save(f, **llama.TRANSCODER), JUMPRELU | FOLDED),
    "Llama Scope, negative threshold": Case(
        "llama_scope", lambda f: llama.save(f, jump_relu_threshold=-1.0), RECTIFIED
    ),
    "Llama Scope, token-wise": Case(
        "llama_scope", lambda f: llama.save(f, norm_activation="token-wise", act_fn="relu"), FORGOTTEN | SCALED
    ),
    "Llama Scope R1": Case("llama_scope_r1", llama_r1.save, JUMPRELU | SUBTRACTED | BY_PRE | FOLDED),
    "Llama Scope R1, transcoder": Case(
        "llama_scope_r1", lambda f: llama_r1.save(f, hook_point_out=llama_r1.OUT), JUMPRELU | BY_PRE | FOLDED
    ),
    "Llama Scope R1, norm given": Case(
        "llama_scope_r1", lambda f: llama_r1.save(f, norms={}), CUT | FOLDED, {"activation_norm": 4.65}
    ),
    "llamascopium, jumprelu": Case(
        "llamascopium",
        lambda f: scopium.write(f, scopium.config(act_fn="jumprelu", norm="dataset-wise", transcoder=True)),
        JUMPRELU | BY_PRE | SUBTRACTED | FOLDED,
    ),
    "llamascopium, topk": Case(
        "llamascopium",
        lambda f: scopium.write(f, scopium.config(act_fn="topk")),
        OTHER_K | DENSE | INVENTED | SCALED | BY_PRE | {"stored": rules(latents_scaled_by_decoder_norm=True)},
    ),
    "llamascopium, norm given": Case(
        "llamascopium",
        lambda f: scopium.write(f, scopium.config(act_fn="topk", norm="dataset-wise")),
        FOLDED | {"not stored": rules(latents_scaled_by_decoder_norm=False)},
        {"input_norm": 4.0, "latents_times_decoder_norm": "true"},
    ),
    "llamascopium, token-wise": Case(
        "llamascopium", lambda f: scopium.write(f, scopium.config(norm="token-wise")), FORGOTTEN | SPARSE
    ),
    "llamascopium, crosscoder": Case(
        "llamascopium",
        lambda f: scopium.write(f, scopium.config("crosscoder", "jumprelu", "dataset-wise")),
        ONE_GATE | CUT | STATISTICS | SCALED,
    ),
    "llamascopium, CLT": Case(
        "llamascopium",
        lambda f: scopium.write(f, scopium.config("clt", "jumprelu", "dataset-wise")),
        LAYERS | DENSE | {"threshold scaled": recipe("threshold.1", scaled(0.8))},
    ),
    "circuit-tracer, relu": Case(
        "circuit_tracer", lambda f: tracer.save(f, tracer.weights(skip=True)), RELU | SKIPPED | SUBTRACTED
    ),
    "circuit-tracer, topk": Case(
        "circuit_tracer", lambda f: tracer.save(f, tracer.weights(), activation="topk", k=WIDE), RECTIFIED | DENSE
    ),
    "circuit-tracer, k given": Case(
        "circuit_tracer", lambda f: tracer.save(f, tracer.weights()), TOPK, {"activation": "topk", "k": K}
    ),
    "circuit-tracer, negative thresholds": Case(
        "circuit_tracer",
        lambda f: tracer.save(f, tracer.weights(**tracer.KINDS["negative thresholds"])),
        RECTIFIED | JUMPRELU,
    ),
    "circuit-tracer, square": Case(
        "circuit_tracer", lambda f: tracer.save(f, tracer.weights(latents=D)), TRANSPOSED, {"decoder_rows": "latents"}
    ),
    "circuit-tracer, CLT": Case(
        "circuit_tracer_clt",
        lambda f: tracer_clt.save(f, thresholds=-0.4, skip=True),
        LAYERS | DENSE | RECTIFIED | {"skip transposed": recipe("W_skip.1", TRANSPOSE)},
    ),
    "OpenAI, topk": Case(
        "openai",
        lambda f: openai.saved(f, openai.state()),
        OTHER_K | DENSE | SCALED | BY_NORM | FORGOTTEN | NOT_SUBTRACTED,
    ),
    "OpenAI, large k": Case("openai", lambda f: openai.saved(f, openai.state(k=WIDE)), NEGATIVE),
    "OpenAI, negative latents": Case(
        "openai", lambda f: openai.saved(f, openai.state(k=WIDE, postact="Identity")), RECTIFIED
    ),
    "OpenAI, relu": Case("openai", lambda f: openai.saved(f, openai.state("ReLU", tied=True)), RELU | NOT_SUBTRACTED),
    "OpenAI, told": Case("openai", lambda f: openai.saved(f, openai.state()), TOPK, {"normalize": "false"}),
    "OLMo builder": Case("olmo_builder", lambda f: olmo.saved(f, olmo.checkpoint()), TOPK | NOT_SUBTRACTED),
    "OLMo builder, normalized": Case(
        "olmo_builder", lambda f: olmo.saved(f, olmo.checkpoint(True)), FORGOTTEN | OTHER_K
    ),
    "mlsae": Case("mlsae", mlsae.saved, OTHER_K | DENSE | FORGOTTEN | NOT_SUBTRACTED | BY_NORM),
    "mlsae, k given": Case("mlsae", lambda f: mlsae.saved(f, None), OTHER_K | FORGOTTEN, {"k": K}),
    "mlsae, as it is": Case(
        "mlsae", lambda f: mlsae.saved(f, mlsae.CONFIG | {"standardize": False, "k": WIDE}), INVENTED | NEGATIVE
    ),
    "trajectory, gate of each": Case("parameter_trajectory", trajectory.write, ONE_GATE | CUT | SCALED | NO_CUT),
    "trajectory, one gate": Case(
        "parameter_trajectory",
        trajectory.write,
        {"a gate of each": fields(gate="per_source", code_norm="per_source_norm")},
        {"gate": "shared"},
    ),
    "trajectory, statistics": Case(
        "parameter_trajectory", prepared, STATISTICS | {"mean scaled": recipe("input_mean", scaled(0.5))}
    ),
    "trajectory, centred": Case(
        "parameter_trajectory",
        prepared,
        STATISTICS,
        {"preprocess": "center"},
    ),
    "trajectory, topk": Case(
        "parameter_trajectory",
        lambda f: trajectory.write(f, trajectory.tensors("topk"), config={"act_fn": "batchtopk", "batchtopk_k": K}),
        {"k too large": fields(k=K + 1.0), "ReLU": fields(architecture="standard")},
        {"activation": "topk"},
    ),
    "trajectory, gated": Case(
        "parameter_trajectory",
        lambda f: trajectory.write(f, trajectory.tensors("gated"), config={"act_fn": "gated"}),
        {f"{name} scaled": recipe(name, scaled(0.5)) for name in ("b_gate", "b_mag", "r_mag")},
    ),
    "sof, sum of norms": Case("sof_crosscoder", lambda f: sof.local(f, sof.tensors()), NO_NORM | CUT | SCALED | NO_CUT),
    "sof, joint norm": Case(
        "sof_crosscoder",
        lambda f: sof.hub(f, sof.tensors("SAE"), code_normalization="SAE"),
        NO_NORM | {"sum of norms": fields(code_norm="sum_of_norms")},
    ),
    "sof, mixed": Case(
        "sof_crosscoder",
        lambda f: sof.hub(f, sof.tensors("MIXED"), code_normalization="MIXED", code_normalization_alpha_cc=0.5),
        NO_NORM | {"default weights": fields(code_norm_weights=(1.0, 0.1))},
    ),
    "sof, decoupled": Case(
        "sof_crosscoder",
        lambda f: sof.local(f, sof.tensors("DECOUPLED", statistics=True)),
        STATISTICS | CUT | SCALED | ONCE,
    ),
    "sof, decoupled, never set": Case(
        "sof_crosscoder", unset_decoupled, STATISTICS | SCALED | RANKED, {"unset_threshold": "relu"}
    ),
    "sof, relu": Case("sof_crosscoder", lambda f: sof.local(f, sof.tensors(batchtopk=False)), SCALED | RANKED),
    "model diff": Case(
        "model_diff",
        model_diff.write,
        STATISTICS
        | SCALED
        | RANKED
        | {"other scales": lambda r: replace(r, plan={**r.plan, "input_scale": constant((1.75, 0.25))})},
        model_diff.GIVEN,
    ),
    "model diff, folded": Case("model_diff", model_diff.write, SCALED | RANKED, {"input_scale": "folded"}),
    "SAELens 5, ReLU": Case("saelens_legacy", lambda f: legacy.folder(f, legacy.FLAT), RELU | NOT_SUBTRACTED),
    "SAELens 5, nothing subtracted": Case(
        "saelens_legacy", lambda f: legacy.folder(f, legacy.FLAT | {"apply_b_dec_to_input": False}), SUBTRACTED
    ),
    "SAELens 5, TopK": Case(
        "saelens_legacy",
        lambda f: legacy.folder(f, legacy.FLAT | legacy.TOPK | {"normalize_activations": "layer_norm"}),
        OTHER_K | DENSE | FORGOTTEN | BY_NORM,
    ),
    "SAELens 5, norm": Case(
        "saelens_legacy",
        lambda f: legacy.folder(f, legacy.FLAT | {"normalize_activations": "constant_norm_rescale"}),
        FORGOTTEN | INVENTED,
    ),
    "SAELens 5, JumpReLU": Case(
        "saelens_legacy", lambda f: legacy.folder(f, legacy.FLAT | {"architecture": "jumprelu"}), JUMPRELU | BY_NORM
    ),
    "SAELens 5, scaled": Case(
        "saelens_legacy",
        lambda f: legacy.folder(f, legacy.FLAT | {"normalize_activations": "expected_average_only_in"}),
        FOLDED | {f"{n} not divided": recipe(n, scaled(legacy.SCALE)) for n in ("W_dec", "b_dec")},
        {"scaling_factor": legacy.SCALE},
    ),
    "hook_z": Case("hook_z", kissane, RELU | NOT_SUBTRACTED | TRANSPOSED),
    "Qwen Scope": Case("qwen_scope", qwen, TOPK | SUBTRACTED, {"k": K}),
    "Qwen Scope, large k": Case("qwen_scope", qwen, NEGATIVE, {"k": WIDE}),
    "Qwen Scope, negative latents": Case("qwen_scope", qwen, RECTIFIED, {"k": WIDE, "rectified": "false"}),
    "temporal": Case(
        "temporal_sae",
        lambda f: temporal.saved(f, temporal.tensors(temporal.theirs())),
        {
            "k too large": fields(kval_topk=K + 1),
            "ReLU": fields(sae_diff_type="relu", kval_topk=None),
            "one head": fields(n_heads=1),
            "one layer": also(fields(n_attn_layers=1), dropped(*ATTENTION)),
            "scale forgotten": fields(activation_normalization_factor=1.0),
        },
    ),
    "state dict, relu": Case("state_dict", script, RELU | SUBTRACTED, PLAIN | {"activation": "relu"}),
    "state dict, topk": Case("state_dict", script, TOPK | SUBTRACTED, PLAIN | {"activation": "topk", "k": K}),
    "state dict, large k": Case("state_dict", script, NEGATIVE, PLAIN | {"activation": "topk", "k": WIDE}),
    "state dict, normalized": Case(
        "state_dict",
        script,
        FORGOTTEN | NOT_SUBTRACTED,
        {"activation": "relu", "normalization": "layer_norm", "pre_encoder_subtraction": "b_dec"},
    ),
    "state dict, square": Case(
        "state_dict",
        lambda f: script(f, D),
        TRANSPOSED,
        PLAIN | {"activation": "relu", "encoder_latents": "rows", "decoder_latents": "columns"},
    ),
}


def caught(case: Case, mistaken: Reading, path: Path, folder: Path) -> bool:
    """Whether what the publisher's forward gives does not replay on a reading; latents may even be too few for it."""
    try:
        golden_proof(FORMATS[case.layout], mistaken, mistaken, folder, None, open_source(path))
    except WeightsError as error:
        return bool(re.search(r"does not compute what|: latent \d+ of \d+", str(error)))
    return False


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_mistake_in_a_reading_is_caught(tmp_path, case):
    """The reference does not follow the mistake; and it agrees with the reading without one."""
    path = case.write(tmp_path / "source")
    reading = read(path, case.given, case.layout)
    golden_proof(FORMATS[case.layout], reading, reading, tmp_path, None, open_source(path))
    made = {name: mistake(reading) for name, mistake in case.mistakes.items()}
    assert [name for name, mistaken in made.items() if not caught(case, mistaken, path, tmp_path)] == []


def test_every_layout_with_a_reference_of_its_own_has_a_case():
    """But two Linears without a choice, and the layouts whose configuration is the document."""
    without = {"saelens", "saereg", "goodfire", "deepseek_r1"}
    assert {case.layout for case in CASES.values()} == FORMATS.keys() - without


def test_a_reference_knows_what_the_caller_said(tmp_path):
    """As it was said, and nothing that a reader took for granted."""
    path = openai.saved(tmp_path, openai.state())
    assert told(read(path, {"normalize": "false"})).values == {"normalize": "false"}
    assert told(read(path)).values == {}
