"""SR3: whether the files say enough, and nothing that readers would take otherwise."""

from saereg.registry.validators.rules.text import RuleText


class SR301(RuleText):
    """The base model is not pinned.

    Each entry of `base_models` in the manifest must have `revision`, the full commit of 40 digits, or
    `weights_sha256`, the digest of its weights. A branch or tag in `revision` does not fit the schema. A model of which
    matrices at pretraining steps are read has neither: there is one for each step. It is pinned where all of its sites
    are of stream `parameter`, every evaluation of source `parameters` has `sha256`, the digest of the matrix at each
    step, and the steps of all crosscoders are among theirs.

    Why: Branches move: a model that is fine-tuned, requantized or uploaded again under its old name gives other
    activations, and the dictionary reconstructs those worse than the card says, with no error anywhere. SAELens has
    no place for a revision, so the manifest is the only one.

    Fix: Give base_models.*.revision, or weights_sha256 for a model that is not on the Hub. The commit that was used
    stands in the Hub's cache: `~/.cache/huggingface/hub/models--ORG--NAME/refs/main`. Of a trajectory, `saereg train
    snapshots` takes the digests, and `saereg train crosscoder` writes them into the evaluation.

    Bad: manifest.json
        "base_models": {"base": {"id": "allenai/Olmo-3-7B-Think"}}

    Good: manifest.json
        "base_models": {"base": {"id": "allenai/Olmo-3-7B-Think",
                                 "revision": "0123456789abcdef0123456789abcdef01234567"}}
    """

    severity = "warning"
    level = "layout"


class SR302(RuleText):
    """The site is not in the model.

    Layers count from 0, so `layer` of a site must be below `n_layers` of its base model; and a dictionary of the
    residual stream must have `d_in` (a transcoder also `d_out`) equal to `d_model`. What the manifest leaves out is not
    looked at, nor is the width of MLPs and heads.

    Why: SAELens loads a dictionary with `hook_name` in a layer that does not exist; the hook is then never called, or
    fails when the model runs. Mostly it is a layer counted from 1, and all of the release is off by one layer: it
    reconstructs the layer beside it almost as well, which nobody notices.

    Fix: Correct the layer, or n_layers and d_model of the base model.

    Bad: manifest.json
        "base_models": {"base": {"id": "EleutherAI/pythia-410m", "n_layers": 24}},
        "sites": {"last": {"model": "base", "layer": 24, "module": "gpt_neox.layers.24"}}

    Good: manifest.json
        "base_models": {"base": {"id": "EleutherAI/pythia-410m", "n_layers": 24}},
        "sites": {"last": {"model": "base", "layer": 23, "module": "gpt_neox.layers.23"}}
    """

    severity = "error"
    level = "layout"


class SR303(RuleText):
    """A hook name of the wrong kind.

    `hook_name` of a site must be a name of TransformerLens, such as `blocks.6.hook_resid_post`, `module` must not be
    one, and the number in `hook_name` must be `layer`. So must be the layer of `hook_name` in the artifact's cfg.json,
    which is the one that SAELens takes.

    Why: SAELens takes `hook_name` "layers.31" and only fails when somebody runs the model, because nothing has that
    hook. The two kinds cannot be guessed from each other either: on Gemma 2 and 3, whose blocks have a norm behind
    the MLP, `hook_mlp_out` is taken after that norm and the output of `model.layers.6.mlp` before it.

    Fix: Put the TransformerLens name into hook_name and the transformers path into module.

    Bad: manifest.json
        {"model": "base", "layer": 6, "hook_name": "model.layers.6"}

    Good: manifest.json
        {"model": "base", "layer": 6, "hook_name": "blocks.6.hook_resid_post", "module": "model.layers.6"}
    """

    severity = "error"
    level = "layout"


class SR304(RuleText):
    """The site reads hidden_states after the final norm.

    Reported when `hidden_states_index` of a site is −1 or `n_layers` of its base model, or `hf_hook_name` in a
    cfg.json says the same, as `hidden_states.32` of 32 layers does. Where the release has a site at the last layer,
    also when a Python block of the card takes that index, and, as a warning, when a sentence of the card says
    `hidden_states[L + 1]` of every layer. Not where the site says `post_final_norm`, nor where the model has
    `final_norm` false.

    Why: transformers puts the state behind the final norm in the last place of `hidden_states`. For every other layer
    `hidden_states[L + 1]` is the output of layer L, and for the last one it is not: on small OLMo and Pythia models
    numbers differ by 0.7 to 3. A recipe that is right for layers 7, 15 and 23 then feeds the SAE of layer 31 with
    activations that it was not trained on.

    Fix: Capture with a forward hook on the layer, or declare post_final_norm. Leave hidden_states_index out for the
    last layer: there is no index that gives its output.

    Bad: manifest.json, of a model with 32 layers
        {"layer": 31, "module": "model.layers.31", "hidden_states_index": 32}

    Good: manifest.json, of a model with 32 layers
        {"layer": 31, "module": "model.layers.31"}
    """

    severity = "error"
    level = "layout"


class SR311(RuleText):
    """A normalization that readers will not apply.

    `normalize_activations` of cfg.json, or `normalization.kind` in saereg's own layout, is one that exists while
    training alone: `expected_average_only_in` or `covariance_whitening`.

    Why: SAELens multiplies inputs by √D / mean ‖x‖ while it trains, and at inference does nothing for this setting. If
    the weights were not folded, they read inputs of the wrong size: the relative error of reconstructions is about
    0.48 and the L0 another. If they were, the setting says something that is no longer so. Nobody who downloads the
    release can tell which; SAELens warns at most.

    Fix: Fold the scale into the weights and declare none. `saereg convert SOURCE TARGET --to saelens --set
    scaling_factor=0.25` does both, or `--set already_folded=true` where the weights are folded already.

    Bad: cfg.json
        "normalize_activations": "expected_average_only_in"

    Good: cfg.json, of weights with W_enc·s, W_dec/s and b_dec/s
        "normalize_activations": "none"
    """

    severity = "error"
    level = "header"


class SR312(RuleText):
    """A normalization is folded into the weights and declared at once.

    Looked at where `source_checkpoint.tensors` of the manifest says what the export did to each tensor. A scale s of
    the inputs counts as folded when b_dec was divided by s and what was done to W_enc was undone in W_dec (of a
    transcoder, whose output has a scale of its own: when W_enc was multiplied and b_enc was not). Reported when
    cfg.json then declares a normalization that readers apply: `layer_norm`, `constant_norm_rescale`, or statistics
    that are stored beside the weights. One that they do not apply is SR311.

    Why: Readers do what cfg.json says on weights that already do it, so inputs are scaled by s twice. A TopK hardly
    shows it in its L0, and nothing fails; reconstructions are off by the factor, thresholds and biases are in the
    wrong units.

    Fix: Declare no normalization, or export again without the fold. If training really did the one after the other,
    ignore this rule for the artifact and give that as the reason.

    Bad: manifest.json and cfg.json
        "W_enc": {"key": "W_enc", "steps": [{"do": "scale", "by": 0.25}]},
        "W_dec": {"key": "W_dec", "steps": [{"do": "scale", "by": 4.0}]},
        "b_dec": {"key": "b_dec", "steps": [{"do": "scale", "by": 4.0}]}

        "normalize_activations": "constant_norm_rescale"

    Good: manifest.json and cfg.json
        "W_enc": {"key": "W_enc", "steps": [{"do": "scale", "by": 0.25}]},
        "W_dec": {"key": "W_dec", "steps": [{"do": "scale", "by": 4.0}]},
        "b_dec": {"key": "b_dec", "steps": [{"do": "scale", "by": 4.0}]}

        "normalize_activations": "none"
    """

    severity = "error"
    level = "header"


class SR313(RuleText):
    """Nothing shows which layer norm it was trained with.

    Reported of an artifact in SAELens' layout whose cfg.json says `layer_norm`, when it has no golden vectors, or when
    those that the index records do not replay or were made from cfg.json itself. Golden vectors count when they were
    computed by the code that trained the weights, or by the forward of their publisher's layout.

    Why: SAELens divides by the unbiased standard deviation (ddof 1) and adds 1e-5 outside the root; torch's
    `F.layer_norm`, which most training code calls, takes the biased variance and adds it inside. The results differ
    by 1 / (2·d_in): 0.012 % at 4096, 0.8 % at 64, and much more for rows of small variance. No error and no shape tells
    the two apart, so only numbers of the source can.

    Fix: Ship golden vectors that the training code made. `saereg convert` makes them from the original checkpoint.

    Bad: index.json
        "golden": {"made_by": "saereg 0.1.0: forward of saelens (SAELens 6.54, `saes/sae.py`)"}

    Good: index.json
        "golden": {"made_by": "sae_lens 6.54.12 TopKTrainingSAE forward"}
    """

    severity = "warning"
    level = "header"


class SR321(RuleText):
    """The token policy is missing.

    `tokens` of the manifest says which tokens became rows: whether a BOS token was prepended, what separates
    documents, what was excluded, how long contexts are. A release in which every site is a parameter tensor needs none.

    Why: In most models the activation at BOS is many times as large as all others. With it or without it, with padding
    or without, L0 and explained variance differ severalfold, and dashboards show latents for tokens
    that training never saw. SAELens takes `prepend_bos` true when its metadata is lost.

    Fix: Give `tokens` in the manifest.

    Bad: manifest.json
        "datasets": {"text": {"id": "allenai/dolma"}}

    Good: manifest.json
        "datasets": {"text": {"id": "allenai/dolma"}},
        "tokens": {"bos": false, "separator": "eos", "excluded": ["pad"], "context_size": 1024}
    """

    severity = "error"
    level = "layout"


class SR322(RuleText):
    """The context is longer than the model's.

    `tokens.context_size` and the longest of `tokens.buckets` in manifest.json (level layout), and `context_size` in the
    metadata of each cfg.json (level header), against `context_size` of the base model, where that is given. Releases of
    parameter tensors have no contexts.

    Why: Beyond its context a model with learned positions fails, and one with rotary positions answers with activations
    that occur in no real use. Either the number is wrong, and readers collect other activations than were trained on,
    or part of the training data was such activations.

    Fix: Correct the number; the model's is `max_position_embeddings` or `n_positions` in its config.json.

    Bad: manifest.json
        "base_models": {"base": {"id": "EleutherAI/pythia-70m", "context_size": 2048}},
        "tokens": {"bos": false, "context_size": 8192}

    Good: manifest.json
        "base_models": {"base": {"id": "EleutherAI/pythia-70m", "context_size": 2048}},
        "tokens": {"bos": false, "context_size": 1024}
    """

    severity = "warning"
    level = "layout"


class SR331(RuleText):
    """A pretraining step that the model was not saved at.

    `step` of each base model and `sources.steps` of crosscoders over snapshots, against `schedule` of the base model,
    where that is given: a name such as `pythia-154` (0, 1, 2, 4 … 512, then every 1,000 to 143,000), a rule such as
    `every:1000:143000`, or a list of steps.

    Why: There is no such checkpoint, so nobody can load the model that the dictionary belongs to. Usually a step was
    written for its position in a list, or tokens for steps, and the time axis of every plot is wrong with it.

    Fix: Correct the step; the hint names the nearest ones that exist. Where the model has checkpoints of its own,
    correct the schedule.

    Bad: manifest.json
        "base_models": {"early": {"id": "EleutherAI/pythia-160m", "step": 1024, "schedule": "pythia-154"}}

    Good: manifest.json
        "base_models": {"early": {"id": "EleutherAI/pythia-160m", "step": 1000, "schedule": "pythia-154"}}
    """

    severity = "warning"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR301,
    SR302,
    SR303,
    SR304,
    SR311,
    SR312,
    SR313,
    SR321,
    SR322,
    SR331,
)
"""The rules of this file."""
