"""SR7: registries that list the releases of others, such as `pretrained_saes.yaml`; numbers: federation_numbers.py."""

from saereg.registry.validators.rules.text import RuleText


class SR701(RuleText):
    """An alias names nothing.

    Rows whose id says that they are the canonical pick, such as `layer_0/width_16k/canonical`: the file that they name
    must be that of another row of the registry, under the name of its own.

    Why: An alias says "this one of those". Where the one it picks is not listed, nobody can see which settings or
    siblings it has, and the pick cannot be compared with what else there was to choose from.

    Fix: Add the row that the alias picks, or correct the path of the alias.

    Bad: pretrained_saes.yaml (no other row has this path)
        - id: layer_0/width_16k/canonical
          path: layer_0/width_16k/average_l0_99

    Good: pretrained_saes.yaml
        - id: layer_0/width_16k/canonical
          path: layer_0/width_16k/average_l0_105
        - id: layer_0/width_16k/average_l0_105
          path: layer_0/width_16k/average_l0_105
    """

    severity = "warning"
    level = "layout"


class SR702(RuleText):
    """A listed file is not in its repository.

    With `--remote`, every row against the files of its repository at its newest commit, of which each is listed once: a
    path is that of a file, or of a folder with files. A repository that is gone, or that may not be read, is reported
    once. Without `--remote` nothing is asked.

    Why: The row is offered by every tool that reads the registry, and loading it ends in an error of the Hub, after the
    rest of a sweep has run.

    Fix: Correct the path, or remove the row. Where the author moved the files, name the new path.

    Bad: pretrained_saes.yaml (the repository has layer_0/width_16k/average_l0_104)
        - id: layer_0/width_16k/average_l0_104
          path: layer_0/width_16k/average_l0_105

    Good: pretrained_saes.yaml
        - id: layer_0/width_16k/average_l0_104
          path: layer_0/width_16k/average_l0_104
    """

    severity = "error"
    level = "layout"


class SR704(RuleText):
    """A release is nested in a row of another.

    Rows that have `saes` of their own. The parser of SAELens takes `id` and `path` of such a row and passes over the
    rest. The message says how many rows are hidden, and how many of them no visible row lists.

    Why: What stands in the nested list cannot be loaded, searched or seen, and no parser complains. It is the trace of
    a merge that went wrong, so the visible rows around it deserve a look as well.

    Fix: Take the nested keys out of the row. Rows that are nowhere else belong into the list of the release.

    Bad: pretrained_saes.yaml
        gpt2-small-res:
          saes:
          - id: blocks.10.hook_resid_pre
            path: 10-res
            saes:
            - id: blocks.2.hook_resid_pre
              path: 2-res

    Good: pretrained_saes.yaml
        gpt2-small-res:
          saes:
          - id: blocks.2.hook_resid_pre
            path: 2-res
          - id: blocks.10.hook_resid_pre
            path: 10-res
    """

    severity = "error"
    level = "layout"


class SR705(RuleText):
    """The id on Neuronpedia contradicts the row.

    Model, layer, site (`res`, `mlp`, `att`) and width of the id on Neuronpedia, such as
    `gemma-2-2b/0-gemmascope-mlp-16k`, against the model of the release and what id and path of the row say in so many
    words. What one of the two does not say is not compared. Where a release counts by `hook_resid_pre`, the output of
    its last layer may be counted as the input of the next.

    Why: Explanations, dashboards and steering examples are those of another dictionary. Nothing breaks: the features
    are numbered alike, and mean something else.

    Fix: Correct the id. Its page on neuronpedia.org names the model, the hook and the file it was made from.

    Bad: pretrained_saes.yaml
        - id: layer_3/width_16k/canonical
          path: layer_3/width_16k/average_l0_59
          neuronpedia: gemma-2-2b/4-gemmascope-res-16k

    Good: pretrained_saes.yaml
        - id: layer_3/width_16k/canonical
          path: layer_3/width_16k/average_l0_59
          neuronpedia: gemma-2-2b/3-gemmascope-res-16k
    """

    severity = "error"
    level = "layout"


class SR707(RuleText):
    """One file is listed under two names.

    Rows with the same repository and path, in one release or several. The second and every later one is reported, with
    the first. Those hidden in a row (SR704) are not counted.

    Why: A second name copies the row and not the reference to it: `canonical` repeats a path, and when one of the two
    is corrected the other stays as it was. Counts and sweeps over the registry take the SAE twice.

    Fix: Where it is meant as an alias, keep numbers and ids of both rows alike; a catalogue of saereg gives both one
    reference, and within a release keeps one row and an alias. Where it is a slip, correct the path.

    Bad: pretrained_saes.yaml
        - id: blocks.4.hook_resid_pre
          path: layer_4
        - id: blocks.5.hook_resid_pre
          path: layer_4

    Good: pretrained_saes.yaml
        - id: blocks.4.hook_resid_pre
          path: layer_4
        - id: blocks.5.hook_resid_pre
          path: layer_5
    """

    severity = "note"
    level = "layout"


class SR709(RuleText):
    """A name stands twice, and the last one wins.

    Ids in a release, releases in the registry, keys in a release or row. YAML forbids two equal keys of a mapping, and
    the usual loaders keep the last one without a word; SAELens does the same with two rows of one id.

    Why: The first one cannot be reached. Whoever loads by that name gets the other file, and the list looks complete.

    Fix: Give one of the two another name, or remove it.

    Bad: pretrained_saes.yaml
        - id: blocks.4.hook_resid_pre
          path: layer_4
        - id: blocks.4.hook_resid_pre
          path: layer_5

    Good: pretrained_saes.yaml
        - id: blocks.4.hook_resid_pre
          path: layer_4
        - id: blocks.5.hook_resid_pre
          path: layer_5
    """

    severity = "error"
    level = "layout"


class SR710(RuleText):
    """Id and path contradict each other.

    Layer, width, k, seed and site that the id of a row and its path say in so many words (`layer_12`, `width_16k`,
    `blocks.3.hook_mlp_out`); SR111 is the same of a release of saereg. What only one of the two says is not compared.

    Why: One of the two is wrong: either the row loads another SAE than it is named after, or it is named after another
    than it loads. The numbers and links of the row belong to one of them.

    Fix: Look into the configuration of the file which it is, and correct the other.

    Bad: pretrained_saes.yaml
        - id: layer_3/width_16k/canonical
          path: layer_4/width_16k/average_l0_60

    Good: pretrained_saes.yaml
        - id: layer_3/width_16k/canonical
          path: layer_3/width_16k/average_l0_59
    """

    severity = "error"
    level = "layout"


class SR711(RuleText):
    """An unknown conversion function.

    `conversion_func` of each release against the loaders that the installed SAELens has a name for; where it is not
    installed, against those of 6.54.12. Without the key SAELens' own layout is read.

    Why: Nothing of the release can be loaded: SAELens refuses it by the name of the function, before it looks at a
    file.

    Fix: Correct the name, or leave the key out for files in SAELens' own layout.

    Bad: pretrained_saes.yaml
        gemma-scope:
          conversion_func: gemma2

    Good: pretrained_saes.yaml
        gemma-scope:
          conversion_func: gemma_2
    """

    severity = "error"
    level = "layout"


class SR712(RuleText):
    """Models are named in two ways.

    Names with an owner, such as `google/gemma-3-4b-pt`, are repositories on the Hub; those without are names of
    TransformerLens, such as `gemma-2-2b`. Reported is a registry that has both, once, with the counts.

    Why: A program that looks the model up needs to know in which table; `gemma-2-2b` is no repository, and most
    repositories are no names of TransformerLens. Grouped by model, one model falls into two.

    Fix: Name every model by its repository.

    Bad: pretrained_saes.yaml
        first-release:
          model: gemma-2-2b
        second-release:
          model: google/gemma-3-4b-pt

    Good: pretrained_saes.yaml
        first-release:
          model: google/gemma-2-2b
        second-release:
          model: google/gemma-3-4b-pt
    """

    severity = "note"
    level = "layout"


class SR713(RuleText):
    """A key that no parser looks at.

    Keys of a release and of a row that `get_pretrained_saes_directory()` does not read. `links` of a release is for
    people and allowed.

    Why: What is said there reaches nobody. A key such as `explained_variance` or `L0` is a number that was meant to be
    read, and that SAELens answers with an invented one (SR703).

    Fix: Correct the key, or remove it.

    Bad: pretrained_saes.yaml
        - id: blocks.8.hook_resid_pre
          path: blocks.8.hook_resid_pre
          explained_variance: 0.976

    Good: pretrained_saes.yaml
        - id: blocks.8.hook_resid_pre
          path: blocks.8.hook_resid_pre
          variance_explained: 0.976
    """

    severity = "warning"
    level = "layout"


class SR714(RuleText):
    """A release or row that the parser cannot read.

    A release is a mapping with texts `repo_id` and `model` and a list `saes`, under a name that is a text (`on`, `null`
    and `2024` are none without quotes); a row is a mapping with texts `id` and `path` (whole numbers are taken for a
    path); `l0`, `variance_explained` and `norm_scaling_factor` are finite numbers, `neuronpedia` and `conversion_func`
    texts. What cannot be read is left out of all other rules.

    Why: A release without `saes`, or a row without `id` or `path`, makes SAELens refuse the whole registry: every
    release of every author is gone until it is corrected. A number in quotes is handed on as text and breaks the first
    comparison.

    Fix: Add what is missing. Numbers stand without quotes, names that consist of digits in quotes.

    Bad: pretrained_saes.yaml
        - id: layer_0
          l0: "76"

    Good: pretrained_saes.yaml
        - id: layer_0
          path: layer_0.safetensors
          l0: 76
    """

    severity = "error"
    level = "layout"


class SR715(RuleText):
    """One file is said to be of two models.

    Rows with the same repository and path (SR707) whose releases name different models. One finding per pair of
    releases.

    Why: One of the two runs the SAE on activations of a model that it was not trained on. Between a base model and its
    instruction-tuned sister nothing breaks: the numbers come out, somewhat worse.

    Fix: Correct `model` of the release that is wrong; the card of the repository says which model it is.

    Bad: pretrained_saes.yaml
        gemma-it-res:
          model: gemma-2-9b
          repo_id: google/gemma-scope-9b-it-res
        gemma-it-res-canonical:
          model: gemma-2-9b-it
          repo_id: google/gemma-scope-9b-it-res

    Good: pretrained_saes.yaml
        gemma-it-res:
          model: gemma-2-9b-it
          repo_id: google/gemma-scope-9b-it-res
        gemma-it-res-canonical:
          model: gemma-2-9b-it
          repo_id: google/gemma-scope-9b-it-res
    """

    severity = "error"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR701,
    SR702,
    SR704,
    SR705,
    SR707,
    SR709,
    SR710,
    SR711,
    SR712,
    SR713,
    SR714,
    SR715,
)
"""The rules of this file."""
