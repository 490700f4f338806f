"""SR416 to SR426: golden vectors, round trip and evaluations."""

from saereg.registry.validators.rules.text import RuleText


class SR416(RuleText):
    """The recorded measurement cannot be reproduced.

    At level data every metric that index.json records is computed again from the weights and the evaluation file, and
    compared with the record. The `tolerance` of the record is what another machine may differ by: sums are kept in
    float64.

    Why: The index is what everybody trusts who does not recompute. If it gives another number than the files, it was
    built of other files, was edited by hand, or a version of saereg computed something else.

    Fix: Run `saereg build` and look at what changed. If a number of an untouched release moved, report it to saereg.

    Bad: index.json (computed again: 0.2188)
        {"metric": "fvu", "value": 0.5, "tolerance": 1e-05}

    Good: index.json (computed again: 0.2188)
        {"metric": "fvu", "value": 0.2188, "tolerance": 1e-05}
    """

    severity = "error"
    level = "data"


class SR420(RuleText):
    """The golden vectors cannot be read.

    golden.safetensors of each artifact: its header must say `saereg_golden` 1, and it must hold `x`, `active`,
    `activations` and `x_hat` of matching shapes and types that fit the dictionary. The number of rows is free.

    Why: Golden vectors are the only proof that files mean what their author meant. A file of another form proves
    nothing, and a reader who replays it stops with an error about shapes.

    Fix: Export again, or write them with `write_golden` of `saereg.registry.evidence.golden_file`. Without them,
    remove the file and run `saereg build`.

    Bad: golden.safetensors
        __metadata__   {}
        x              F32 (8, 768)
        activations    F32 (8, 64)

    Good: golden.safetensors
        __metadata__   {"saereg_golden": "1", "made_by": "trainer.SAE.forward 0.3"}
        x              F32 (8, 768)
        active         I64 (8, 64)
        activations    F32 (8, 64)
        x_hat          F32 (8, 768)
    """

    severity = "error"
    level = "weights"


class SR421(RuleText):
    """Golden vectors do not replay.

    At level weights the inputs of golden.safetensors are run through the released files. In every row exactly the same
    latents must be active, those below one millionth of the largest left out; activations and x_hat may differ by 1e-5
    (float32), 2e-3 (float16) or 2e-2 (bfloat16), relative to the row. That leaves room for another order of addition,
    and for nothing else.

    Why: The released files compute something else than the model that was trained. Nothing else shows it: shapes fit,
    the file loads, and the reconstruction is merely worse. Everybody who uses the release studies another dictionary
    than the one in the paper.

    Fix: Look for a wrong switch in cfg.json, first `apply_b_dec_to_input` and `normalize_activations`. Then the units
    of the threshold, `rescale_acts_by_decoder_norm`, k, and the orientation of square matrices. Where cfg.json is
    right, the weights were altered after the export.

    Bad: cfg.json (trained with x − b_dec)
        {"architecture": "topk", "k": 64, "apply_b_dec_to_input": false}

    Good: cfg.json (trained with x − b_dec)
        {"architecture": "topk", "k": 64, "apply_b_dec_to_input": true}
    """

    severity = "error"
    level = "weights"


class SR422(RuleText):
    """The weights are not those of the source checkpoint.

    For artifacts whose `source_checkpoint` says where each tensor comes from, at level weights, and only where the
    checkpoint is at hand (`--checkpoints FOLDER`, or `checkpoints` beside the release). The named steps are done
    again; what is only moved must agree to the last bit, what is folded up to rounding. Tensors that were not exported
    do not matter.

    Why: The export changed values that it says it only moved: a cast to bfloat16 and back, a normalization of the
    decoder, a checkpoint of another step. The paper's numbers are those of the checkpoint.

    Fix: Export again from the checkpoint. If the change was meant, add its step to `source_checkpoint.tensors`.

    Bad: manifest.json (decoder.weight has shape (768, 24576))
        {"W_dec": {"key": "decoder.weight"}}

    Good: manifest.json
        {"W_dec": {"key": "decoder.weight", "steps": [{"do": "transpose"}]}}
    """

    severity = "error"
    level = "weights"


class SR423(RuleText):
    """No golden vectors.

    Whether golden.safetensors stands in the folder of each artifact. It may be made by any code, best by the forward
    of the training code itself, and may be small: a few rows are enough.

    Why: Nothing proves that the files mean what their author meant. Whether b_dec is subtracted, whether inputs are
    scaled, in which units a threshold is: all that can be wrong in cfg.json without any other trace.

    Fix: Train or convert with saereg, which writes them; or write them from your own forward. `saereg convert` makes
    them from the publisher's own formula.

    Bad: layer_6/topk_64/
        cfg.json
        sae_weights.safetensors

    Good: layer_6/topk_64/
        cfg.json
        golden.safetensors
        sae_weights.safetensors
    """

    severity = "warning"
    level = "header"


class SR424(RuleText):
    """The source checkpoint is another file.

    At level weights, where the checkpoint is at hand: its sha256 against `source_checkpoint.sha256` in the manifest. A
    checkpoint that is not at hand is no finding: the report lists the check as skipped.

    Why: The manifest says of which file the weights were made. If a file of that name has other bytes, it was
    overwritten by a later step or another run, and a comparison with it would prove nothing.

    Fix: Find the right checkpoint, or correct `source_checkpoint.sha256` if this one is right. `sha256sum FILE` prints
    the digest.

    Bad: manifest.json (run_17/ae.pt: fcde2b2edba5…)
        {"source_checkpoint": {"path": "run_17/ae.pt", "sha256": "2c26b46b68ff…"}}

    Good: manifest.json (run_17/ae.pt: fcde2b2edba5…)
        {"source_checkpoint": {"path": "run_17/ae.pt", "sha256": "fcde2b2edba5…"}}
    """

    severity = "error"
    level = "weights"


class SR425(RuleText):
    """An evaluation file does not fit.

    The evaluations that claims and measurements refer to: the file must be in the release, its header sound, and the
    tensor that the manifest names must have the declared number of rows and the width of the artifact; of a folder of
    shards, all together. More tensors may be in it. A file of tokens must hold `tokens` and `lengths`, a record of
    parameters as many steps as the artifact has sources, and a synthetic one `shape` where the artifact reads sequences
    or heads. Rows that were centred or scaled beforehand (`preprocess`) must not be so again by the dictionary's own
    statistics.

    Why: Metrics cannot be computed on it as declared, so no number of the release can be confirmed by anybody else. A
    wrong number of rows often means that the file was cut off, or that padding or BOS rows were dropped after the
    measurement.

    Fix: Correct the evaluation in the manifest, or ship the right file. Then run `saereg build`.

    Bad: manifest.json (x has shape (4096, 768))
        {"path": "evaluation/residual-6.safetensors", "rows": 8192}

    Good: manifest.json (x has shape (4096, 768))
        {"path": "evaluation/residual-6.safetensors", "rows": 4096}
    """

    severity = "error"
    level = "header"


class SR426(RuleText):
    """The record of the conversion is of other weights.

    conversion.json, where an artifact has one, at level weights: it must be readable, and the digest that it gives for
    the written weight file must be that of the file beside it.

    Why: conversion.json says what the weights were converted from and proves that they compute the same. Beside other
    weights, or after an edit of them, it is a proof of something that is not in the release.

    Fix: Convert again with `saereg convert`, or remove conversion.json. Then run `saereg build`.

    Bad: conversion.json (the file: fcde2b2edba5…)
        {"written": [{"name": "sae_weights.safetensors", "sha256": "2c26b46b68ff…"}]}

    Good: conversion.json (the file: fcde2b2edba5…)
        {"written": [{"name": "sae_weights.safetensors", "sha256": "fcde2b2edba5…"}]}
    """

    severity = "error"
    level = "weights"


RULES: tuple[type[RuleText], ...] = (
    SR416,
    SR420,
    SR421,
    SR422,
    SR423,
    SR424,
    SR425,
    SR426,
)
"""The rules of this file."""
