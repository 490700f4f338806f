"""SR2: the configuration against the tensors."""

from saereg.registry.validators.rules.text import RuleText


class SR200(RuleText):
    """A weight file cannot be read.

    The header of the safetensors file is read strictly, without its data: the length in the first eight bytes, the
    JSON, and that the entries lie one behind the other and fill the file exactly. Reported when the header is
    truncated or larger than the file, when entries overlap, leave gaps or point outside, or when the file is something
    else.

    Why: An upload that broke off leaves such a file. Readers fail late, after everything else was downloaded, or map
    bytes that are not there. Nothing else can be said of weights that cannot be found in their file, so this cannot be
    ignored.

    Fix: Write the file again and compare its sha256 with that of the original.

    Bad: layer_6/topk_64/sae_weights.safetensors
        header: W_enc F32 [768, 24576], bytes 0 to 75497472
        file:   41943040 bytes

    Good: layer_6/topk_64/sae_weights.safetensors
        header: W_enc F32 [768, 24576], bytes 0 to 75497472
        file:   151098824 bytes, as many as the header and its entries take
    """

    severity = "error"
    level = "header"
    silenceable = False


class SR201(RuleText):
    """A tensor has the wrong shape.

    Each tensor of the weight file is held against the shape that cfg.json implies: `W_enc` (d_in, d_sae), `W_dec`
    (d_sae, d_out), vectors (d_sae,) or (d_out,). Only the header of the file is read. Where the found shape is the
    implied one backwards, the message says so.

    Why: torch's Linear keeps its weight the other way round, so an export that forgets to transpose is the usual
    cause. A library refuses the tensor with an error about sizes at best. Where d_in = d_sae no reader can notice
    it, and the dictionary computes noise: for such a one golden vectors are the only proof.

    Fix: Export the tensor again in the canonical orientation, or correct the widths in cfg.json.

    Bad: header of sae_weights.safetensors
        W_enc  F32 [24576, 768]
        W_dec  F32 [24576, 768]

    Good: header of sae_weights.safetensors
        W_enc  F32 [768, 24576]
        W_dec  F32 [24576, 768]
    """

    severity = "error"
    level = "header"


class SR202(RuleText):
    """A tensor is missing or extra.

    The names in the weight file must be exactly those of the architecture in cfg.json. Reported for each name that is
    missing or too many, unless the names are those of another architecture as a whole (SR211).

    Why: SAELens loads strictly, so one tensor too many, such as the state of an optimizer, makes
    `SAE.load_from_disk` fail with a RuntimeError. A reader that does not is worse: without `b_enc` or `threshold` the
    dictionary computes another function.

    Fix: Export again with the tensors of the architecture and no others.

    Bad: header of sae_weights.safetensors
        W_enc  W_dec  b_dec  exp_avg.W_enc

    Good: header of sae_weights.safetensors
        W_enc  W_dec  b_dec  b_enc
    """

    severity = "error"
    level = "header"


class SR203(RuleText):
    """A tensor holds NaN or infinity.

    Every number of the weight file is read, block by block. The message names the tensor and the position of the
    first number that is not finite.

    Why: SAELens loads NaN, infinity and all-zero weights without a word. One NaN in `W_dec` makes every reconstruction
    in which its latent is active NaN, one in `b_dec` all of them; the explained variance of the whole data set is then
    NaN too.

    Fix: Go back to a checkpoint from before the divergence, and export that.

    Bad: sae_weights.safetensors
        W_dec[9, 1] = inf

    Good: sae_weights.safetensors
        W_dec[9, 1] = 0.0317
    """

    severity = "error"
    level = "weights"


class SR204(RuleText):
    """A tensor has another type than declared.

    The type of each tensor in the header is held against `dtype` of cfg.json, with or without `torch.` in front. In
    saereg's own layout `dtypes` names the exceptions.

    Why: SAELens casts every tensor to the declared type when it loads, in silence. A float32 file that is declared
    bfloat16 loses 16 bits of each weight, enough to flip some 3 in 10,000 gates, and numbers that were compared with
    the author's no longer agree. The other way round memory doubles for nothing.

    Fix: Declare the type that is in the file.

    Bad: cfg.json, of a file in float32
        "dtype": "bfloat16"

    Good: cfg.json, of a file in float32
        "dtype": "float32"
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


class SR205(RuleText):
    """Tied weights are claimed and the tensors are not tied, or the other way round.

    Looked at where `tied` of an artifact in the manifest is true or false. Both matrices are read block by block and
    `W_dec` is compared with `W_enc` transposed, byte for byte; of a crosscoder, for each source. The message says the
    largest difference. Architectures without an encoder of their own, such as matching_pursuit, are tied by
    definition.

    Why: Tied says that a latent reads the direction it writes, and whoever plots or steers with one matrix takes it
    for both. A card that says "tied" over two separate matrices is a claim that nobody checked. Training often begins
    tied and does not stay so; folding decoder norms or a scale of the inputs into the weights unties them for good.

    Fix: Say `tied` as it is in the released tensors, or take it out. If they should be tied, look for a fold in the
    export, and for the step of training after which they part.

    Bad: manifest.json, of matrices that differ by up to 0.4
        "architecture": "topk", "tied": true

    Good: manifest.json, of matrices that differ by up to 0.4
        "architecture": "topk", "tied": false
    """

    severity = "error"
    level = "weights"


class SR211(RuleText):
    """The tensors are those of another architecture.

    Reported when the names in the weight file are not those of `architecture` in cfg.json, and are exactly those of
    another that SAELens has. TopK and standard have the same names; there golden vectors tell (SR421).

    Why: The architecture decides the function, and SAELens takes it from cfg.json. A TopK with k = 4 that is loaded
    as `standard` has an L0 of 34 in place of 4, without any warning. JumpReLU weights without their threshold keep
    every positive latent. Every number that is then computed is of another dictionary.

    Fix: Correct `architecture` in cfg.json, and in the manifest.

    Bad: cfg.json, of a file with W_enc, b_enc, W_dec, b_dec and threshold
        "architecture": "standard"

    Good: cfg.json, of a file with W_enc, b_enc, W_dec, b_dec and threshold
        "architecture": "jumprelu"
    """

    severity = "error"
    level = "header"


class SR212(RuleText):
    """K is larger than the dictionary.

    `k` of cfg.json, and `kval_topk` of a temporal dictionary, are held against `d_sae`. They may be equal.

    Why: SAELens loads `k` = 400 for 64 latents; what fails is the first forward pass, in topk, on the machine of
    whoever downloaded it. A slip of a digit in k that still fits is not seen here but by the golden vectors.

    Fix: Correct k.

    Bad: cfg.json
        "k": 400, "d_sae": 64

    Good: cfg.json
        "k": 4, "d_sae": 64
    """

    severity = "error"
    level = "header"


class SR213(RuleText):
    """A threshold is negative or of the wrong type.

    The numbers of the tensor `threshold` are read: none may be below 0. At level header its type is looked at, which
    must be a floating-point one. Zero is a threshold like others: it lets what is positive pass.

    Why: dictionary_learning writes −1 into a BatchTopK whose threshold was never set, and SAELens takes that for a
    threshold: every positive latent passes, hundreds where k were trained. A threshold in log space looks the same,
    and is wrong by orders of magnitude. Whole numbers are cast in silence.

    Fix: Calibrate the threshold on data, or take its exponential if it is a logarithm, and export again.

    Bad: sae_weights.safetensors
        threshold = [-1.0, -1.0, -1.0, …]

    Good: sae_weights.safetensors
        threshold = [0.0312, 0.0287, 0.0, …]
    """

    severity = "error"
    level = "weights"


class SR214(RuleText):
    """Decoder directions have no length.

    The norms of all rows of `W_dec` are computed. Reported with the number of those that are exactly 0; a small norm
    is none of them.

    Why: A latent whose decoder row is zero writes nothing, however strongly it fires: it counts in L0 and in the
    density plots, and steering with it has no effect. Dividing by the norm, as some exports do, makes it infinite. A
    release with many was cut, padded or damaged.

    Fix: Look at the export: a few dead latents can be left, a block of zeros is a fault.

    Bad: sae_weights.safetensors, norms of W_dec
        0.98  1.02  0.0  0.0  0.0  0.0

    Good: sae_weights.safetensors, norms of W_dec
        0.98  1.02  0.97  1.01  1.00  0.99
    """

    severity = "warning"
    level = "weights"


class SR215(RuleText):
    """Manifest and configuration disagree.

    What both say of an artifact must be the same: `architecture`, `d_in`, `d_sae`, `d_out` of a transcoder, `sources`
    of a crosscoder, `k` where cfg.json has one, and `format`.

    Why: `saereg ls` and the tables of the card answer from the manifest, a reader loads by cfg.json. Whoever looks
    for k = 64 gets k = 128, and the memory that was planned for 16,384 latents does not hold 163,840.

    Fix: Correct the one that is wrong; the tensors say which.

    Bad: manifest.json, with "d_sae": 163840 in cfg.json
        {"id": "layer_7/topk_64", "d_sae": 16384}

    Good: manifest.json, with "d_sae": 163840 in cfg.json
        {"id": "layer_7/topk_64", "d_sae": 163840}
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


class SR216(RuleText):
    """An artifact cannot be said in the layout of the profile.

    Looked at when the profile asks for a layout: `saelens`, `sparsify` or `dictionary-learning`. The writer of that
    layout, the one of `saereg convert --to`, is asked whether it has words for the function that cfg.json means; the
    message is its answer. No weights are read. An artifact that is in that layout already passes.

    Why: A layout that has no word for a threshold, a skip connection or an input normalization does not refuse such
    weights when somebody writes them by hand: the switch is dropped, and the dictionary is loaded as another. sparsify
    has topk and groupmax and nothing else; dictionary_learning normalizes no inputs; SAELens has no gate per source.

    Fix: Leave the artifact out of this release, or choose the profile that it belongs to.

    Bad: layer_6/jumprelu/cfg.json, with profile sparsify
        "architecture": "jumprelu"

    Good: layer_6/topk_64/cfg.json, with profile sparsify
        "architecture": "topk", "k": 64, "normalize_activations": "none"
    """

    severity = "error"
    level = "header"


class SR217(RuleText):
    """The decoder norms are not those that are claimed.

    Looked at where `decoder_norm` of an artifact in the manifest is `unit`: every row of `W_dec`, of a crosscoder over
    all sources together, must have norm 1 to within 0.001. At level header the norms that `saereg build` recorded in
    the index are taken, at level weights they are measured again. `free` is true of any decoder.

    Why: With unit norms an activation is the length of what a latent writes, so activations compare between latents,
    and pre-activation and pre × norm rank alike. Tools that take this for granted give wrong top latents where norms
    run from 0.3 to 2.7, and an auto-interpretation that sorts by activation sorts by the wrong quantity.

    Fix: Say `free`, or fold the norms: W_dec / n, and W_enc, b_enc and threshold times n. A TopK ranks other latents
    after such a fold, unless it ranked by pre × norm before.

    Bad: manifest.json, of norms from 0.31 to 2.7
        "decoder_norm": "unit"

    Good: manifest.json, of norms from 0.31 to 2.7
        "decoder_norm": "free"
    """

    severity = "error"
    level = "header"


RULES: tuple[type[RuleText], ...] = (
    SR200,
    SR201,
    SR202,
    SR203,
    SR204,
    SR205,
    SR211,
    SR212,
    SR213,
    SR214,
    SR215,
    SR216,
    SR217,
)
"""The rules of this file."""
