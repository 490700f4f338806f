"""A state dict of nobody's layout: two matrices (or one, tied) and vectors, under whatever names, nested or not.

It is never detected: it is read when it is named (`--from state_dict`), because what its tensors do not say
(activation, normalization, what is subtracted before the encoder) must be given. Source: the checkpoints of small
training scripts, e.g. a ReLU SAE as two torch Linear layers; the rules of inference stand in `anatomy.py`.
"""

from typing import TYPE_CHECKING, get_args

from saereg.errors import FormatError, UsageError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.registry.formats.anatomy import TRAINING, Anatomy, Question, dissect
from saereg.registry.formats.tensor_names import GATED, SCALES, role, words
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import Source
from saereg.schemas.cfg_native import BY_K
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import EXP, TRANSPOSE, ZEROS, SourceTensor, Step, cast_to, moved
from saereg.schemas.semantics import Activation, GateQuantity, Normalization, Semantics, Threshold

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Decided, Raw

NAME = "state_dict"

ACTIVATIONS: tuple[Activation, ...] = ("relu", "topk", "abstopk", "groupmax", "batchtopk", "jumprelu", "gated")
NORMALIZATIONS = ("none", "layer_norm", "constant_norm_rescale")
SUBTRACTIONS = ("none", "b_dec")

THRESHOLDED = ("jumprelu", "batchtopk")
"""Activations that compare with a stored threshold."""

TELLING = (
    frozenset(["k", "topk", "activation", "act", "normalize", "normalization", "bias", "tied", "threshold", "relu"])
    | SCALES
)
"""Words in the names of numbers and strings that may say something of the function."""

NO_SCALE = frozenset(["expansion", "l1", "l0", "sparsity", "loss", "mse", "lr", "learning", "aux", "dead", "decay"])
"""Words in the names of numbers that are no scale of inputs, whatever else is in them."""

LIMIT = 12
"""Most names in one line."""


def detect(source: Source) -> str | None:
    """None, always: any file of tensors could be one, so it must be named."""
    del source
    return None


def read(source: Source, given: Given) -> Reading:
    """Read what the tensors say, and take the rest as given.

    Raises:
        FormatError: with everything that must be given, at once; or when the tensors are of something else.
        UsageError: when what is given does not fit.
        WeightsError: when a threshold is negative.
    """
    anatomy = dissect(source.only(), given)
    settle_output_bias(anatomy)
    switches = ask_switches(anatomy, given)
    if anatomy.questions:
        raise FormatError(source.path, unanswered(anatomy))
    _refuse_other_k(anatomy, given)
    rules = _semantics(anatomy, given, switches)
    transcodes = _kind(anatomy, given) == "transcoder"
    reading = dictionary(
        {"": anatomy.file},
        _plan(anatomy),
        kind="transcoder" if transcodes else "sae",
        semantics=rules,
        assumptions=(*anatomy.assumptions, *given.assumptions),
    )
    return with_left_out(reading, anatomy.left_out)


def ask_switches(anatomy: Anatomy, given: Given) -> dict[str, str]:
    """Return the switches that no tensor tells, as given; those that are not become questions."""
    output = anatomy.vectors.get("b_dec")
    added = (
        f"{anatomy.names[output]} is added after the decoder, and may be subtracted before the encoder"
        if output
        else ""
    )
    asked: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("activation", ACTIVATIONS, ""),
        ("normalization", NORMALIZATIONS, ""),
        ("pre_encoder_subtraction", SUBTRACTIONS, added),
    )
    found = {}
    for name, choices, why in asked:
        value = given.text(name, choices)
        if value is not None:
            found[name] = value
        elif name != "pre_encoder_subtraction" or output or not anatomy.encoder:
            anatomy.ask(name, choices, why)
    if given.whole("k") is None and found.get("activation", "topk") in BY_K:
        anatomy.ask("k", ("K",), "" if "activation" in found else f"for {', '.join(BY_K)}")
    for name in ("kind", "rectified"):
        given.text(name)
    return found


def unanswered(anatomy: Anatomy) -> str:
    """Return the sentence that asks for everything that is not said."""
    asked = anatomy.questions
    names = ", ".join(f"{q.name} ({q.why})" if q.why else q.name for q in asked)
    said = [f"{name} = {value}" for name, value in stated_beside(anatomy.file).items()][:LIMIT]
    hint = f" (beside them the file says {', '.join(said)})" if said else ""
    return f"the tensors do not say {names}; say {'it' if len(asked) == 1 else 'them'}: {commands(asked)}{hint}"


def commands(asked: list[Question]) -> str:
    """Return questions as options of the command line."""
    return " ".join(map(str, asked))


def stated_beside(file: TensorFile) -> dict[str, object]:
    """Return numbers and strings of a file that may say something of the function."""
    return {
        name: value
        for name, value in file.facts.items()
        if value is not None and words(_leaf(name)) & TELLING and not TRAINING & set(name.split("/"))
    }


def _leaf(name: str) -> str:
    return name.split("/")[-1]


def settle_output_bias(anatomy: Anatomy) -> None:
    """Take a bias before the encoder for the output's, where it is the only one or the same.

    Raises:
        FormatError: when the two differ: then they are two vectors of one function, which has place for one.
    """
    import torch

    before, after = anatomy.vectors.get("pre_bias"), anatomy.vectors.get("b_dec")
    if before is None:
        return
    if after is None:
        because = (
            "the only vector of the output's width: subtracted before the encoder it is also added after the decoder"
        )
        anatomy.assume("b_dec", anatomy.names[before], because)
        anatomy.vectors["b_dec"] = anatomy.vectors.pop("pre_bias")
        return
    if not torch.equal(*(whole(anatomy.file, key).double().reshape(-1) for key in (before, after))):
        names = f"{anatomy.names[before]} and {anatomy.names[after]}"
        problem = "what is subtracted before the encoder would be another vector than what is added after the decoder"
        fold = f"fold the first into the encoder's bias, b_enc − {anatomy.names[before]}·W_enc"
        raise FormatError(anatomy.file.path, f"{names} differ: {problem}; {fold}")
    anatomy.assume("pre_bias", anatomy.names[after], f"{anatomy.names[before]} has the same values")
    anatomy.left_out.append(anatomy.vectors.pop("pre_bias"))


def _refuse_other_k(anatomy: Anatomy, given: Given) -> None:
    """Compare what is given with what the file says, and take note of what it says beside tensors."""
    k, file, stated = given.whole("k"), anatomy.file, stated_beside(anatomy.file)
    for key in anatomy.left_out:
        if file.entries[key].shape == () and words(_leaf(key)) & {"k", "topk"}:
            stated[key] = whole(file, key).item()
    for name, value in stated.items():
        if (
            k is not None
            and type(value) is int
            and words(_leaf(name)) in ({"k"}, {"topk"}, {"top", "k"})
            and value != k
        ):
            raise UsageError(f"k={k}, but {file.path.name} says {name} = {value}")
    unused = [name.strip() for name in str(given.text("unused") or "").split(",")]
    for name in stated:
        known = words(_leaf(name))
        if not known & (SCALES - {"norm"}) or known & NO_SCALE or name in unused:
            continue
        if isinstance(stated[name], int | float) and not isinstance(stated[name], bool) and stated[name] != 1:
            problem = f"{name} = {stated[name]} may be a scale of inputs, which these tensors would need"
            raise FormatError(file.path, f"{problem}; fold it into them, or say that it is not: --set unused={name}")
    if stated:
        said = "; ".join(f"{name} = {value}" for name, value in list(stated.items())[:LIMIT])
        anatomy.assume("beside the tensors", said, "said in the file and not used: what was given decides")


def _kind(anatomy: Anatomy, given: Given) -> str:
    kind = given.text("kind", ("sae", "transcoder"))
    if anatomy.width(anatomy.encoder) != anatomy.width(anatomy.decoder):
        if kind == "sae":
            raise UsageError("kind=sae, but input and output have other widths")
        return "transcoder"
    if kind is None:
        anatomy.assume(
            "kind", "sae", "input and output have one width; a transcoder must be named: --set kind=transcoder"
        )
    return kind or "sae"


def _semantics(anatomy: Anatomy, given: Given, switches: dict[str, str]) -> Semantics:
    activation: Activation = switches["activation"]  # type: ignore[assignment]
    kind, k = switches["normalization"], given.whole("k")
    threshold = _threshold(anatomy, activation)
    if k is not None and activation not in (*BY_K, "batchtopk"):
        raise UsageError(f"k={k}: activation {activation} has no k")
    rectified = given.flag("rectified")
    if rectified is None and activation == "topk":
        anatomy.assume("rectified", "True", "as published TopK dictionaries do; else say --set rectified=false")
    if rectified is not None and activation != "topk":
        raise UsageError(f"rectified={rectified}: activation {activation} leaves no choice; only topk does")
    gate: GateQuantity = "gate_pre_activation" if activation == "gated" else "pre_activation"
    if activation not in ("relu", "gated"):
        anatomy.assume("gate_quantity", gate, "no tensor says that decoder norms enter the selection")
    for part, what in (("b_enc", "the encoder adds no bias"), ("b_dec", "nothing is added after the decoder")):
        if part not in anatomy.vectors and not (part == "b_enc" and activation == "gated"):
            anatomy.assume(part, "0", f"no tensor is one: {what}")
    return Semantics(
        pre_encoder_subtraction=switches.get("pre_encoder_subtraction", "none"),  # type: ignore[arg-type]
        activation=activation,
        gate_quantity=gate,
        rectified=activation != "abstopk" and rectified is not False,
        threshold=threshold,
        threshold_units="none" if threshold == "none" else "gate_quantity",
        k=k,
        normalization=Normalization(
            kind=kind,  # type: ignore[arg-type]
            statistics="none" if kind == "none" else "per_row",
            inverted_on_output=kind != "none" and _kind_is_sae(anatomy, given),
        ),
    )


def _kind_is_sae(anatomy: Anatomy, given: Given) -> bool:
    same = anatomy.width(anatomy.encoder) == anatomy.width(anatomy.decoder)
    return same and given.text("kind") != "transcoder"


def _threshold(anatomy: Anatomy, activation: Activation) -> Threshold:
    """Return the shape of the threshold, after comparing the vectors with those of the activation."""
    path, names = anatomy.file.path, anatomy.names
    gates = [part for part in GATED if part in anatomy.vectors]
    if (activation == "gated") != bool(gates) or len(gates) not in (0, len(GATED)):
        held = ", ".join(names[anatomy.vectors[part]] for part in gates) or "none of them"
        raise FormatError(path, f"activation gated, and no other, has {', '.join(GATED)}; the file holds {held}")
    stored = [part for part in ("threshold", "log_threshold") if part in anatomy.vectors]
    if len(stored) > 1:
        raise FormatError(path, "holds a threshold and its logarithm; name one of them in --set unused=")
    if activation not in THRESHOLDED:
        if stored:
            name = names[anatomy.vectors[stored[0]]]
            instead = f"say --set activation=jumprelu, or --set unused={name}"
            raise FormatError(path, f"{name} is a threshold, which activation {activation} does not use; {instead}")
        return "none"
    if not stored:
        raise FormatError(path, f"activation {activation} needs a threshold, and no tensor is one")
    key = anatomy.vectors[stored[0]]
    values = whole(anatomy.file, key).double()
    if stored[0] == "threshold" and not bool((values >= 0).all()):
        raise FormatError(path, f"{names[key]} holds values below 0 or NaN; −1 often marks one that was never set")
    if anatomy.length(key) == 1:
        return "scalar"
    if activation == "batchtopk":
        raise FormatError(path, f"{names[key]} has a value for each latent: that is activation jumprelu")
    return "per_latent"


def _plan(anatomy: Anatomy) -> dict[str, SourceTensor]:
    """Return canonical tensor → recipe."""
    tied = anatomy.encoder == anatomy.decoder
    rows = anatomy.by_rows
    across, along = (TRANSPOSE,), ()
    plan = {
        "W_enc": moved(anatomy.encoder, *(across if rows[anatomy.encoder] else along)),
        "W_dec": moved(anatomy.decoder, *(along if rows[anatomy.decoder] else across)),
        "b_enc": ZEROS,
        "b_dec": ZEROS,
    }
    if tied and rows[anatomy.encoder]:
        plan["W_dec"] = moved(anatomy.decoder)
    for part, key in anatomy.vectors.items():
        entry = anatomy.entry(key)
        steps: list[Step] = []
        scalar = anatomy.length(key) == 1
        shape = list(entry.shape)
        while len(shape) > (0 if scalar else 1):
            axis = shape.index(1)
            steps.append(Step(do="squeeze", axis=axis))
            shape.pop(axis)
        if part == "log_threshold":
            dtype: DType = entry.dtype  # type: ignore[assignment]
            steps += [cast_to("float32"), EXP] if dtype in get_args(DType)[2:] else [EXP]
        plan[part.removeprefix("log_")] = moved(key, *steps)
    if GATED[0] in plan:
        del plan["b_enc"]
    return plan


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The forward that was described: normalize, subtract, encode, select, decode, add, map back."""
    from saereg.registry.readings import reference as do

    given = told(reading)
    kind, mean, scale, x_in = given.text("normalization"), None, None, x
    if kind == "layer_norm":
        x_in, mean, scale = do.layer_norm(x)
    elif kind == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        x_in = x / scale
    b_dec = _vector(raw, reading, "b_dec")
    x_c = x_in - b_dec if given.text("pre_encoder_subtraction") == "b_dec" else x_in
    encoder, decoder = str(reading.plan["W_enc"].key), str(reading.plan["W_dec"].key)
    by_rows = _latents_are_rows(raw, reading, encoder, "encoder")
    f, margin = _selected(raw, reading, (raw.times_transposed if by_rows else raw.times)(x_c, encoder))
    by_rows = by_rows if decoder == encoder else _latents_are_rows(raw, reading, decoder, "decoder")
    x_hat = (raw.times if by_rows else raw.times_transposed)(f, decoder) + b_dec
    if scale is not None and given.text("kind") != "transcoder" and x.shape == x_hat.shape:
        x_hat = x_hat * scale + (0 if mean is None else mean)
    return do.Codes(f, x_hat, margin)


def _selected(raw: "Raw", reading: Reading, product: "Tensor") -> "Decided":
    from saereg.registry.readings import reference as do

    given = told(reading)
    activation, k = given.text("activation"), given.whole("k") or 0
    if activation == "gated":
        magnitude = product * _vector(raw, reading, "r_mag").exp() + _vector(raw, reading, "b_mag")
        return do.gated(product + _vector(raw, reading, "b_gate"), magnitude)
    pre = product + _vector(raw, reading, "b_enc")
    if activation in THRESHOLDED:
        cut, name = _vector(raw, reading, "threshold"), str(reading.plan["threshold"].key)
        named = given.text("log_threshold") is not None or role(name) == "log_threshold"
        return do.threshold(pre, cut.exp() if named and given.text("threshold") is None else cut)
    if activation == "abstopk":
        return do.topk(pre, k, pre.abs(), keep_negative=True)
    if activation == "topk":
        return do.topk(pre, k, keep_negative=given.flag("rectified") is False)
    return do.groupmax(pre, k) if activation == "groupmax" else do.relu(pre)


def _vector(raw: "Raw", reading: Reading, part: str) -> "Tensor":
    import torch

    key = reading.plan[part].key
    return torch.zeros(1, dtype=torch.float64) if key is None else raw.vector(key).reshape(-1)


def _latents_are_rows(raw: "Raw", reading: Reading, key: str, part: str) -> bool:
    rows, columns = raw.shape(key)
    if rows != columns:
        return rows == reading.cfg.d_sae
    return told(reading).text(f"{part}_latents") == "rows"


ABOUT = About(
    title="Any state dict",
    used_by="checkpoints of one's own training script; releases whose tensor names are not documented",
    files="one `.pt`, `.safetensors` or `.npz` file with two matrices that share an axis, or one that is tied, and "
    "vectors; nests such as `state_dict/` or `model/` and wrappers such as `module.` are looked through, and optimizer "
    "state, counters and whole numbers are left out.",
    silent="activation, k, normalization, what is subtracted before the encoder; in square matrices the orientation; "
    "where names do not tell, which tensor is which.",
    assumed="encoder and decoder by name, else the decoder has latents of norm 1; `d_sae` is the length of a named "
    "encoder bias, else the longer axis; a vector without a telling name is the bias of its length. Each is recorded, "
    "and each can be given instead: `encoder`, `decoder`, `d_sae`, `b_enc`, `b_dec`, `threshold`, `unused`, …",
    saelens="reads no such file.",
    source="the rules stand in saereg/registry/formats/anatomy.py",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
