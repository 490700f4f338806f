"""SR1: the documents themselves."""

from saereg.registry.validators.rules.text import RuleText


class SR100(RuleText):
    """A document is not strict JSON.

    The bytes of manifest.json, index.json (level layout) and each cfg.json (level header). Reported are syntax errors,
    comments and trailing commas, a key that stands twice in one object, NaN and Infinity, integers beyond 64 bits, a
    byte order mark, bytes that are not UTF-8, half of a surrogate pair, nesting of more than 100 levels, and overlong
    files.

    Why: Parsers differ exactly there. Of two equal keys Python keeps the last and others the first, so two readers
    load two dictionaries; `NaN` is read by Python and refused by every browser, by jq and by Rust. A document that
    means two things, or nothing, cannot be checked further, so this may not be silenced.

    Fix: Mend the text at the line that is named. `python -m json.tool FILE` finds syntax errors, but neither NaN nor
    duplicate keys; write documents with `json.dump(…, allow_nan=False)`.

    Bad: cfg.json
        {
          "d_in": 768,  // residual stream
          "k": 32,
          "k": 64,
          "final_loss": NaN
        }

    Good: cfg.json
        {
          "d_in": 768,
          "k": 64,
          "final_loss": null
        }
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR101(RuleText):
    """A required key is missing.

    manifest.json and index.json against their schemas (level layout), and each cfg.json against what its architecture
    needs (level header): `k` for TopK, for example. Keys that have a default everywhere are not required.

    Why: A reader would have to guess, and readers guess differently: one takes the width from the folder name, another
    from the tensors, a third stops with a KeyError. Without the key the rest of the document cannot be read with
    certainty, so this may not be silenced.

    Fix: Add the key. `saereg schema manifest` and `saereg schema cfg` print each key with what it means.

    Bad: cfg.json
        {"architecture": "topk", "d_in": 768, "d_sae": 24576}

    Good: cfg.json
        {"architecture": "topk", "d_in": 768, "d_sae": 24576, "k": 64}
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR102(RuleText):
    """A value does not fit.

    The same documents as for required keys: the type of every value, its range, and whether a word is one of those
    that the schema knows. Nothing is converted in silence: `"64"` is no number, and `1` is not `true`. Where a word is
    close to a known one, the message names that.

    Why: What one reader refuses another converts: `"normalize_activations": "layernorm"` is an unknown word to
    SAELens, and code that compares it with the known ones goes on as if nothing were to be normalized. A document with
    such a value cannot be read with certainty, so this may not be silenced.

    Fix: Write a value that fits; the message says what is expected. `saereg schema` prints types, ranges and words.

    Bad: cfg.json
        {"architecture": "topk", "k": "64", "normalize_activations": "layernorm"}

    Good: cfg.json
        {"architecture": "topk", "k": 64, "normalize_activations": "layer_norm"}
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR103(RuleText):
    """An unknown key.

    Keys that no schema knows, in manifest.json, index.json and each cfg.json. In the `metadata` of a cfg.json any key
    is allowed, since SAELens keeps them all; there a key that looks like a misspelt known one is a warning.

    Why: SAELens and most other readers drop unknown keys in silence. A misspelt switch therefore becomes its default:
    `normalise_activations` loads without a word, inputs are not scaled, and the explained variance is another. Since
    nobody can tell what the author meant, the error may not be silenced; the warning may.

    Fix: Correct the spelling, or remove the key. Notes of your own belong in `metadata` of cfg.json or `training` of
    the manifest.

    Bad: cfg.json
        {"architecture": "jumprelu", "normalise_activations": "layer_norm"}

    Good: cfg.json
        {"architecture": "jumprelu", "normalize_activations": "layer_norm"}
    """

    severity = "error"
    level = "layout"
    also = ("warning",)
    fixable = "unsafe"
    silenceable = False


class SR104(RuleText):
    """An unsupported schema version.

    `schema_version` of manifest.json and index.json. Another major version is an error. A newer minor version is read,
    and a note says that it is newer. It has nothing to do with the version of the release.

    Why: A newer major version may mean something else by the same words, so a reader of the old one would be wrong in
    silence. A document that cannot be understood cannot be checked, which is why the error may not be silenced; the
    note may.

    Fix: Update saereg with `pip install --upgrade saereg`. If the version was written by hand, `"1.0"` is the one that
    this saereg writes.

    Bad: manifest.json
        {"schema_version": "2.0", "release": {"name": "example-saes", "version": "1.0.0"}}

    Good: manifest.json
        {"schema_version": "1.0", "release": {"name": "example-saes", "version": "2.0.0"}}
    """

    severity = "error"
    level = "layout"
    also = ("note",)
    silenceable = False


class SR105(RuleText):
    """The manifest does not say which schema it follows.

    `$schema` of manifest.json: the address of the JSON Schema of this version, or any address or path that ends in
    manifest-1.schema.json, such as a copy beside it. Reported when the key is missing or names another file.

    Why: Editors that find the schema complete keys, explain them and underline mistakes while the manifest is written.
    Other tools, and people who never heard of saereg, learn from it what kind of file this is.

    Fix: Add the key; `saereg validate RELEASE --fix` does. Then run `saereg build`.

    Bad: manifest.json
        {"schema_version": "1.0", "release": {"name": "example-saes"}}

    Good: manifest.json
        {
          "$schema": "https://raw.githubusercontent.com/saereg/saereg/main/saereg/schemas/json/manifest-1.schema.json",
          "schema_version": "1.0",
          "release": {"name": "example-saes"}
        }
    """

    severity = "note"
    level = "layout"
    fixable = "safe"


class SR106(RuleText):
    """The keys of manifest.json are not in order.

    The keys of every object of manifest.json are compared with their alphabetical order. The order of lists, such as
    `artifacts` or `steps`, is not concerned, nor are spaces and line breaks.

    Why: `saereg init` and the trainers write sorted keys when they add an artifact. A file in another order is
    rewritten as a whole the next time, and the difference between two versions of a release, which a reviewer reads
    before it goes out, drowns in lines that only moved.

    Fix: Run `saereg validate RELEASE --fix`, which moves keys and changes nothing else.

    Bad: manifest.json
        {"release": {"version": "1.0.0", "name": "tiny-saes"}}

    Good: manifest.json
        {"release": {"name": "tiny-saes", "version": "1.0.0"}}
    """

    severity = "note"
    level = "layout"
    fixable = "safe"


class SR110(RuleText):
    """Two artifacts have one identity.

    The ids, the folders, and the fields of all artifacts of the manifest that say which one it is: kind, architecture,
    model, sites, steps, sizes, sparsity, tied, decoder norm, snapshot, seed, variant. It is reported when two artifacts
    agree in all of them, or share id or folder. Folder names are not interpreted.

    Why: A query such as `find(layer=6, k=64, seed=0)` gives two answers and no way to choose. In a sweep it mostly
    means that a field was forgotten that only the folder name tells, such as the seed or the learning rate.

    Fix: Add the field that differs, such as `seed`, `snapshot`, `sparsity` or `variant`. If nothing differs, remove
    one of the two and run `saereg build`.

    Bad: manifest.json
        [
          {"id": "layer_6/topk_64_lr3e-4", "architecture": "topk", "sparsity": {"k": 64}},
          {"id": "layer_6/topk_64_lr1e-4", "architecture": "topk", "sparsity": {"k": 64}}
        ]

    Good: manifest.json
        [
          {"id": "layer_6/topk_64_lr3e-4", "architecture": "topk", "sparsity": {"k": 64}, "variant": "lr3e-4"},
          {"id": "layer_6/topk_64_lr1e-4", "architecture": "topk", "sparsity": {"k": 64}, "variant": "lr1e-4"}
        ]
    """

    severity = "error"
    level = "layout"


class SR113(RuleText):
    """A reference to nothing.

    Each name in the manifest that refers to another part of it: the model of a site, the sites of an artifact, the
    data set of a training run, the evaluation of a claim. It is reported when no entry has that name.

    Why: A reader who follows the name finds nothing: not at which layer to hook, not on which data a number was
    measured. Claims on an unknown evaluation are never verified.

    Fix: Define it, or correct the name; a close one is proposed.

    Bad: manifest.json
        {
          "sites": {"residual-6": {"model": "base", "layer": 6}},
          "artifacts": [{"id": "layer_6/topk_64", "site": "resid-6"}]
        }

    Good: manifest.json
        {
          "sites": {"residual-6": {"model": "base", "layer": 6}},
          "artifacts": [{"id": "layer_6/topk_64", "site": "residual-6"}]
        }
    """

    severity = "error"
    level = "layout"


class SR115(RuleText):
    """Manifest and index list different artifacts.

    The ids of the artifacts in manifest.json and in index.json, as sets: their order is free.

    Why: An artifact of the manifest alone has no evidence: no digest, no measured number, and it is missing from every
    query. One of the index alone is evidence of something that nobody claims any more. Either way one of the two
    documents is not that of this release, so this may not be silenced.

    Fix: Run `saereg build`.

    Bad: index.json (the manifest has layer_6/topk_128 too)
        {"artifacts": [{"id": "layer_6/topk_64"}]}

    Good: index.json
        {"artifacts": [{"id": "layer_6/topk_64"}, {"id": "layer_6/topk_128"}]}
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR121(RuleText):
    """Metadata has no sae_lens_version.

    `metadata.sae_lens_version` of each cfg.json in SAELens' layout. Any version will do; the layout of saereg's own
    artifacts has no such key.

    Why: SAELens takes a file without it for one of before version 6 and builds the metadata anew from old key names.
    Hook name, model, context size and the BOS setting are then gone without a message, and code that reads
    `sae.cfg.metadata.hook_name` gets None.

    Fix: Set `metadata.sae_lens_version` to the version that wrote the file. If the file was written by hand, take that
    of the SAELens with which you tried to load it.

    Bad: cfg.json
        {"metadata": {"hook_name": "blocks.6.hook_resid_post", "prepend_bos": false}}

    Good: cfg.json
        {"metadata": {"hook_name": "blocks.6.hook_resid_post", "prepend_bos": false, "sae_lens_version": "6.54.12"}}
    """

    severity = "error"
    level = "header"


class SR122(RuleText):
    """The configuration is that of a training checkpoint.

    The architecture and keys of each cfg.json: whether they are those of a SAELens training class, which has keys such
    as `decoder_init_norm`, `l0_coefficient` or `jumprelu_init_threshold` that the inference class does not have.

    Why: A training checkpoint can hold weights in other units: a scale of the activations that is not yet folded in, a
    threshold as its logarithm, latents that are still rescaled by decoder norms. Loaded as an inference model it gives
    plausible and wrong activations.

    Fix: Export the inference form, with `save_inference_model` of SAELens or `saereg convert`. Do not just delete the
    keys: the weights must be folded too.

    Bad: cfg.json
        {"architecture": "topk", "d_in": 768, "d_sae": 24576, "k": 64, "decoder_init_norm": 0.1}

    Good: cfg.json
        {"architecture": "topk", "d_in": 768, "d_sae": 24576, "k": 64}
    """

    severity = "error"
    level = "header"


RULES: tuple[type[RuleText], ...] = (
    SR100,
    SR101,
    SR102,
    SR103,
    SR104,
    SR105,
    SR106,
    SR110,
    SR113,
    SR115,
    SR121,
    SR122,
)
"""The rules of this file."""
