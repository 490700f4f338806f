"""Rules that compare the artifacts of a release with each other, with their names, and with the author's own rule."""

from saereg.registry.validators.rules.text import RuleText


class SR007(RuleText):
    """Two artifacts have the same weights.

    The sha256 of every weight file in index.json (where there is no index, of the files themselves, at level weights).
    Reported are artifacts whose weight files are the same byte for byte, and a weight file of which a second copy lies
    in the release. Two evaluations or two golden files may well be equal; only weights are compared.

    Why: One of the two is not what its name says. A sweep script that writes the last run under every name, or a copy
    that was meant to be replaced, gives releases in which seed 1 is seed 0; whoever compares the two finds that
    dictionaries agree perfectly. A second name for a pick is a field (`canonical`), and costs no second download.

    Fix: Export the artifact that is missing again, or remove the copy and its entry from the manifest. To mark a pick,
    set `canonical`.

    Bad: index.json
        layer_6/topk_64_seed0/sae_weights.safetensors   sha256 9f86d081884c…
        layer_6/topk_64_seed1/sae_weights.safetensors   sha256 9f86d081884c…

    Good: index.json
        layer_6/topk_64_seed0/sae_weights.safetensors   sha256 9f86d081884c…
        layer_6/topk_64_seed1/sae_weights.safetensors   sha256 60303ae22b99…
    """

    severity = "warning"
    level = "header"


class SR111(RuleText):
    """Id and path contradict each other.

    What an artifact's `id` and `path` state in so many words: a layer (`layer_12`, `blocks.12`), a width (`width_16k`,
    `d8192`), a k (`topk_64`, `k64`), a seed, a sparsity coefficient (`lam0p40`), a step, a snapshot. Reported where
    both state one of these and no number fits both. Id and path may differ freely otherwise; `16k` and `16384` agree.

    Why: Loaders find an artifact by its id and download its path. Where the two disagree, somebody asks for layer 3,
    gets layer 4, and nothing fails: both have the same shape. Published registries had such rows for months.

    Fix: Correct whichever is wrong. Compare with the weights before: their sha256 is in index.json.

    Bad: manifest.json
        {"id": "layer_3/topk_64", "path": "layer_4/topk_64", "site": "residual-3"}

    Good: manifest.json
        {"id": "layer_3/topk_64", "path": "layer_3/topk_64", "site": "residual-3"}
    """

    severity = "warning"
    level = "layout"


class SR112(RuleText):
    """A name says something else than the field.

    What an artifact's `id` and `path` state in so many words, against its fields: the layer against that of its site,
    `width_163k` or `d8192` against `d_sae`, `topk_64` against `sparsity.k`, a seed, `lam0p40` against the sparsity
    coefficient, `step1000` against the step of its base model (where the release has several steps),
    `cross-snapshot-32` against the number of sources, `50M` or `final` at the end against `snapshot`, and the
    architecture where a folder is named after it. Numbers are compared to the digits that the name has, and only where
    the field is given.

    Why: People read the name and programs read the field. Results are then reported for a width or a layer that the
    dictionary does not have, and the copy-and-paste error behind it stays unseen, since both values are plausible.

    Fix: Correct the field, or rename the artifact. Nothing is ever read out of a name, so a name may also just not say
    it.

    Bad: manifest.json
        {"id": "layer_15/width_163k/topk_64", "d_sae": 131072, "sparsity": {"k": 64}}

    Good: manifest.json
        {"id": "layer_15/width_163k/topk_64", "d_sae": 163840, "sparsity": {"k": 64}}
    """

    severity = "warning"
    level = "layout"


class SR114(RuleText):
    """Artifacts are listed in the text order of their numbers.

    The order of `artifacts` in manifest.json. Reported where three or more ids in a row are sorted as text and a larger
    number stands before a smaller one for that reason alone: step1000, step102000, step2000. Any order that is not
    exactly that of the text is taken to be meant.

    Why: Tables, plots and the source axes of crosscoders follow this order. A training trajectory drawn in it jumps
    back and forth, and whoever pairs the list with sorted step numbers pairs the wrong ones.

    Fix: Sort by the numbers: `saereg validate RELEASE --fix` does, then `saereg build RELEASE`.

    Bad: manifest.json
        step1, step1000, step102000, step128, step2000

    Good: manifest.json
        step1, step128, step1000, step2000, step102000
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR403(RuleText):
    """Different artifacts have identical numbers.

    Two comparisons. In index.json: artifacts with different weights, measured on the same data, whose explained
    variance, error and other continuous metrics agree in every digit. In manifest.json: artifacts whose claims agree
    in both a quality (such as explained variance) and an L0 printed with at least three digits, unless the index has
    verified these claims; artifacts that differ in nothing but the seed agree in three digits by nature, and are
    reported from five on. Declared failures are left out.

    Why: Two different dictionaries do not reconstruct 10,000 rows equally well to twelve digits. Most often one
    measurement was copied to several rows, or one checkpoint was evaluated under several names, and every conclusion
    from the table (nothing changes before step 256) is one about the script.

    Fix: Measure again: `saereg build RELEASE` computes every number from the weights. If the claims are right and
    merely rounded alike, state them with more digits, with their evaluation, so that they can be verified.

    Bad: manifest.json
        step1     {"metric": "explained_variance", "value": 0.729}, {"metric": "l0", "value": 1150}
        step128   {"metric": "explained_variance", "value": 0.729}, {"metric": "l0", "value": 1150}

    Good: manifest.json
        step1     {"metric": "explained_variance", "value": 0.7291}, {"metric": "l0", "value": 1150}
        step128   {"metric": "explained_variance", "value": 0.7294}, {"metric": "l0", "value": 1148}
    """

    severity = "warning"
    level = "header"


class SR431(RuleText):
    """The canonical picks are not those of the rule.

    `canonical.rule` of manifest.json is evaluated: `lowest METRIC`, `highest METRIC`, `best METRIC` or `METRIC closest
    to NUMBER`, each perhaps with ` per FIELD, FIELD`. Measured values of index.json decide where all artifacts of a
    group have one; otherwise the claims do, those of training included, and the message says which. Reported are
    flagged artifacts that the rule does not choose, and groups in which none is flagged. Where two tie, either is
    right. Declared failures are left out.

    Why: Most people load the canonical dictionary of a layer and never look at another one. A flag that was not moved
    after the last run, or moved by hand from memory, sends them to the wrong one, with a stated reason that is false.

    Fix: Move the flag to the artifact that the message names, or state the rule by which you really chose.

    Bad: manifest.json
        "canonical": {"rule": "lowest nmse_uncentred_row per layer"}
        layer_23/topk_64    nmse_uncentred_row 0.343949   "canonical": true
        layer_23/topk_128   nmse_uncentred_row 0.329776

    Good: manifest.json
        "canonical": {"rule": "lowest nmse_uncentred_row per layer"}
        layer_23/topk_64    nmse_uncentred_row 0.343949
        layer_23/topk_128   nmse_uncentred_row 0.329776   "canonical": true
    """

    severity = "error"
    level = "header"


class SR432(RuleText):
    """An artifact failed and does not say so.

    What the index measured, or, where it measured nothing, what is claimed of the weights. Reported is an explained
    variance of 0 or less, an L0 of 0 or of 90 % of all latents, a dead fraction of 0.99 (given enough rows), and an
    explained variance below half of the median, and more than five median deviations away from it, of at least three
    others of the same kind, site, width and sources. Where there are several evaluations, the best one counts.

    Why: Failed runs are worth publishing, as what they are. Unmarked, they are averaged into comparisons, picked by
    queries and loaded by people who take noise for features. A note in the card reaches no program.

    Fix: Give the reason in `expected_failure`, take the artifact out of the release, or, if the number surprises you,
    look for a wrong scale, threshold or normalization.

    Bad: manifest.json
        {"id": "d8192/gated", "claims": [{"metric": "explained_variance", "value": 0.214}]}

    Good: manifest.json
        {
          "id": "d8192/gated",
          "expected_failure": "lambda 0.3 of the ReLU runs does not carry over; see d8192/gated-retuned",
          "claims": [{"metric": "explained_variance", "value": 0.214}]
        }
    """

    severity = "error"
    level = "header"


class SR433(RuleText):
    """The canonical rule cannot be evaluated.

    One of three things, and the message says which: artifacts are flagged canonical and the manifest has no
    `canonical.rule`; the rule is written in words outside its grammar; or its metric is neither measured nor claimed of
    the artifacts that it would have to compare.

    Why: A pick whose reason cannot be checked is wrong sooner or later, and nobody notices: the next run is better, the
    flag stays where it was. Readers cannot tell a measured best from a favourite.

    Fix: Write `lowest METRIC`, `highest METRIC`, `best METRIC` or `METRIC closest to NUMBER`, then ` per FIELD`, such
    as `l0 closest to 100 per layer, width`. Claim the metric, or add an evaluation and run `saereg build`. A choice by
    other reasons may stay in words; this is only a note.

    Bad: manifest.json
        "canonical": {"rule": "the most interpretable one of each layer"}

    Good: manifest.json
        "canonical": {"rule": "l0 closest to 100 per layer"}
    """

    severity = "note"
    level = "header"


class SR434(RuleText):
    """A declared failure did not fail.

    Artifacts with `expected_failure` whose explained variance, measured or else claimed, is above 0.5, and that have
    none of the signs of SR432.

    Why: Everything that compares artifacts leaves declared failures out: the canonical rule, duplicates, tables.
    Usually the run was repeated and mended while the note stayed, so a good dictionary is never found; or the files are
    not those of the run that failed.

    Fix: Remove `expected_failure`, or check that the weights are those of the failed run.

    Bad: manifest.json
        {
          "id": "d8192/gated-retuned",
          "expected_failure": "lambda does not carry over",
          "claims": [{"metric": "explained_variance", "value": 0.827}]
        }

    Good: manifest.json
        {"id": "d8192/gated-retuned", "claims": [{"metric": "explained_variance", "value": 0.827}]}
    """

    severity = "warning"
    level = "header"


RULES: tuple[type[RuleText], ...] = (
    SR007,
    SR111,
    SR112,
    SR114,
    SR403,
    SR431,
    SR432,
    SR433,
    SR434,
)
"""The rules of this file."""
