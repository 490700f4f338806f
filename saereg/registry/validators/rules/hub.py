"""What the Hub would not take, found before anything is sent: SR513 of the card, SR605 of sizes and numbers."""

from saereg.registry.validators.rules.text import RuleText


class SR513(RuleText):
    """The Hub refuses the front matter of the card.

    The Hub checks the front matter of README.md before it accepts a commit. Of that check the part that is known is
    made here: `base_model` and `datasets` are ids of repositories, one or a list; `language` is made of codes in small
    letters; `tags` is made of texts; none of these keys stands there without a value; `model-index` is a list of
    models with `name` and `results`, each result with a type of its task, type and name of its data set, and metrics
    with type and value. An unknown licence is SR502, YAML that cannot be read SR512.

    Why: The commit is refused as a whole, with a sentence that often does not say which key is meant. A front matter of
    which the Hub once took every value is refused as well, since the check became stricter: then nothing at all can be
    added to the repository until the card is corrected. A model-index without one of its parts makes the Hub's own
    library refuse to load the card.

    Fix: Correct the value that is named, or remove the key. A data set or model that is not on the Hub belongs into the
    manifest and into the text of the card.

    Bad: README.md
        ---
        license: mit
        language: en-US
        datasets:
        - the Pile, deduplicated
        ---

    Good: README.md
        ---
        license: mit
        language: en
        datasets:
        - EleutherAI/the_pile_deduplicated
        ---
    """

    severity = "error"
    level = "layout"


class SR605(RuleText):
    """The release is larger than the Hub takes.

    Sizes and numbers of the files are looked at, not their contents. An error is a file of more than 500 GB, or a
    folder with more than 10,000 entries, files and folders together. A warning is a file of more than 50 GB, or more
    than 100,000 files. GB are 10^9 bytes. What the owner of a repository has left of its storage is not known here.

    Why: The Hub refuses a commit that goes beyond the first two, after everything was uploaded. A file of more than
    50 GB can be downloaded with hf-xet alone: browsers, curl and older clients get an error. Repositories of more than
    100,000 files become slow for everybody, and listing them takes a hundred requests.

    Fix: Put the artifacts into folders by site or layer, or publish several releases. Split weights that are larger by
    layer or site into several artifacts.

    Bad: example-saes/
        manifest.json
        saes/                           (12,288 folders, one per feature family)

    Good: example-saes/
        manifest.json
        layer_0/                        (512 folders)
        layer_1/                        (512 folders)
    """

    severity = "error"
    level = "layout"
    also = ("warning",)


RULES: tuple[type[RuleText], ...] = (SR513, SR605)
"""The rules of this file."""
