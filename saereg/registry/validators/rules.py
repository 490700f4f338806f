"""The rule book: every code, with its severity and what to do. A code never changes its meaning."""

from dataclasses import dataclass

from saereg.errors import UnknownNameError
from saereg.schemas.report import Severity


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        code: `SR` and three digits; the first digit is the family.
        severity: how grave a finding of it is.
        title: the problem in a few words.
        why: what goes wrong for the people who load the release.
        fix: what to do.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str


FAMILIES = {
    "SR0": "layout",
    "SR1": "documents",
    "SR2": "configuration against tensors",
    "SR3": "semantics",
    "SR4": "numbers",
}
"""First three characters of a code → what its rules are about."""

_TABLE: tuple[tuple[str, Severity, str, str, str], ...] = (
    ("SR001", "error", "the manifest lists no artifacts",
     "An empty release would pass every other check.",
     "Add artifacts, for example with `saereg train sae`."),
    ("SR002", "error", "a file is missing",
     "index.json or the manifest names it, so a reader will ask for it.",
     "Restore the file, or take it out of the manifest and run `saereg build`."),
    ("SR003", "warning", "a file is not in the index",
     "Only what the index names is published and verified.",
     "Run `saereg build` to take it in, or remove it."),
    ("SR004", "error", "a path is not portable or leaves the release",
     "Absolute paths, '..', backslashes and odd characters mean other files on other machines.",
     "Write a relative POSIX path of plain characters."),
    ("SR005", "error", "a pickle is in the release",
     "Loading a pickle can run any code. Releases hold safetensors only.",
     "Convert it to safetensors, or keep it out of the release folder."),
    ("SR006", "error", "training state is in the release",
     "Optimizer state triples the download and is of no use for inference.",
     "Export the inference weights only."),
    ("SR009", "error", "a file is not the one that was indexed",
     "Its size or sha256 differs from index.json, so every recorded check speaks of other bytes.",
     "Restore the file, or run `saereg build` and look at what changed."),
    ("SR010", "error", "a link leads out of the release",
     "A link is published as what it points to: a file that is not part of the release, or nothing.",
     "Put the file itself into the release."),
    ("SR011", "error", "index.json is missing",
     "Without evidence nobody can tell whether the claims hold.",
     "Run `saereg build`."),
    ("SR012", "error", "index.json is out of date",
     "The manifest was changed after the index was built.",
     "Run `saereg build`."),
    ("SR013", "error", "an entry is not a regular file",
     "Pipes, sockets and devices cannot be published, and reading one can block for ever.",
     "Remove it."),
    ("SR100", "error", "a document is not strict JSON",
     "Duplicate keys, NaN, comments or a wrong encoding are read differently by every parser.",
     "Mend the text at the line given."),
    ("SR101", "error", "a required key is missing",
     "A reader would have to guess it.",
     "Add the key; `saereg schema` prints what it means."),
    ("SR102", "error", "a value does not fit",
     "It has another type, is out of range, or is not one of the known words.",
     "Write a value that fits; `saereg schema` prints what is allowed."),
    ("SR103", "error", "an unknown key",
     "Other tools drop unknown keys in silence, so a misspelt switch becomes its default.",
     "Correct the spelling, or remove the key."),
    ("SR104", "error", "an unsupported schema version",
     "A newer major version may mean something else by the same words.",
     "Update saereg."),
    ("SR110", "error", "two artifacts have one identity",
     "Two ids whose fields say the same thing cannot be told apart by any query.",
     "Add the field that differs, such as seed, snapshot, sparsity or variant."),
    ("SR113", "error", "a reference to nothing",
     "The manifest names a site, model, data set or evaluation that it does not define.",
     "Define it, or correct the name."),
    ("SR115", "error", "manifest and index list different artifacts",
     "Claims without evidence, or evidence without claims.",
     "Run `saereg build`."),
    ("SR121", "error", "metadata has no sae_lens_version",
     "SAELens takes such a file for an old one and drops the whole metadata: hook, model, BOS setting.",
     "Set metadata.sae_lens_version to the version that wrote the file."),
    ("SR122", "error", "the configuration is that of a training checkpoint",
     "Training checkpoints may hold unfolded scales and thresholds in other units.",
     "Export the inference form."),
    ("SR200", "error", "a weight file cannot be read",
     "Its header is truncated, oversized, or points outside the file.",
     "Write the file again and compare its sha256."),
    ("SR201", "error", "a tensor has the wrong shape",
     "The configuration implies another shape; a transposed square matrix would not even be noticed.",
     "Correct cfg.json, or export again."),
    ("SR202", "error", "a tensor is missing or extra",
     "Readers load strictly; a missing tensor means another function.",
     "Export again with the right architecture."),
    ("SR203", "error", "a tensor holds NaN or infinity",
     "One bad weight spoils every reconstruction.",
     "Go back to a checkpoint before the divergence."),
    ("SR204", "error", "a tensor has another type than declared",
     "SAELens casts to the declared type in silence, which can lose precision.",
     "Declare the type of the file."),
    ("SR211", "error", "the tensors are those of another architecture",
     "A TopK read as standard fires ten times as often, without any error.",
     "Correct `architecture` in cfg.json."),
    ("SR212", "error", "k is larger than the dictionary",
     "There are not that many latents.",
     "Correct k."),
    ("SR213", "error", "a threshold is negative or of the wrong type",
     "−1 is a common mark for 'never set', and lets every latent pass.",
     "Calibrate the threshold and export again."),
    ("SR214", "warning", "decoder directions have no length",
     "A latent whose decoder row is zero does nothing; a release with many was cut or damaged.",
     "Check the export."),
    ("SR215", "error", "manifest and configuration disagree",
     "A query answers from the manifest, a reader loads by the configuration.",
     "Make them agree."),
    ("SR301", "warning", "the base model is not pinned",
     "Branches move; the dictionary belongs to one commit of its model.",
     "Give base_models.*.revision (40 digits), or weights_sha256 for a model that is not on the Hub."),
    ("SR302", "error", "the site is not in the model",
     "The layer or width does not exist in the base model.",
     "Correct the layer, or n_layers and d_model of the base model."),
    ("SR303", "error", "a hook name of the wrong kind",
     "TransformerLens names and transformers paths name different tensors in some models.",
     "Put the TransformerLens name into hook_name and the transformers path into module."),
    ("SR304", "error", "the site reads hidden_states after the final norm",
     "transformers replaces the last hidden state by the normed one: it is not the last layer's output.",
     "Capture with a forward hook on the layer, or declare post_final_norm."),
    ("SR311", "error", "a normalization that readers will not apply",
     "SAELens does nothing for this setting at inference; unless folded, reconstructions are off by half.",
     "Fold the scale into the weights and declare none."),
    ("SR321", "error", "the token policy is missing",
     "With or without BOS, with or without special tokens: the numbers differ severalfold.",
     "Give `tokens` in the manifest."),
    ("SR402", "error", "an impossible number",
     "An explained variance above 1 or an L0 above the dictionary size cannot be measured.",
     "Correct the claim."),
    ("SR411", "error", "the explained variance is not what is claimed",
     "Recomputed from the released weights on the stated data, it is another number.",
     "Correct the claim, or name the definition and data it was computed with."),
    ("SR412", "error", "the L0 is not what is claimed",
     "Recomputed from the released weights on the stated data, it is another number.",
     "Correct the claim, or look for a wrong threshold, k or scale."),
    ("SR413", "error", "more latents are active than k",
     "The recorded L0 of a TopK dictionary can never exceed k.",
     "Check architecture and k."),
    ("SR414", "error", "a metric is not what is claimed",
     "Recomputed from the released weights on the stated data, it is another number.",
     "Correct the claim."),
    ("SR415", "note", "a claim cannot be verified from the release",
     "It speaks of training, or of data that are not at hand.",
     "Add a claim on a shipped evaluation."),
    ("SR416", "error", "the recorded measurement cannot be reproduced",
     "The weights and data give another number than index.json records.",
     "Run `saereg build` and look at what changed."),
    ("SR420", "error", "the golden vectors cannot be read",
     "Without them the function cannot be replayed.",
     "Export again."),
    ("SR421", "error", "golden vectors do not replay",
     "The released files compute something else than the source of the weights did.",
     "Look for a wrong switch: b_dec subtraction, normalization, threshold, orientation."),
    ("SR422", "error", "the weights are not those of the source checkpoint",
     "The export changed values that it says it only moved.",
     "Export again from the checkpoint."),
    ("SR423", "warning", "no golden vectors",
     "Nothing proves that the files mean what their author meant.",
     "Export with saereg, which makes them from the trainer's own forward."),
    ("SR424", "error", "the source checkpoint is another file",
     "Its sha256 is not the one in the manifest.",
     "Find the right checkpoint, or correct the manifest."),
    ("SR425", "error", "an evaluation file does not fit",
     "Metrics cannot be computed on it as declared.",
     "Correct the evaluation in the manifest, or the file."),
    ("SR426", "error", "the record of the conversion is of other weights",
     "conversion.json proves something of a file that is not the one beside it.",
     "Convert again, or remove conversion.json."),
)  # fmt: skip

RULES = {row[0]: Rule(*row) for row in _TABLE}
"""Code → rule."""


def rule(code: str) -> Rule:
    """Return a rule by its code.

    Raises:
        UnknownNameError: when there is none.
    """
    if code.upper() not in RULES:
        raise UnknownNameError("rule", code.upper(), RULES)
    return RULES[code.upper()]
