"""Cases of the rules in `rules/semantics.py`."""

from pathlib import Path

from safetensors.torch import load_file

from saereg.registry.build import build
from saereg.registry.evidence.golden_file import sparse_golden, write_golden
from saereg.registry.loading import load_path
from tests.cases.tools import JUMP, Case, artifact_of, config, edit, manifest, only, reindex

CROSS = "W_U/cross-snapshot-2"

SHA = "0" * 64

FOLD = {"W_enc": 0.25, "W_dec": 4.0, "b_dec": 4.0}
"""Tensor → what a fold of the input scale 0.25 multiplies it by."""


def exported(artifact: str, normalization: str | None, **factors: float):
    """Return a source checkpoint in the manifest whose tensors were scaled, and a normalization in cfg.json."""

    def recipe(name: str) -> dict:
        return {"key": name} | ({"steps": [{"do": "scale", "by": factors[name]}]} if name in factors else {})

    def plant(root: Path) -> None:
        source = {"path": "source.safetensors", "sha256": SHA}
        source["tensors"] = {name: recipe(name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
        edit(root / "manifest.json", lambda m: artifact_of(m, artifact).update(source_checkpoint=source))
        if normalization:
            edit(root / artifact / "cfg.json", lambda c: c.update(normalize_activations=normalization))
        reindex(root)

    return plant


def layer_norm_by(made_by: str):
    """Return a SAELens artifact with a layer norm, whose golden vectors say who made them."""

    def plant(root: Path) -> None:
        edit(root / JUMP / "cfg.json", lambda c: c.update(normalize_activations="layer_norm"))
        path = root / JUMP / "golden.safetensors"
        x, dictionary = load_file(path)["x"], load_path(root / JUMP)
        write_golden(path, sparse_golden(x, dictionary.encode(x), dictionary(x), made_by))
        build(root)

    return plant


def _recipe(code: str = "", sentence: str = ""):
    """Return a card with code and a sentence on how to capture, in a release whose block 1 is the last of two."""

    def plant(root: Path) -> None:
        def change(m: dict) -> None:
            m["base_models"]["tiny"].update(n_layers=2)
            m["sites"]["block-1"].update(hidden_states_index=None)

        edit(root / "manifest.json", change)
        fence = f"\n```python\n{code}\n```\n" if code else ""
        (root / "README.md").write_text(f"{(root / 'README.md').read_text()}{fence}\n{sentence}\n")
        reindex(root)

    return plant


def _trajectory(*steps: int, sha256: bool = True):
    """Return a release of the crosscoder over W_U alone, without a revision, and its matrices at some steps pinned."""

    def plant(root: Path) -> None:
        only(CROSS)(root)

        def change(m: dict) -> None:
            m["base_models"]["tiny"].pop("revision")
            del m["tokens"]
            m["sites"] = {"W_U": m["sites"]["W_U"]}
            rows = {
                "source": "parameters",
                "tensor": "embed_out.weight",
                "site": "W_U",
                "rows": 8,
                "steps": list(steps),
            }
            m["evaluations"]["W_U"] = rows | ({"sha256": [SHA] * len(steps)} if sha256 else {})

        manifest(change)(root)

    return plant


CASES: dict[str, Case] = {
    "trajectory_pinned_step_by_step": Case("SR301", _trajectory(0, 1000), passes=True),
    "trajectory_without_digests": Case("SR301", _trajectory(0, 1000, sha256=False)),
    "trajectory_pinned_at_another_step": Case("SR301", _trajectory(0, 512)),
    "base_model_not_pinned": Case("SR301", manifest(lambda m: m["base_models"]["tiny"].pop("revision"))),
    "base_model_pinned_by_its_weights": Case(
        "SR301",
        manifest(lambda m: m["base_models"]["tiny"].update(revision=None, weights_sha256=SHA)),
        passes=True,
    ),
    "layer_not_in_model": Case(
        "SR302",
        manifest(lambda m: m["sites"]["block-1-mlp"].update(layer=4, hook_name="blocks.4.hook_mlp_out")),
    ),
    "residual_of_other_width": Case("SR302", manifest(lambda m: m["base_models"]["tiny"].update(d_model=5))),
    "last_layer": Case(
        "SR302",
        manifest(
            lambda m: (m["base_models"]["tiny"].update(n_layers=2), m["sites"]["block-1"].pop("hidden_states_index"))
        ),
        passes=True,
    ),
    "module_path_as_hook_name": Case(
        "SR303", manifest(lambda m: m["sites"]["block-1"].update(hook_name="model.layers.1"))
    ),
    "hook_inside_the_mlp": Case(
        "SR303",
        manifest(
            lambda m: m["sites"]["block-1-mlp"].update(
                hook_name="blocks.1.mlp.hook_post", module="model.layers.1.mlp.act_fn"
            )
        ),
        passes=True,
    ),
    "last_hidden_state": Case(
        "SR304",
        # block 1 is the last of two, and its index 2 the state behind the norm
        manifest(lambda m: m["base_models"]["tiny"].update(n_layers=2)),
    ),
    "last_hidden_state_in_config": Case(
        "SR304", config(JUMP, lambda c: c["metadata"].update(hf_hook_name="hidden_states.4"))
    ),
    "hook_of_another_layer_in_config": Case(
        "SR303", config(JUMP, lambda c: c["metadata"].update(hook_name="layers.31"))
    ),
    "hook_before_the_next_layer_in_config": Case(
        "SR303", config(JUMP, lambda c: c["metadata"].update(hook_name="blocks.2.hook_resid_pre")), passes=True
    ),
    "last_hidden_state_in_the_code_of_the_card": Case(
        "SR304", _recipe("layer = 1\nx = outputs.hidden_states[layer + 1]")
    ),
    "last_hidden_state_in_a_sentence_of_the_card": Case(
        "SR304", _recipe(sentence="Layer `L` is `outputs.hidden_states[L + 1]`.")
    ),
    "inner_hidden_state_in_the_card": Case(
        "SR304",
        _recipe("layer = 0\nx = outputs.hidden_states[layer + 1]", "`hidden_states[L + 1]`, except of the last layer"),
        passes=True,
    ),
    "last_hidden_state_of_a_model_without_final_norm": Case(
        "SR304", manifest(lambda m: m["base_models"]["tiny"].update(n_layers=2, final_norm=False)), passes=True
    ),
    "behind_the_final_norm_on_purpose": Case(
        "SR304",
        manifest(
            lambda m: (
                m["base_models"]["tiny"].update(n_layers=2),
                m["sites"]["block-1"].update(post_final_norm=True, module="model.norm", hook_name=None),
            )
        ),
        passes=True,
    ),
    "normalization_not_applied": Case(
        "SR311", config(JUMP, lambda c: c.update(normalize_activations="expected_average_only_in"))
    ),
    "normalization_of_training_alone": Case(
        "SR311",
        config(
            JUMP,
            lambda c: c["metadata"].update(
                training_architecture_details={"normalize_activations": "expected_average_only_in"}
            ),
        ),
        passes=True,
    ),
    "folded_and_declared": Case("SR312", exported(JUMP, "constant_norm_rescale", **FOLD)),
    "folded_alone": Case("SR312", exported(JUMP, None, **FOLD), passes=True),
    "latents_rescaled_under_a_normalization": Case(
        "SR312", exported(CROSS, None, W_enc=0.25, b_enc=0.25, W_dec=4.0, threshold=0.25), passes=True
    ),
    "layer_norm_by_our_own_word": Case("SR313", layer_norm_by("saereg 0.1.0: forward of saelens (SAELens 6.54)")),
    "layer_norm_by_the_trainer": Case(
        "SR313", layer_norm_by("sae_lens 6.54.12 JumpReLUTrainingSAE forward"), passes=True
    ),
    "no_token_policy": Case("SR321", manifest(lambda m: m.pop("tokens"))),
    "parameters_have_no_tokens": Case(
        "SR321", lambda root: (only(CROSS)(root), manifest(lambda m: m.pop("tokens"))(root)), passes=True
    ),
}
"""Name of the folder → what is planted, and the one code that must be found."""
