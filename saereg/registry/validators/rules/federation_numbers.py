"""SR703, SR706, SR708: the numbers of registries that list the releases of others."""

from saereg.registry.validators.rules.text import RuleText


class SR703(RuleText):
    """Absent numbers are answered with invented ones.

    Each release with rows that have no `variance_explained`, or no `l0`: `get_pretrained_saes_directory()` of SAELens
    answers 1.00 and 0.00 for them, as if every one reconstructed perfectly with no latent active. One finding per
    release, with its counts.

    Why: Whoever filters the registry by these numbers gets the rows of which nothing is known, and gets them first. No
    reader can tell an invented number from a stated one.

    Fix: State the numbers, each with its definition and data, or leave them out and read the registry with a tool that
    keeps absent ones absent: `saereg registry add sae_lens`.

    Bad: pretrained_saes.yaml (SAELens answers explained variance 1.00, L0 0.00)
        - id: blocks.8.hook_resid_pre
          path: blocks.8.hook_resid_pre

    Good: pretrained_saes.yaml
        - id: blocks.8.hook_resid_pre
          path: blocks.8.hook_resid_pre
          variance_explained: 0.976
          l0: 65.0
    """

    severity = "warning"
    level = "layout"


class SR706(RuleText):
    """An impossible number in a registry.

    `variance_explained` above 1, or at or below 0; `l0` and `norm_scaling_factor` at or below 0. An explained variance
    at or below 0 can be computed, and says that the mean activation reconstructs better than the dictionary: no listed
    one is meant to be that, so it was computed in other units, with another formula, or on other activations.

    Why: Rankings and plots over the registry are wrong wherever the row is in them. An explained variance below 0
    usually means that the loader scales the inputs otherwise than the training did: then all that is computed with the
    SAE is wrong as well.

    Fix: Measure it anew with the inputs of the training, and look for a missing `norm_scaling_factor`. A number that
    nobody can vouch for is left out.

    Bad: pretrained_saes.yaml
        - id: blocks.7.hook_z
          path: L7.pt
          variance_explained: -7.55

    Good: pretrained_saes.yaml
        - id: blocks.7.hook_z
          path: L7.pt
          variance_explained: 0.79
    """

    severity = "error"
    level = "layout"


class SR708(RuleText):
    """Siblings share one L0.

    Rows of a release whose ids differ in width or variant (`_affine`) alone: where two or more state an L0 and it is
    the same, they are reported. Ids that name that L0 themselves, or a k, are left out: there it belongs to the
    name.

    Why: Dictionaries of 16k and 262k latents do not meet the same mean L0 to the last digit. The number is the target
    of the training, and the registry has no way to say so: readers compare it with what others measured.

    Fix: State what was measured of each, or leave `l0` out and put the target into the id.

    Bad: pretrained_saes.yaml
        - id: layer_0_width_16k_l0_big
          path: resid_post_all/layer_0_width_16k_l0_big
          l0: 60
        - id: layer_0_width_262k_l0_big
          path: resid_post_all/layer_0_width_262k_l0_big
          l0: 60

    Good: pretrained_saes.yaml
        - id: layer_0_width_16k_l0_big
          path: resid_post_all/layer_0_width_16k_l0_big
          l0: 57.2
        - id: layer_0_width_262k_l0_big
          path: resid_post_all/layer_0_width_262k_l0_big
          l0: 63.9
    """

    severity = "warning"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR703,
    SR706,
    SR708,
)
"""The rules of this file."""
