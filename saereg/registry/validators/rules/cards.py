"""SR5: the card, which is what people and the Hub read of a release."""

from saereg.registry.validators.rules.text import RuleText


class SR500(RuleText):
    """There is no card.

    Looked for is README.md, in capital letters, at the root of the release: the one file that the Hub shows as the
    page of a repository, and from which it reads library, licence and base model.

    Why: Without it the page is empty. Nobody finds the release by its base model, and nobody may use it, because no
    licence is stated. People guess hook and layer from the names of folders.

    Fix: Run `saereg build`, which writes a first card with front matter, inventory and a snippet; then write the rest.

    Bad: files of the release
        index.json
        manifest.json
        layer_1/topk/cfg.json

    Good: files of the release
        README.md
        index.json
        manifest.json
        layer_1/topk/cfg.json
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR501(RuleText):
    """The card names no library, or one that cannot open the release.

    The Hub shows a "Use this model" snippet by `library_name`. Where every artifact is in SAELens' format, that should
    be `saelens`. Where some are not, such as crosscoders, `saelens` would show a snippet that fails; any name for which
    the Hub has no snippet does no harm there. A name such as `transformers` or `peft` always does. `saereg`, which
    opens every artifact of every release, is accepted everywhere.

    Why: People paste the snippet of the page and get an error, or there is none and they give up. Searches for
    `library:saelens` do not find the release.

    Fix: Write the library into the front matter: `library_name: saelens`, or `saereg` where SAELens cannot open every
    artifact.

    Bad: README.md
        ---
        license: mit
        library_name: transformers
        ---

    Good: README.md
        ---
        license: mit
        library_name: saelens
        ---
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR502(RuleText):
    """The card's licence is missing, unknown to the Hub, or not that of the manifest.

    `license` in the front matter is compared with the Hub's list of identifiers and with `release.license` of the
    manifest. A licence that is not on the list is written as `other` with `license_name` and `license_link`. That card
    and manifest contradict each other is an error; the rest is a warning.

    Why: Without a licence nobody may use the weights, and companies filter such repositories out. With two licences
    nobody knows which one binds. The Hub refuses a commit whose card names a licence that is not on its list.

    Fix: State in the front matter the licence that the manifest states, by the Hub's identifier.

    Bad: README.md
        ---
        license: MIT License
        ---

    Good: README.md
        ---
        license: mit
        ---
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR503(RuleText):
    """The card's base model is missing, another than the manifest's, or stands in a wrong relation.

    `base_model` should list the Hub ids of all base models in the manifest, and `base_model_relation` should be
    `adapter`. The Hub knows four relations: `finetune`, `quantized`, `merge` and `adapter`. None was made for
    dictionaries. Three of them say that the repository holds a language model of its own; only `adapter` says that
    these are weights which go with a base model that stays as it is. Where no relation is given the Hub infers one
    from the files, and for a folder of safetensors files that is `finetune`, or `merge` where two models are listed.

    Why: Without `base_model` the release is missing from the base model's page, where most people look. Without the
    relation it is counted there among the finetuned models, where nobody looks for dictionaries, and people who
    want a finetune download one.

    Fix: Write both into the front matter. The exact relation (site, layer, revision) stays in the manifest.

    Bad: README.md
        ---
        base_model: EleutherAI/pythia-410m
        ---

    Good: README.md
        ---
        base_model: EleutherAI/pythia-410m
        base_model_relation: adapter
        ---
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR504(RuleText):
    """The card does not list the data sets.

    Compared are `datasets` in the front matter and the Hub ids in the manifest's `datasets`, for releases of
    dictionaries of activations. Texts that are not on the Hub, which the manifest gives by a name or a digest, and
    dictionaries of parameters need no entry; more entries than the manifest has are fine.

    Why: What a dictionary learned depends on the text that it saw. The Hub links the card with the page of the data
    set, and people who filter by it find the release only when it is listed.

    Fix: List the Hub ids under `datasets` in the front matter.

    Bad: README.md
        ---
        license: mit
        ---

    Good: README.md
        ---
        license: mit
        datasets:
        - monology/pile-uncopyrighted
        ---
    """

    severity = "warning"
    level = "layout"
    fixable = "safe"


class SR505(RuleText):
    """Downloads will not be counted.

    The Hub counts a download when one of a few files is asked for. Libraries can register files of their own; neither
    saelens nor saereg has done so: in @huggingface/tasks 0.21.54 the entry of saelens has no counting rule, although
    one for cfg.json was once proposed. So the usual files count: config.json, config.yaml, hyperparams.yaml,
    params.json or meta.yaml, at the root of the repository. One of them is looked for. The cfg.json of each artifact
    does not count.

    Why: The page says "Downloads are not tracked for this model", whoever uses it. Authors cannot show that the
    release is used, and people who sort by downloads never see it.

    Fix: Put a small config.json at the root. saereg asks for it whenever it opens a release from the Hub, and so does
    everybody who downloads the whole repository. `saereg build` writes one together with the first card.

    Bad: files of the release
        README.md
        manifest.json
        layer_1/topk/cfg.json

    Good: files of the release
        README.md
        config.json
        manifest.json
        layer_1/topk/cfg.json
    """

    severity = "warning"
    level = "layout"


class SR508(RuleText):
    """A table of the card says something else than the manifest and the index.

    Two things are looked at. Generated parts, between `<!-- saereg:begin inventory -->` and the line that ends
    them, and the keys of the front matter between `# saereg:begin front-matter` and its end, must be what `saereg
    build` would write now, the warning of a withdrawn version included. A part with `custom` behind its name was made
    by a template of the author, and counts as written by hand. In tables that an author wrote, rows are recognized by
    the id, folder or file of an artifact, and columns by headers such as EV, L0, FVU, dead, d_sae, width, k, layer or
    seed; cells such as `EV 0.748 / L0 160` are read as well. Each number is compared, with the digits that are
    printed, with every value that the manifest claims or the index measured of it; `163k` is 163,840. Other columns
    and rows are left alone.

    Why: People choose a dictionary by the table of the card. A number that was typed, or copied from an earlier run,
    makes them load one that is not what they read about.

    Fix: Correct the number in the card, or let saereg write the table: put `<!-- saereg:begin inventory -->` and
    `<!-- saereg:end inventory -->` into the card and run `saereg build`.

    Bad: README.md
        | SAE | d_sae | L0 |
        |---|---|---|
        | layer_1/topk | 16384 | 64 |

    Good: README.md
        | SAE | d_sae | L0 |
        |---|---|---|
        | layer_1/topk | 16384 | 32 |
    """

    severity = "error"
    level = "layout"
    fixable = "safe"


class SR509(RuleText):
    """A table is sorted as text.

    Reported is a table whose rows are in the order of their letters, where the numbers in the names then stand out of
    order: step1, step1000, step102000, step2000. Decimals such as 0.25 or 0p25 are compared as such. A table that is
    sorted by a column of numbers, such as EV, is in the order that its author chose.

    Why: A trajectory cannot be followed down the column: step 1000 stands beside step 102000. The same order, taken
    over by a script that reads the table, puts snapshots in a wrong order in time.

    Fix: Sort the rows by their numbers, as `ls -v` and `sort -V` do, or let saereg write the table.

    Bad: README.md
        | artifact | EV |
        |---|---|
        | step1 | 0.729 |
        | step1000 | 0.786 |
        | step102000 | 0.800 |
        | step2000 | 0.799 |

    Good: README.md
        | artifact | EV |
        |---|---|
        | step1 | 0.729 |
        | step1000 | 0.786 |
        | step2000 | 0.799 |
        | step102000 | 0.800 |
    """

    severity = "warning"
    level = "layout"
    fixable = "unsafe"


class SR512(RuleText):
    """The front matter of the card cannot be read.

    The front matter is the part between two `---` lines at the beginning of README.md. Reported is one that is not
    closed, is not YAML, is indented by tabs, is no list of `key: value` lines, or has a key twice; a byte order
    mark before it; and a card that is too large or may not be read, of which nothing else is looked at.

    Why: The Hub refuses a commit with such a card, after the upload. Other readers take the last of two equal keys, or
    none: library, licence and base model are then lost without a word.

    Fix: Correct the line that is named. Texts with a colon and a space in them need quotes.

    Bad: README.md
        ---
        license: mit
        title: Crosscoders: a first release
        ---

    Good: README.md
        ---
        license: mit
        title: "Crosscoders: a first release"
        ---
    """

    severity = "error"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR500,
    SR501,
    SR502,
    SR503,
    SR504,
    SR505,
    SR508,
    SR509,
    SR512,
)
"""The rules of this file."""
