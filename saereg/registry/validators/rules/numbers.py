"""SR40 to SR418, SR43: the numbers that a release states."""

from saereg.registry.validators.rules.text import RuleText


class SR401(RuleText):
    """A number of the card has no definition.

    Looked at are the tables of README.md that an author wrote, with columns such as EV, explained variance, L0, FVU or
    dead, or with cells such as `EV 0.748 / L0 160`. It is enough that the card names, anywhere, the id of a definition
    (`explained_variance`, `explained_variance_legacy_rowmean`, `l0_any_source` and so on; `l0` in backticks), or has a
    link to the page of the definitions.

    Why: "Explained variance" has at least six formulas in use, which give 0.91 and 1.0005 for the same reconstruction;
    L0 of one layer was published as 29, 42 and 1089 under three conventions. A number without a definition can neither
    be checked nor compared.

    Fix: Name the definition in the header of the column or below the table, such as `explained_variance`. The ids
    stand in `saereg schema manifest`, their formulas in docs/metrics.md of the project; the table that saereg writes
    has them.

    Bad: README.md
        | SAE | EV | L0 |
        |---|---|---|
        | layer_1/topk | 0.748 | 32 |

    Good: README.md
        | SAE | EV (`explained_variance`) | L0 (`l0`) |
        |---|---|---|
        | layer_1/topk | 0.748 | 32 |
    """

    severity = "note"
    level = "layout"


class SR402(RuleText):
    """An impossible number.

    The value of every claim in the manifest against what its metric can be: no explained variance above 1, no L0 below
    0 or above d_sae, no negative error, no share of dead latents outside 0 to 1. A negative explained variance is
    possible, and so is an fvu above 1: such a dictionary is worse than the mean. Of a `tolerance` it is reported, as a
    warning, where it is above 5 % of the value, 0.02 for a share, and half a unit of the last digit.

    Why: It is no matter of opinion: the number was taken from the wrong column, is in per cent, or was computed with
    another formula. Whoever compares releases by it puts this one on top. With a wide tolerance a
    claim is verified whatever the weights do.

    Fix: Correct the claim. An explained variance in per cent is divided by 100. Leave `tolerance` out, or state what
    the number really varies by.

    Bad: manifest.json
        {"metric": "explained_variance", "value": 78.1, "evaluation": "held-out"}

    Good: manifest.json
        {"metric": "explained_variance", "value": 0.781, "evaluation": "held-out"}
    """

    severity = "error"
    level = "layout"


class SR411(RuleText):
    """The explained variance is not what is claimed.

    Each claim of `explained_variance` or `fvu` that names an evaluation against the measurement on it: the one that
    index.json records at level header, one computed anew from the weights at level data. Half a unit of the last
    printed digit is allowed, so 0.78 agrees with 0.7762; a claim can declare its own `tolerance`, saereg.toml one for
    all.

    Why: Readers choose a dictionary by this number and then work with another. The usual causes: another definition
    (mean over rows or over batches, not centred), another token policy (BOS counted), a training figure, or weights
    that are not those that were measured.

    Fix: Correct the claim, or name the definition and data it was computed with. `saereg show RELEASE:ARTIFACT` prints
    what was measured, docs/metrics.md the definitions.

    Bad: manifest.json (measured: 0.7812)
        {"metric": "explained_variance", "value": 0.86, "evaluation": "held-out"}

    Good: manifest.json (measured: 0.7812)
        {"metric": "explained_variance", "value": 0.78, "evaluation": "held-out"}
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


class SR412(RuleText):
    """The L0 is not what is claimed.

    Each claim of `l0` that names an evaluation against the measurement on it: the recorded one at level header, one
    computed anew at level data. Half a unit of the last printed digit is allowed: 64 agrees with 63.6, and with 64.4;
    63.9 does not agree with 64.4.

    Why: L0 is what a sparsity sweep is sorted by, and it is the first number that moves when a switch is wrong: a
    threshold in other units or a missing scale changes it severalfold while the reconstruction still looks fair.

    Fix: Correct the claim, or look for a wrong threshold, k or scale. Rows count too: with BOS among them L0 is
    another.

    Bad: manifest.json (measured: 211.4)
        {"metric": "l0", "value": 64, "evaluation": "held-out"}

    Good: manifest.json (measured: 211.4)
        {"metric": "l0", "value": 211, "evaluation": "held-out"}
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


class SR413(RuleText):
    """More latents are active than k.

    The L0 that index.json records for each dictionary that keeps k latents of every row (TopK and its kin), and each
    claimed one: the largest value over the rows must not exceed k, nor may a claim. Of BatchTopK k is an average, which
    a stored threshold meets only about: there a mean of more than twice k is reported, as a warning. SR417 is about
    fewer than k.

    Why: It cannot come from this architecture. Either the weights belong to a ReLU, JumpReLU or BatchTopK dictionary,
    or k is another; whoever loads it as declared cuts off latents that were meant to be active.

    Fix: Check `architecture` and `k` of cfg.json against the training code. Then run `saereg build`.

    Bad: index.json (cfg.json: "architecture": "topk", "k": 64)
        {"metric": "l0", "value": 63.8, "maximum": 171.0}

    Good: index.json (cfg.json: "architecture": "topk", "k": 64)
        {"metric": "l0", "value": 63.8, "maximum": 64.0}
    """

    severity = "error"
    level = "header"


class SR414(RuleText):
    """A metric is not what is claimed.

    Each claim of any other metric that names an evaluation against the measurement on it: the recorded one at level
    header, one computed anew at level data. What is allowed is half a unit of the last printed digit, or the
    `tolerance` of the claim, or that of saereg.toml.

    Why: The number is printed in cards and tables and cannot be reached with the files that are shipped. Dead latents
    are the usual case: counted during training over millions of tokens, and claimed for an evaluation of thousands.

    Fix: Correct the claim, or name its kind: `training_window`, for example, for a figure of the last training steps.

    Bad: manifest.json (measured: 0.31)
        {"metric": "dead_fraction", "value": 0.02, "evaluation": "held-out"}

    Good: manifest.json (measured: 0.31)
        {"metric": "dead_fraction", "value": 0.31, "evaluation": "held-out"}
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


class SR415(RuleText):
    """A claim cannot be verified from the release.

    Each claim that has no measurement to be compared with: of another kind than `recomputed` (means over training,
    figures of a last batch), without an evaluation, on other rows than those of its evaluation (`rows`, `excluded`,
    `data_sha256`), of a metric that is named and not computed by saereg, or of one that averages over batches without
    its `batch_rows`. At level data also where an evaluation cannot be had on this machine. It is a note, since it says
    nothing against the number.

    Why: A reader can believe such a number or not. A mean over training steps, for example, was taken while the
    weights still changed and is no property of the released ones.

    Fix: Add a claim on an evaluation that the release ships. Keep the training figure, with its `kind`: it is honest.

    Bad: manifest.json
        [{"metric": "l0", "value": 71.2, "kind": "training_running_mean"}]

    Good: manifest.json
        [{"metric": "l0", "value": 63.9, "evaluation": "held-out"}]
    """

    severity = "note"
    level = "header"


class SR417(RuleText):
    """Fewer latents are active than k.

    The mean L0 that index.json records, or where it records none the claimed one, of each dictionary that keeps k
    latents of every row: reported below 90 % of k, for BatchTopK below half of k. A little less than k is usual, where
    fewer pre-activations are positive. Declared failures are left out.

    Why: TopK keeps exactly k latents and loses only those that are not positive. Far fewer mean dead or saturated
    latents, an encoder that runs on inputs of another scale than in training, or a k in the configuration that is not
    that of the training; comparisons "at L0 = k" are then made at another sparsity.

    Fix: Check k and the scale of the inputs (normalization, b_dec subtraction) against the training code. If this is
    what was trained, report the measured L0, not k.

    Bad: index.json (cfg.json: "architecture": "topk", "k": 64)
        {"metric": "l0", "value": 21.4, "maximum": 64.0}

    Good: index.json (cfg.json: "architecture": "topk", "k": 64)
        {"metric": "l0", "value": 63.8, "maximum": 64.0}
    """

    severity = "warning"
    level = "header"


class SR418(RuleText):
    """A number follows another definition than it names.

    Each claim that its own definition does not give, against all other definitions of the same family that are
    measured: shares of variance among themselves (1 − fvu included), mean squared errors, counts of active latents;
    and the same definition at other batch sizes and in other units. At level header those that index.json records, at
    level data all of them. Reported is the likeliest; the message names the others that agree too. Where a number with
    so few digits would often agree by chance, it differs (SR411, SR412, SR414), and what agrees is only mentioned.

    Why: The formulas that are all published as "explained variance" give 0.76, 0.80 and 0.96 for the same weights and
    data. Readers sort releases by this number: one that is not centred, or averaged over batches, wins unfairly.

    Fix: State the number for what it is: `--unsafe-fixes` puts `metric`, `batch_rows` and `units` in, unless several
    batch sizes agree: which it was, only the author knows. Or claim what was measured under the definition that is
    named. docs/metrics.md has the formulas.

    Bad: manifest.json (measured: explained_variance 0.7824, ev_saelens_uncentred 0.9587)
        {"metric": "explained_variance", "value": 0.959, "evaluation": "held-out"}

    Good: manifest.json (measured: explained_variance 0.7824, ev_saelens_uncentred 0.9587)
        {"metric": "ev_saelens_uncentred", "value": 0.959, "evaluation": "held-out"}
    """

    severity = "error"
    level = "header"
    fixable = "unsafe"


RULES: tuple[type[RuleText], ...] = (
    SR401,
    SR402,
    SR411,
    SR412,
    SR413,
    SR414,
    SR415,
    SR417,
    SR418,
)
"""The rules of this file."""
