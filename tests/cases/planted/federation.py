"""Cases of the rules in `rules/federation.py`: each is a registry, in place of a release."""

from dataclasses import dataclass

HEAD = """gpt2-res:
  conversion_func: null
  model: gpt2-small
  repo_id: someone/gpt2-res
  saes:
"""

WHOLE = """  - id: blocks.8.hook_resid_pre
    path: blocks.8.hook_resid_pre
    variance_explained: 0.976
    l0: 65.0
    neuronpedia: gpt2-small/8-res-xy
"""

SCOPE = """gemma-scope-res:
  conversion_func: gemma_2
  model: gemma-2-2b
  repo_id: google/gemma-scope-2b-pt-res
  saes:
"""

PICKED = """  - id: layer_0/width_16k/average_l0_105
    path: layer_0/width_16k/average_l0_105
    variance_explained: 0.8
    l0: 105
"""


@dataclass(frozen=True)
class RegistryCase:
    """One registry with a defect, or with something that looks like one and is none.

    Attributes:
        code: the rule it is about.
        text: the file.
        passes: whether the rule must find nothing.
        beside: other rules that find something in it, as they must: a second name of a file is one (SR707).
    """

    code: str
    text: str
    passes: bool = False
    beside: tuple[str, ...] = ()


def row(identifier: str, path: str, **more: object) -> str:
    """Return a row with all numbers."""
    values = {"id": identifier, "path": path, "variance_explained": 0.8, "l0": 50.5} | more
    lines = [f"{key}: {value}" for key, value in values.items() if value is not None]
    return "  - " + "\n    ".join(lines) + "\n"


def scope(name: str, model: str, *rows: str) -> str:
    """Return a release of one repository."""
    return SCOPE.replace("gemma-scope-res", name).replace("gemma-2-2b", model) + "".join(rows)


CANONICAL = row("layer_0/width_16k/canonical", "layer_0/width_16k/average_l0_105", l0=105)
BIG, BIGGER = "layer_0_width_16k_l0_big", "layer_0_width_262k_l0_big"

REGISTRY_CASES: dict[str, RegistryCase] = {
    "canonical_of_nothing": RegistryCase("SR701", SCOPE + CANONICAL),
    "canonical_of_a_row": RegistryCase("SR701", SCOPE + PICKED + CANONICAL, passes=True, beside=("SR707",)),
    "numbers_left_out": RegistryCase("SR703", HEAD + row("a", "a", variance_explained=None) + row("b", "b", l0=None)),
    "numbers_stated": RegistryCase("SR703", HEAD + WHOLE, passes=True),
    "release_in_a_row": RegistryCase(
        "SR704",
        HEAD
        + WHOLE
        + "    saes:\n    - id: other\n      path: other\n    model: gpt2-small\n    repo_id: someone/gpt2-res\n",
    ),
    "releases_side_by_side": RegistryCase("SR704", HEAD + WHOLE + scope("other", "gemma-2-2b", PICKED), passes=True),
    "page_of_another_layer": RegistryCase("SR705", HEAD + WHOLE.replace("/8-res", "/9-res")),
    "page_of_another_site": RegistryCase("SR705", HEAD + WHOLE.replace("8-res-xy", "8-att-xy")),
    "page_of_another_width": RegistryCase(
        "SR705", SCOPE + PICKED + "    neuronpedia: gemma-2-2b/0-gemmascope-res-65k\n"
    ),
    "page_of_another_model": RegistryCase("SR705", HEAD + WHOLE.replace("gpt2-small/8", "gpt2-medium/8")),
    "page_of_the_same": RegistryCase(
        "SR705", SCOPE + PICKED + "    neuronpedia: gemma-2-2b/0-gemmascope-res-16k\n", passes=True
    ),
    "output_counted_as_next_input": RegistryCase(
        "SR705",
        HEAD + WHOLE + row("blocks.11.hook_resid_post", "last", neuronpedia="gpt2-small/12-res-xy"),
        passes=True,
    ),
    "explained_variance_below_zero": RegistryCase("SR706", HEAD + WHOLE.replace("0.976", "-7.55")),
    "explained_variance_above_one": RegistryCase("SR706", HEAD + WHOLE.replace("0.976", "97.6")),
    "no_latent_is_active": RegistryCase("SR706", HEAD + WHOLE.replace("65.0", "0.0")),
    "explained_variance_of_one": RegistryCase("SR706", HEAD + WHOLE.replace("0.976", "1"), passes=True),
    "one_path_twice": RegistryCase("SR707", HEAD + row("a", "same") + row("b", "same")),
    "one_path_in_two_repositories": RegistryCase(
        "SR707", HEAD + row("a", "same") + scope("other", "gemma-2-2b", row("a", "same")), passes=True
    ),
    "one_l0_of_two_widths": RegistryCase("SR708", SCOPE + row(BIG, BIG) + row(BIGGER, BIGGER)),
    "two_l0_of_two_widths": RegistryCase("SR708", SCOPE + row(BIG, BIG) + row(BIGGER, BIGGER, l0=52), passes=True),
    "l0_in_the_name": RegistryCase("SR708", SCOPE + PICKED + PICKED.replace("16k", "65k"), passes=True),
    "one_id_twice": RegistryCase("SR709", HEAD + row("a", "one") + row("a", "two")),
    "one_key_twice": RegistryCase("SR709", HEAD + WHOLE + "    l0: 66.0\n"),
    "one_release_twice": RegistryCase("SR709", HEAD + WHOLE + HEAD + WHOLE),
    "one_id_in_two_releases": RegistryCase(
        "SR709", HEAD + row("a", "one") + scope("other", "gemma-2-2b", row("a", "two")), passes=True
    ),
    "another_layer_than_named": RegistryCase(
        "SR710", SCOPE + row("layer_3/canonical_3", "layer_4/width_16k/average_l0_60")
    ),
    "another_site_than_named": RegistryCase("SR710", HEAD + row("blocks.3.hook_mlp_out", "resid_post/layer_3")),
    "layer_as_named": RegistryCase(
        "SR710", SCOPE + row("blocks.3.hook_resid_post", "resid_post/layer_3/width_16k"), passes=True
    ),
    "loader_that_is_none": RegistryCase("SR711", SCOPE.replace("gemma_2", "gemma2") + PICKED),
    "loader_that_is_one": RegistryCase("SR711", SCOPE + PICKED, passes=True),
    "names_and_repositories": RegistryCase("SR712", HEAD + WHOLE + scope("other", "google/gemma-2-2b", PICKED)),
    "repositories_alone": RegistryCase(
        "SR712",
        HEAD.replace("gpt2-small", "openai/gpt2-small") + WHOLE + scope("other", "google/gemma-2-2b", PICKED),
        passes=True,
    ),
    "key_of_a_row_misspelt": RegistryCase("SR713", HEAD + WHOLE + "    explained_variance: 0.9\n"),
    "key_of_a_release_misspelt": RegistryCase(
        "SR713", HEAD.replace("conversion_func: null", "loader: sae_lens") + WHOLE
    ),
    "links_for_people": RegistryCase(
        "SR713",
        HEAD.replace("conversion_func: null", "links: {model: https://huggingface.co/gpt2}") + WHOLE,
        passes=True,
    ),
    "row_without_a_path": RegistryCase("SR714", HEAD + WHOLE + "  - id: another\n"),
    "number_in_quotes": RegistryCase("SR714", HEAD + WHOLE.replace("65.0", '"65.0"')),
    "release_without_rows": RegistryCase("SR714", HEAD.replace("  saes:\n", "")),
    "name_is_no_text_to_yaml": RegistryCase("SR714", HEAD.replace("gpt2-res:", "on:") + WHOLE),
    "row_is_a_text": RegistryCase("SR714", HEAD + WHOLE + "  - another\n"),
    "path_is_a_number": RegistryCase("SR714", HEAD + row("layer_0", "0"), passes=True),
    "one_file_of_two_models": RegistryCase(
        "SR715", SCOPE + PICKED + scope("instruct", "gemma-2-2b-it", PICKED), beside=("SR707",)
    ),
    "one_file_of_one_model": RegistryCase(
        "SR715", SCOPE + PICKED + scope("again", "gemma-2-2b", PICKED), passes=True, beside=("SR707",)
    ),
}
"""Name of the folder → what is planted, and the rule it is about."""
