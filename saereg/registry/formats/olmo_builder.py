"""OLMo SAE builder: raw checkpoints of its trainer, a tied TopK autoencoder beside settings and optimizer.

Source: daMS2005/olmo-sae-builder, `sparse_autoencoder/{model,train}.py`.
"""

from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile
from saereg.registry.formats.openai import Autoencoder, forward, prefix_of, stored_k, stored_rectified, value_of
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, told
from saereg.registry.readings.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME, MODEL = "olmo_builder", "model/"

SETTINGS = ("n_inputs", "n_latents", "top_k", "normalize")
"""What decides the function, or must agree with the tensors."""

KEPT = ("layer", "epoch", "global_step", "mean_loss")
"""Settings that only say where the checkpoint is from; `mean_loss` is that of training."""


def detect(source: Source) -> str | None:
    """OpenAI's tensors below `model`, and the trainer's settings beside them."""
    if source.weights is None or prefix_of(source.keys, MODEL) is None:
        return None
    found = [name for name in SETTINGS if name in source.weights.facts]
    return f"an autoencoder below `model`, and beside it {', '.join(found)}" if found else None


def read(source: Source, given: Given) -> Reading:
    """Read a checkpoint. It says the layer whose output was read, and not the model.

    Raises:
        FormatError: when `normalize` or `top_k` is not said, or the settings contradict the tensors.
        WeightsError: when a tensor is missing or of another shape.
    """
    file = source.only()
    prefix = prefix_of(frozenset(file.entries), MODEL) or MODEL
    _check_widths(source, file, prefix)
    activation = file.facts.get(f"{prefix}activation")
    if activation not in (None, "TopK"):
        raise FormatError(source.path, f"its activation is {activation!r}; this trainer has TopK alone")
    normalize = file.facts.get("normalize")
    if normalize is None:
        normalize = given.flag("normalize")
    if normalize is None:
        why = "the checkpoint does not say `normalize`, and the trainer runs with and without"
        raise missing(source.path, "normalize", why, "false")
    if not isinstance(normalize, bool):
        raise FormatError(source.path, f"says normalize = {normalize!r}; expected true or false")
    found = Autoencoder(
        file, prefix, _k(source, file, prefix, given), stored_rectified(source, file, prefix), normalize
    )
    facts: Mapping[str, Any] = {f"olmo_builder_{name}": file.facts.get(name) for name in KEPT}
    return found.reading(facts, list(given.assumptions), left_out=("optimizer/",))


def _check_widths(source: Source, file: TensorFile, prefix: str) -> None:
    key = f"{prefix}encoder.weight"
    if key not in file.entries:
        raise WeightsError(str(file.path), "missing; expected the tensors of OpenAI's class below `model`", key)
    shape = file.entries[key].shape
    for name, found in zip(("n_latents", "n_inputs"), shape, strict=False):
        said = file.facts.get(name)
        if said is not None and said != found:
            raise FormatError(source.path, f"says {name} = {said!r}, but {key} is {shape}")


def _k(source: Source, file: TensorFile, prefix: str, given: Given) -> int:
    said, stored = file.facts.get("top_k"), stored_k(source, file, prefix)
    if said is not None and (type(said) is not int or said < 1):
        raise FormatError(source.path, f"says top_k = {said!r}; expected a positive whole number")
    if said is not None and stored is not None and said != stored:
        raise FormatError(source.path, f"says top_k = {said}, but the autoencoder below `model` has k = {stored}")
    k = said if stored is None else stored
    k = given.whole("k") if k is None else k
    if k is None:
        raise missing(source.path, "k", "the checkpoint does not say `top_k`", "64")
    return int(k)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """OpenAI's forward, TopK and normalized as the trainer's settings say."""
    facts, given = raw.files[""].facts, told(reading)
    prefix = prefix_of(frozenset(raw.files[""].entries), MODEL) or MODEL
    k = facts.get("top_k") or value_of(raw, f"{prefix}activation", "k") or given.whole("k")
    normalize = given.flag("normalize") if facts.get("normalize") is None else facts["normalize"]
    return forward(raw, x, prefix, k=k, normalize=bool(normalize))  # type: ignore[arg-type]


ABOUT = About(
    title="OLMo SAE builder",
    used_by="the originals of `dams2005/olmo-3-7b-think-saes`",
    files="`olmo_sae_layer<LL>.pt`, `olmo_sae_latest.pt`, `olmo_sae_epoch_<E>.pt`: `n_inputs`, `n_latents`, `top_k`, "
    "`normalize`, `layer`, … and below `model` the tensors of OpenAI's class, tied: `decoder.linear.weight` is "
    "`encoder.weight` again. `optimizer` is left out.",
    silent="the model; that `layer` means the output of that decoder layer, which differs from "
    "`hidden_states[layer + 1]` for the last.",
    assumed="nothing: `normalize` is read from the checkpoint. OpenAI's rule, normalize where TopK, would be wrong.",
    saelens="reads the converted folders of the release; as `topk` it computes the same.",
    source="daMS2005/olmo-sae-builder, sparse_autoencoder/train.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
