"""SR6: what a repository on the Hub holds, against the index that is in it."""

from saereg.registry.validators.rules.text import RuleText


class SR601(RuleText):
    """A file on the Hub is not the one that was indexed.

    `saereg verify` compares every file that index.json names with the repository at one commit: its size, and its
    sha256, which the Hub lists for large files and which is computed of small ones. With `--sample` also the bytes that
    the Hub sends of some artifacts. A card that was edited on the site is a warning.

    Why: All evidence in the index speaks of the bytes with the recorded digest. Whoever downloads this file gets
    others: metrics, golden vectors and signature say nothing of them. The usual causes are a file that was uploaded by
    hand after the build, and an upload of several commits of which the last one is missing.

    Fix: Publish the release again with `saereg publish`, which sends what differs and verifies it. If the file was
    meant to change, run `saereg build` before. Of a card that was edited on the site: take the edit into your folder
    (download README.md, run `saereg build`, raise the version), or leave it.

    Bad: index.json (the Hub lists fcde2b2edba5…)
        {"path": "layer_6/topk_64/sae_weights.safetensors", "sha256": "2c26b46b68ff…"}

    Good: index.json (the Hub lists fcde2b2edba5…)
        {"path": "layer_6/topk_64/sae_weights.safetensors", "sha256": "fcde2b2edba5…"}
    """

    severity = "error"
    level = "layout"
    also = ("warning",)
    silenceable = False


class SR604(RuleText):
    """A file of the release is not on the Hub.

    `saereg verify` looks in the repository, at one commit, for every file that index.json names. With `--sample` it is
    also reported of a file that the Hub lists and whose bytes it does not have.

    Why: The index of this commit promises what cannot be downloaded: only a part of the release was uploaded, or a file
    was deleted later. A reader finds out by a 404, after the other gigabytes were fetched.

    Fix: Publish the release again with `saereg publish`, which sends what is missing and verifies it.

    Bad: org/example-saes
        index.json                      (names layer_6/topk_64/sae_weights.safetensors)
        layer_6/topk_64/cfg.json

    Good: org/example-saes
        index.json                      (names layer_6/topk_64/sae_weights.safetensors)
        layer_6/topk_64/cfg.json
        layer_6/topk_64/sae_weights.safetensors
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR607(RuleText):
    """The signature is not of what is on the Hub.

    `saereg verify --public-key FILE` checks model.sig with the public key, and compares the digests that it lists with
    those of the repository. No weights are downloaded for it. Cards are not signed: people edit them on the site.

    Why: A signature is asked for to know that the files come from somebody. Of files that it does not list, or lists
    with other digests, that is not known.

    Fix: Sign the release again with `saereg sign` and publish it, if you are its author. If you are not, do not use it.

    Bad: org/example-saes
        model.sig                       (signed before the weights were exported again)

    Good: org/example-saes
        model.sig                       (signed after the last `saereg build`)
    """

    severity = "error"
    level = "layout"
    silenceable = False


RULES: tuple[type[RuleText], ...] = (SR601, SR604, SR607)
"""The rules of this file; `saereg validate` finds none of them, `saereg verify` does."""
