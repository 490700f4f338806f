"""OpenAI's sparse_autoencoder: a `.pt` state dict that names its activation; TopK or ReLU, tied or not.

Source: openai/sparse_autoencoder 4965b94, `sparse_autoencoder/model.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import PICKLES, Source
from saereg.schemas.recipe import moved, transposed
from saereg.schemas.semantics import Assumption, Normalization, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "openai"

TENSORS = ("pre_bias", "latent_bias", "encoder.weight")
DECODER, TIED_DECODER = "decoder.weight", "decoder.linear.weight"
"""A decoder of its own, (D, F); and the encoder's own matrix, (F, D), under a second name."""

BUFFERS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
"""What training counts: none of it is part of the function."""

WRAPPERS = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.")
"""What data parallelism and compilation put before names."""

SELECTED = {"ReLU": True, "Identity": False}
"""What TopK does with the values that it keeps → whether negative ones become 0."""


@dataclass(frozen=True)
class Autoencoder:
    """The tensors of `Autoencoder.state_dict()`, and what a layout knows of them.

    Attributes:
        file: where they are.
        prefix: of their names.
        k: of TopK; None for ReLU.
        rectified: whether negative latents that TopK keeps become 0.
        normalize: whether inputs are normalized row by row.
    """

    file: TensorFile
    prefix: str
    k: int | None
    rectified: bool
    normalize: bool

    def reading(
        self, metadata: Mapping[str, object], assumptions: list[Assumption], left_out: tuple[str, ...] = ()
    ) -> Reading:
        """Return what it means: subtract pre_bias, encode, add latent_bias, activate, decode, add pre_bias.

        Raises:
            WeightsError: when a tensor is missing, not known, or of another shape.
        """
        key = self.prefix + DECODER
        if self.prefix + TIED_DECODER in self.file.entries:
            decoder = moved(self.prefix + TIED_DECODER)
        elif key in self.file.entries:
            decoder = transposed(key)
        else:
            raise WeightsError(self.file.path, f"missing, and {TIED_DECODER} as well, which a tied one has", key)
        plan = {
            "W_enc": transposed(f"{self.prefix}encoder.weight"),
            "b_enc": moved(f"{self.prefix}latent_bias"),
            "W_dec": decoder,
            "b_dec": moved(f"{self.prefix}pre_bias"),
        }
        normalized = Normalization(kind="layer_norm", statistics="per_row", inverted_on_output=True)
        reading = dictionary(
            {"": self.file},
            plan,
            kind="sae",
            semantics=Semantics(
                pre_encoder_subtraction="b_dec",
                activation="relu" if self.k is None else "topk",
                gate_quantity="pre_activation",
                rectified=self.rectified,
                k=None if self.k is None else float(self.k),
                normalization=normalized if self.normalize else Normalization(),
            ),
            metadata=metadata,
            assumptions=assumptions,
        )
        return with_left_out(reading, (*(self.prefix + name for name in BUFFERS), *left_out))


def prefix_of(keys: frozenset[str], folder: str = "") -> str | None:
    """Return what stands before the tensors' names, or None when they are not there."""
    fitting = (folder + wrapper for wrapper in WRAPPERS)
    return next((prefix for prefix in fitting if {prefix + name for name in TENSORS} <= keys), None)


def detect(source: Source) -> str | None:
    """A `pre_bias`, a `latent_bias`, an encoder without bias, and a decoder, which may be the encoder again."""
    prefix = prefix_of(source.keys)
    if prefix is None or not {prefix + DECODER, prefix + TIED_DECODER} & source.keys:
        return None
    return f"`{prefix}pre_bias`, `{prefix}latent_bias`, and an encoder and a decoder without biases"


def read(source: Source, given: Given) -> Reading:
    """Read an autoencoder. The file says neither model nor layer.

    Raises:
        FormatError: when the activation or its k is not said, or is none that makes a sparse code.
        WeightsError: when a tensor is missing or of another shape.
    """
    file = source.only()
    prefix = prefix_of(frozenset(file.entries)) or ""
    assumptions: list[Assumption] = []
    name = _activation(source, file, prefix, given, assumptions)
    k = stored_k(source, file, prefix) if name == "TopK" else None
    if name == "TopK" and k is None:
        k = given.whole("k")
        if k is None:
            raise missing(source.path, "k", "the activation is TopK, and the file does not say its k", "32")
    rectified = stored_rectified(source, file, prefix) if name == "TopK" else True
    normalize = given.flag("normalize")
    if normalize is None:
        normalize = name == "TopK"
        because = "the publisher's loader normalizes for TopK and for nothing else; the file does not say"
        assumptions.append(Assumption(field="normalize", value=str(normalize), because=because))
    found = Autoencoder(file, prefix, k, rectified, normalize)
    return found.reading({}, [*assumptions, *given.assumptions])


def _activation(source: Source, file: TensorFile, prefix: str, given: Given, assumptions: list[Assumption]) -> str:
    said = file.facts.get(f"{prefix}activation")
    if said is None and file.path.suffix not in PICKLES:
        said = given.text("activation", ("ReLU", "TopK"))
        if said is None:
            why = "the activation stands only in a pickled state dict, and this is none"
            raise missing(source.path, "activation", why, "TopK")
    if said is None:
        said = "ReLU"
        because = "the state dict names no activation; the publisher's loader then takes ReLU"
        assumptions.append(Assumption(field="activation", value=said, because=because))
    if said == "Identity":
        raise FormatError(
            source.path, "its activation is Identity: every latent is always active, so nothing is sparse"
        )
    if said not in ("ReLU", "TopK"):
        raise FormatError(source.path, f"its activation is {said!r}; this layout has ReLU and TopK")
    return str(said)


def stored_k(source: Source, file: TensorFile, prefix: str) -> int | None:
    """Return the k of TopK, which is stored twice.

    Raises:
        FormatError: when the two differ, or it is no k.
    """
    found = [file.facts.get(prefix + key) for key in ("activation_state_dict/k", "activation.k")]
    stored = [k for k in found if k is not None]
    for k in stored:
        if type(k) is not int or k < 1 or k != stored[0]:
            said = " and ".join(map(repr, stored))
            raise FormatError(source.path, f"its k is {said}; expected one positive whole number")
    return stored[0] if stored else None  # type: ignore[return-value]


def stored_rectified(source: Source, file: TensorFile, prefix: str) -> bool:
    """Return whether TopK sets the negative values that it keeps to 0, as the class does unless told otherwise.

    Raises:
        FormatError: when it does something else with them.
    """
    found = [file.facts.get(prefix + key) for key in ("activation_state_dict/postact_fn", "activation.postact_fn")]
    for function in found:
        if function is not None and function not in tuple(SELECTED):
            raise FormatError(source.path, f"what TopK keeps goes through {function!r}; expected ReLU or Identity")
    return next((SELECTED[str(function)] for function in found if function is not None), True)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The class's own forward, normalized where the activation is TopK, unless the caller says otherwise."""
    file, given = raw.files[""], told(reading)
    prefix = prefix_of(frozenset(file.entries)) or ""
    ranks = (file.facts.get(f"{prefix}activation") or given.text("activation")) == "TopK"
    normalize = given.flag("normalize")
    k = value_of(raw, f"{prefix}activation", "k") or given.whole("k")
    return forward(raw, x, prefix, k=k if ranks else None, normalize=ranks if normalize is None else normalize)


def value_of(raw: "Raw", function: str, name: str) -> Any:  # noqa: ANN401
    """Return what an activation function is made with, in one of the two places where it is stored."""
    facts = raw.files[""].facts
    return facts.get(f"{function}_state_dict/{name}") or facts.get(f"{function}.{name}")


def forward(raw: "Raw", x: "Tensor", prefix: str, *, k: int | None, normalize: bool) -> "Codes":
    """Return what the class computes; a tied decoder multiplies with the encoder's matrix.

    Args:
        raw: the file.
        x: rows.
        prefix: of the names.
        k: of TopK; None for ReLU.
        normalize: whether rows are normalized.
    """
    from saereg.registry.readings import reference as do

    mean, sigma, z = x.new_zeros(()), x.new_ones(()), x
    if normalize:
        z, mean, sigma = do.layer_norm(x)
    pre_bias = raw.vector(f"{prefix}pre_bias")
    pre = raw.times_transposed(z - pre_bias, f"{prefix}encoder.weight") + raw.vector(f"{prefix}latent_bias")
    if k is None:
        f, margin = do.relu(pre)
    else:
        f, margin = do.topk(pre, k, keep_negative=value_of(raw, f"{prefix}activation", "postact_fn") == "Identity")
    if prefix + DECODER in raw.files[""].entries:
        x_hat = raw.times_transposed(f, f"{prefix}{DECODER}") + pre_bias
    else:
        x_hat = raw.times(f, f"{prefix}encoder.weight") + pre_bias
    return do.Codes(f, x_hat * sigma + mean, margin)


ABOUT = About(
    title="OpenAI sparse_autoencoder",
    used_by="OpenAI's GPT-2 small suite (`v1` to `v5`), and what is trained with a copy of its class",
    files="one `.pt` per dictionary: `pre_bias` (D,), `latent_bias` (F,), `encoder.weight` (F, D), `decoder.weight` "
    "(D, F) or, tied, `decoder.linear.weight`, three counters of training, and plain values: `activation`, "
    "`activation_state_dict` with `k` and `postact_fn`.",
    silent="model and layer; whether inputs are normalized.",
    assumed="inputs are normalized row by row where the activation is TopK and nowhere else, as in the publisher's "
    "loader (`--set normalize=false` says otherwise). ReLU where a state dict names no activation.",
    saelens="has no loader; as `topk` with `layer_norm`, or `standard`, it computes the same.",
    source="openai/sparse_autoencoder 4965b94, model.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
