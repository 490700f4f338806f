"""The maths of one artifact as a few lines that need nothing but torch and safetensors.

The equations are those of `saereg.registry.architectures`; what a switch of the semantics means is said by which lines
are there. Shapes: n rows, D = d_in, F = d_sae, O = d_out, K sources.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from saereg.registry.files.names import CONFIG_FILE, WEIGHTS_FILES
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, TranscoderArtifact
from saereg.schemas.semantics import Semantics

MOST_LINES = 25
"""Lines of code of a recipe, with its imports."""

WIDEST = ("float64", "float32", "bfloat16", "float16")
"""Types, the widest first; of the two halves together float32 is taken."""

TYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Type as safetensors writes it → as torch does."""

STATISTICS = ("input_mean", "input_scale")
"""Tensors that are float32 whatever the others are."""

SHOWN = ("W_enc", "W_dec", "b_enc", "b_gate", "b_mag", "r_mag", "b_dec", "threshold", "topk_threshold", "W_skip",
         "input_mean", "input_scale")  # fmt: skip
"""Tensors whose shapes stand in a comment, in this order."""


@dataclass(frozen=True)
class Maths:
    """Lines that define `f` and `x_hat` from `x`, `folder` and `load_file`.

    Attributes:
        code: the lines.
        dtype: type that `x` must have before.
        note: what a reader should know, or None.
    """

    code: str
    dtype: str
    note: str | None


@dataclass(frozen=True)
class _Subject:
    """What lines are written for.

    Attributes:
        claim: entry in the manifest.
        evidence: entry in the index.
    """

    claim: Artifact
    evidence: IndexArtifact

    @property
    def rules(self) -> Semantics:
        """The switches."""
        return self.evidence.semantics

    @property
    def is_crosscoder(self) -> bool:
        """Whether rows have an axis of sources."""
        return isinstance(self.claim, CrosscoderArtifact)

    @property
    def d_out(self) -> int:
        """Width of the output."""
        return self.claim.d_out if isinstance(self.claim, TranscoderArtifact) else self.claim.d_in

    @property
    def types(self) -> set[str]:
        """Types of the weights, statistics of the input left out."""
        tensors = self.evidence.tensors.items()
        found = {TYPES.get(facts.dtype, "float32") for name, facts in tensors if name not in STATISTICS}
        return found or {self.evidence.dtype}

    @property
    def dtype(self) -> str:
        """Type to run in: that of the weights, or one that holds all of theirs."""
        halves = {"bfloat16", "float16"} <= self.types
        return min({*self.types, "float32"} if halves else self.types, key=WIDEST.index)

    @property
    def code_f(self) -> str:
        """Shape of the latents."""
        gates = isinstance(self.claim, CrosscoderArtifact) and self.rules.gate == "per_source"
        return f"(n, {f'{self.sources}, ' if gates else ''}{self.claim.d_sae})"

    @property
    def sources(self) -> int:
        """Sources of a crosscoder; 1 of anything else."""
        return self.claim.sources.count if isinstance(self.claim, CrosscoderArtifact) else 1

    def has(self, tensor: str) -> bool:
        """Whether there is a tensor of this name."""
        return tensor in self.evidence.tensors

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.evidence.tensors[tensor].shape


def torch_code(claim: Artifact, evidence: IndexArtifact) -> Maths | None:
    """Return the maths of an artifact, or None where it does not fit a few lines.

    Args:
        claim: its entry in the manifest.
        evidence: its entry in the index.
    """
    subject = _Subject(claim, evidence)
    activation = subject.rules.activation
    if not evidence.tensors or activation == "temporal":
        return None
    if activation == "matching_pursuit":
        body = [*_input(subject), *_pursuit(subject), *_output(subject, "x")]
    elif subject.has("W_enc.0"):
        body = _across_layers(subject)
    else:
        body = [*_input(subject), *_latents(subject), *_output(subject, "x")]
    raw = subject.rules.normalization.statistics == "stored"  # which is centred before it is rounded
    return Maths("\n".join([*_load(subject), *body]), "float32" if raw else subject.dtype, _note(subject))


def _note(subject: _Subject) -> str | None:
    norm, dtype = subject.rules.normalization, subject.dtype
    said = []
    if not norm.applied_by_reader:
        said.append(f"`cfg.json` declares `{norm.kind}`, which no reader applies: nothing is done to the input here.")
    if dtype != "float32":
        said.append(f"It runs in {dtype}, as its weights are stored; a wider type may move latents across their cut.")
    return " ".join(said) or None


def _load(subject: _Subject) -> list[str]:
    """Lines that define the weights W; many tensors of layers are not listed."""
    line = f'W = load_file(f"{{folder}}/{WEIGHTS_FILES[subject.claim.format]}")'
    wide = [f"W = {{name: tensor.to(torch.{subject.dtype}) for name, tensor in W.items()}}"]
    shapes = [f"{name} {_shown(subject.shape(name))}" for name in SHOWN if subject.has(name)]
    return [*_commented(shapes), line, *(wide if len(subject.types) > 1 else [])]


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _commented(parts: Sequence[str], width: int = 96) -> list[str]:
    """Return a list as comments that are not too wide."""
    lines = ["#"]
    for i, part in enumerate(parts):
        piece = f" {part}{',' if i + 1 < len(parts) else ''}"
        lines = [*lines, "#"] if len(lines[-1]) + len(piece) > width else lines
        lines[-1] += piece
    return lines if parts else []


def _input(subject: _Subject) -> list[str]:
    """Lines that turn x into what the encoder reads, as `x_in` where that is another."""
    rules, norm = subject.rules, subject.rules.normalization
    lines = []
    if rules.reshape == "hook_z":
        lines.append(f"x_in = x.flatten(-2)  # (n, heads, width) → (n, {subject.claim.d_in})")
    x = "x_in" if lines else "x"
    if norm.kind == "layer_norm":
        lines.append(f"mean = {x}.mean(dim=-1, keepdim=True)  # of each row")
        lines.append(f"sigma = ({x} - mean).std(dim=-1, keepdim=True)")
        lines.append(f"x_in = ({x} - mean) / (sigma + 1e-5)")
    elif norm.kind == "constant_norm_rescale":
        lines.append(f"scale = {subject.claim.d_in} ** 0.5 / {x}.norm(dim=-1, keepdim=True)  # of each row")
        lines.append(f"x_in = {x} * scale")
    elif norm.statistics == "stored":
        centred = f'({x} - W["input_mean"])' if subject.has("input_mean") else x
        cast = "" if subject.dtype == "float32" else f".to(torch.{subject.dtype})"
        if subject.has("input_scale"):
            lines.append(f'scale = W["input_scale"]{_per_source(subject, "input_scale")}')
            centred = f"{centred} * scale"
        lines.append(f"x_in = ({_bare(centred)}){cast}" if cast else f"x_in = {_bare(centred)}")
    return lines


def _bare(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") and text.count("(") == 1 else text


def _per_source(subject: _Subject, tensor: str) -> str:
    """Return the index that lets one number per source meet (…, K, D)."""
    return "[:, None]  # one of each source" if len(subject.shape(tensor)) == 1 else ""


def _reads(subject: _Subject) -> str:
    """Return the name of what the encoder reads."""
    rules = subject.rules
    return "x" if rules.normalization.statistics in ("none", "absent") and rules.reshape == "none" else "x_in"


def _product(subject: _Subject) -> str:
    x = _reads(subject)
    if subject.is_crosscoder:
        return f'{x}.flatten(-2) @ W["W_enc"].flatten(0, 1)'
    return (
        f'({x} - W["b_dec"]) @ W["W_enc"]' if subject.rules.pre_encoder_subtraction == "b_dec" else f'{x} @ W["W_enc"]'
    )


def _latents(subject: _Subject) -> list[str]:
    """Lines that define `f`, and `norm` where it is needed again."""
    rules = subject.rules
    if rules.activation == "gated":
        return [
            f"product = {_product(subject)}  # (n, {subject.claim.d_sae})",
            'magnitude = (product * W["r_mag"].exp() + W["b_mag"]).relu()',
            f'f = magnitude * (product + W["b_gate"] > 0)  # {subject.code_f}',
        ]
    bias = 'W["b_enc"].sum(dim=0)' if rules.bias_reduction == "sum_over_sources" else 'W["b_enc"]'
    lines = [f"pre = {_product(subject)} + {bias}  # (n, {subject.claim.d_sae})"]
    ranked = rules.activation != "relu" or rules.latents_scaled_by_decoder_norm
    gate = "pre"
    if ranked and rules.gate_quantity != "pre_activation":
        lines += _gate(subject)
        gate = "gate"
    value = gate if rules.latents_scaled_by_decoder_norm else "pre"
    return [*lines, *KEPT[rules.activation](subject, _rectified(value, subject), gate)]


def _rectified(value: str, subject: _Subject) -> str:
    shown = f"{value}.relu()" if subject.rules.rectified else value
    gates = subject.is_crosscoder and subject.rules.gate == "per_source"
    return f"{shown}.unsqueeze(-2)" if gates else shown


def _gate(subject: _Subject) -> list[str]:
    """Lines that define `gate`, what is ranked or compared."""
    rules = subject.rules
    if rules.gate_quantity == "pre_times_decoder_norm":
        return ['norm = W["W_dec"].norm(dim=-1)  # of each decoder direction, (F,)', "gate = pre * norm"]
    if rules.gate == "per_source":
        return [
            'norm = W["W_dec"].norm(dim=-1).T  # of each decoder direction at each source, (K, F)',
            f"gate = pre.unsqueeze(-2) * norm  # {subject.code_f}",
        ]
    return [
        f'cfg = json.loads(Path(folder, "{CONFIG_FILE}").read_text())',
        'a, b = {"joint_norm": (1, 0), "sum_of_norms": (0, 1)}.get(cfg["code_norm"]) or cfg["code_norm_weights"]',
        'norm = a * W["W_dec"].flatten(1).norm(dim=1) + b * W["W_dec"].norm(dim=-1).sum(dim=-1)  # (F,)',
        "gate = pre * norm",
    ]


def _relu(subject: _Subject, value: str, gate: str) -> list[str]:
    del gate
    return [f"f = {value}  # {subject.code_f}"]


def _largest(subject: _Subject, value: str, gate: str) -> list[str]:
    k, ranked = int(subject.rules.k or 0), f"{gate}.abs()" if subject.rules.activation == "abstopk" else gate
    spread = [f"value = {value}.expand_as(gate)"] if value.endswith(".unsqueeze(-2)") else []
    value = "value" if spread else value
    return [
        *spread,
        f"kept = {ranked}.topk({k}, dim=-1).indices",
        f"f = torch.zeros_like({gate}).scatter(-1, kept, {value}.gather(-1, kept))  # {subject.code_f}",
    ]


def _groups(subject: _Subject, value: str, gate: str) -> list[str]:
    k, size = int(subject.rules.k or 1), subject.claim.d_sae // int(subject.rules.k or 1)
    first = f"torch.arange(0, {subject.claim.d_sae}, {size})"
    return [
        f"kept = {gate}.unflatten(-1, ({k}, {size})).argmax(dim=-1) + {first}  # the largest of each group",
        f"f = torch.zeros_like({gate}).scatter(-1, kept, {value}.gather(-1, kept))  # {subject.code_f}",
    ]


def _above(subject: _Subject, value: str, gate: str) -> list[str]:
    name = "topk_threshold" if subject.has("topk_threshold") else "threshold"
    per_source = "[:, None]" if subject.rules.threshold == "per_source" else ""
    return [f'f = {value} * ({gate} > W["{name}"]{per_source})  # {subject.code_f}']


KEPT: Mapping[str, Callable[[_Subject, str, str], list[str]]] = {
    "relu": _relu,
    "topk": _largest,
    "abstopk": _largest,
    "groupmax": _groups,
    "jumprelu": _above,
    "batchtopk": _above,
}
"""Activation → lines that define `f` from (what a latent is worth, what decides whether it is active)."""


def _pursuit(subject: _Subject) -> list[str]:
    """Lines of matching pursuit; its settings are SAELens', where cfg.json does not say them."""
    claim, x = subject.claim, _reads(subject)
    start = f'{x} - W["b_dec"]' if subject.rules.pre_encoder_subtraction == "b_dec" else x
    return [
        f'cfg = json.loads(Path(folder, "{CONFIG_FILE}").read_text())',
        f"residual = {start}",
        f"f = torch.zeros(*residual.shape[:-1], {claim.d_sae}, dtype=residual.dtype)",
        "done = torch.zeros(*residual.shape[:-1], 1, dtype=torch.bool)",
        f'for _ in range(cfg.get("max_iterations") or {claim.d_in}):',
        '    best = (residual @ W["W_dec"].T).argmax(dim=-1, keepdim=True)',
        '    direction = W["W_dec"][best.squeeze(-1)]',
        "    value = (residual * direction).sum(dim=-1, keepdim=True).relu() * ~done",
        "    before, f = f != 0, f.scatter_add(-1, best, value)",
        "    residual = residual - value * direction",
        '    done |= residual.norm(dim=-1, keepdim=True) < cfg.get("residual_threshold", 1e-2)',
        '    if cfg.get("stop_on_duplicate_support", True):',
        "        done |= ((f != 0) == before).all(dim=-1, keepdim=True)",
    ]


def _output(subject: _Subject, x: str) -> list[str]:
    """Lines that define `x_hat`."""
    rules, norm = subject.rules, subject.rules.normalization
    codes = "(f / norm)" if rules.latents_scaled_by_decoder_norm else "f"
    width = f"(n, {subject.sources}, " if subject.is_crosscoder else "(n, "
    bias = ' + W["b_dec"]' if rules.output_bias == "b_dec" else ""
    if not subject.is_crosscoder:
        decoded = f'{codes} @ W["W_dec"]'
    elif rules.gate == "per_source":
        decoded = 'torch.einsum("...kf,fkd->...kd", f, W["W_dec"])'
    else:
        decoded = f'(f @ W["W_dec"].flatten(1)).reshape({x}.shape)'
    lines = [f"x_hat = {decoded}{bias}  # {width}{subject.d_out})"]
    if norm.inverted_on_output:
        lines.append(_undone(subject))
    if rules.skip != "none":
        raw = f"{x}.to(torch.{subject.dtype})" if norm.statistics == "stored" and subject.dtype != "float32" else x
        lines.append(f'x_hat = x_hat + {raw} @ W["W_skip"].T')
    if rules.reshape == "hook_z":
        lines.append(f"x_hat = x_hat.reshape({x}.shape)  # as (n, heads, width) again")
    return lines


def _undone(subject: _Subject) -> str:
    """Return the line that maps `x_hat` back to the units of x."""
    kind = subject.rules.normalization.kind
    if kind == "layer_norm":
        return "x_hat = x_hat * sigma + mean  # in the units of x again"
    scaled = "x_hat / scale" if kind == "constant_norm_rescale" or subject.has("input_scale") else "x_hat"
    whole = f'{scaled} + W["input_mean"]' if subject.has("input_mean") else scaled
    cast = "" if subject.dtype == "float32" or kind == "constant_norm_rescale" else f".to(torch.{subject.dtype})"
    return f"x_hat = {f'({whole}){cast}' if cast else whole}  # in the units of x again"


def _across_layers(subject: _Subject) -> list[str]:
    """Lines of a cross-layer transcoder: each layer has a code, and layers decode their own and others'."""
    rules, layers = subject.rules, sum(name.startswith("b_enc.") for name in subject.evidence.tensors)
    relu = ".relu()" if rules.rectified else ""
    body = [
        f"f = torch.zeros(*x.shape[:-1], {subject.claim.d_sae}, dtype=x.dtype)  # (n, {layers}, F)",
        f"for i in range({layers}):",
        '    pre = x[..., i, :] @ W[f"W_enc.{i}"] + W[f"b_enc.{i}"]',
    ]
    if rules.activation == "topk":
        body.append(f"    kept = pre.topk({int(rules.k or 0)}, dim=-1).indices")
        body.append(f"    f[..., i, :] = torch.zeros_like(pre).scatter(-1, kept, pre{relu}.gather(-1, kept))")
    else:
        cut = ' * (pre > W[f"threshold.{i}"])' if rules.activation == "jumprelu" else ""
        body.append(f"    f[..., i, :] = pre{relu}{cut}")
    body += [
        "def decoded(t):  # by layer t, of all layers that write to it",
        f'    pairs = [(i, W[f"W_dec.{{i}}.{{t}}"]) for i in range({layers}) if f"W_dec.{{i}}.{{t}}" in W]',
        '    return sum(f[..., i, :] @ W_dec for i, W_dec in pairs) + W[f"b_dec.{t}"]',
        f"x_hat = torch.stack([decoded(t) for t in range({layers})], dim=-2)  # (n, {layers}, {subject.d_out})",
    ]
    if rules.skip != "none":
        rows = f'[x[..., t, :] @ W[f"W_skip.{{t}}"].T for t in range({layers})]'
        body.append(f"x_hat = x_hat + torch.stack({rows}, dim=-2)")
    return body
