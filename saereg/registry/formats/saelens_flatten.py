"""A crosscoder with one code as an SAE of width K·D, which SAELens has words for: the sources side by side.

pre = Σ_k x_k·W_enc[k] + b_enc is one product when the x_k are concatenated, and so is the decoder. What is done to rows
before and after is folded, with x' = (x − mean)·scale:

x'·W + b      = x·(scale·W) + (b − (mean·scale)·W)
x̂'/scale+mean = f·(W_dec/scale) + (b_dec/scale + mean)

A cut at pre·code norm > θ is one at pre > θ / code norm. A gate at each source gives each a code of its own, and no SAE
does.
"""

from dataclasses import dataclass
from typing import Any, cast

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.formats.saelens_export import SAELENS_VERSION, WIDTHS, is_before_6
from saereg.schemas.cfg import INFERENCE, SaelensConfig, SaelensMetadata
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.metrics import DType
from saereg.schemas.recipe import EXP, SourceTensor, Step, cast_to, divided_by, moved, plus, scaled, times_by

ARCHITECTURES = {
    "standard": "standard",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "gated": "gated",
}
"""Architecture of a crosscoder → that of the SAE."""

KEY, README_FILE = "saereg_flattened", "README.md"
"""Where the metadata says what the SAE was, and the document that says it to people."""

OF_ONE_SITE = (
    "hook_name",
    "hook_name_out",
    "hook_head_index",
    "hook_head_index_out",
    "hf_hook_name",
    "hf_hook_name_out",
)
"""Metadata that would let a reader feed one site to an SAE that reads several side by side."""

SIDE_BY_SIDE, LAST = Step(do="merge_first_axes"), Step(do="merge_last_axes")
SUM, NORM, SUM_LAST = Step(do="sum_first_axis"), Step(do="norm_last_axis"), Step(do="sum_last_axis")


def flattened(cfg: CrosscoderConfig) -> tuple[SaelensConfig, dict[str, SourceTensor]]:
    """Return (SAELens' configuration, tensor → recipe from canonical names).

    Raises:
        FormatError: with the reason, when no SAE computes it.
    """
    _refuse(cfg)
    architecture, flat = ARCHITECTURES[cfg.architecture], _Flat(cfg, _common_type(cfg))
    fields: dict[str, Any] = {
        "architecture": architecture,
        "d_in": cfg.n_sources * cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": flat.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": _metadata(cfg),
    }
    if architecture == "topk":
        fields |= {"k": int(cfg.k or 0), "rescale_acts_by_decoder_norm": False}
    return INFERENCE[architecture].made(CONFIG_FILE, **fields), flat.plan()


def _refuse(cfg: CrosscoderConfig) -> None:
    why = None
    if cfg.gate == "per_source" and cfg.n_sources > 1:
        why = "each source has a gate of its own, so that the sources have different codes"
    elif cfg.architecture == "topk" and cfg.code_norm != "none":
        why = "where SAELens ranks by a norm it also stores latents times that norm, and here they are not"
    if why is not None:
        raise FormatError("SAELens", f"cannot say this crosscoder, not even as a wide SAE: {why}; use --to saereg")


def _common_type(cfg: CrosscoderConfig) -> DType:
    """Return a type that holds every tensor exactly, and float32 at least where something is computed."""
    types = {spec.dtype or cfg.dtype for spec in cfg.tensors().values()}
    widest = min(types, key=WIDTHS.index)
    computes = cfg.statistics.preprocess != "none" or cfg.code_norm != "none" or cfg.bias_reduction != "shared"
    if WIDTHS.index(widest) > 1 and (computes or len(types) > 1):
        return "float32"
    return cast(DType, widest)


@dataclass(frozen=True)
class _Flat:
    """The recipes of the SAE, from canonical names.

    Attributes:
        cfg: the crosscoder.
        dtype: type of all tensors of the SAE.
    """

    cfg: CrosscoderConfig
    dtype: DType

    def plan(self) -> dict[str, SourceTensor]:
        undone = self.cfg.statistics.inverted_on_output
        b_dec = self._scaled("b_dec", SIDE_BY_SIDE, 0) if undone else (SIDE_BY_SIDE,)
        if undone and "center" in self.cfg.statistics.preprocess:
            b_dec = (*b_dec, plus(self._taken("input_mean", SIDE_BY_SIDE)))
        return {
            "W_enc": self._encoder(),
            "W_dec": self._taken("W_dec", *(self._scaled("W_dec", LAST, 1) if undone else (LAST,))),
            "b_dec": self._taken("b_dec", *b_dec),
            **self._vectors(),
        }

    def _taken(self, name: str, *steps: Step) -> SourceTensor:
        """Return the recipe that starts with a tensor in the common type."""
        stored = self.cfg.tensors()[name].dtype or self.cfg.dtype
        return moved(name, *(() if stored == self.dtype else (cast_to(self.dtype),)), *steps)

    def _scaled(self, name: str, merge: Step, axis: int) -> tuple[Step, ...]:
        """Return the steps that put sources side by side and, if rows are scaled, put that into a matrix or a bias."""
        if "scale" not in self.cfg.statistics.preprocess:
            return (merge,)
        by = times_by if name == "W_enc" else divided_by
        if self.cfg.statistics.scale_per == "source":
            return by(self._taken("input_scale"), axis), merge
        return merge, by(self._taken("input_scale", SIDE_BY_SIDE), axis)

    def _encoder(self) -> SourceTensor:
        return self._taken("W_enc", *self._scaled("W_enc", SIDE_BY_SIDE, 0))

    def _shift(self, *steps: Step) -> tuple[Step, ...]:
        """Return the step that adds −(mean·scale)·W_enc, with steps done to that first; none where there is no mean."""
        if "center" not in self.cfg.statistics.preprocess:
            return ()
        start, centre = self._encoder(), self._taken("input_mean", SIDE_BY_SIDE)
        done = (*start.steps, times_by(centre, axis=0), SUM, scaled(-1.0), *steps)
        return (plus(moved(str(start.key), *done)),)

    def _vectors(self) -> dict[str, SourceTensor]:
        if self.cfg.architecture == "gated":
            stretched = times_by(self._taken("r_mag", EXP), axis=0)
            return {
                "b_gate": self._taken("b_gate", *self._shift()),
                "b_mag": self._taken("b_mag", *self._shift(stretched)),
                "r_mag": self._taken("r_mag"),
            }
        total = () if self.cfg.bias_reduction == "shared" else (SUM,)
        vectors = {"b_enc": self._taken("b_enc", *total, *self._shift())}
        if self.cfg.architecture in ("jumprelu", "batchtopk"):
            vectors["threshold"] = self._threshold()
        return vectors

    def _threshold(self) -> SourceTensor:
        wide = () if self.cfg.architecture == "jumprelu" else (Step(do="broadcast", shape=(self.cfg.d_sae,)),)
        return self._taken("threshold", *wide, *self._by_code_norm())

    def _by_code_norm(self) -> tuple[Step, ...]:
        joint = self._taken("W_dec", LAST, NORM)
        total = self._taken("W_dec", NORM, SUM_LAST)
        if self.cfg.code_norm == "none":
            return ()
        if self.cfg.code_norm == "mixed":
            of_joint, of_total = self.cfg.code_norm_weights or (0.0, 0.0)
            parts = moved("W_dec", *total.steps, scaled(of_total), plus(moved("W_dec", *joint.steps, scaled(of_joint))))
            return (divided_by(parts, axis=0),)
        # with one source its own norm is the joint one
        return (divided_by(total if self.cfg.code_norm == "sum_of_norms" else joint, axis=0),)


def _metadata(cfg: CrosscoderConfig) -> SaelensMetadata:
    facts: dict[str, Any] = cfg.metadata.model_dump(exclude_none=True)
    if is_before_6(facts.setdefault("sae_lens_version", SAELENS_VERSION)):
        facts["sae_lens_version"] = SAELENS_VERSION
    sites = {name: facts.pop(name) for name in OF_ONE_SITE if name in facts}
    facts[KEY] = {"axis": cfg.sources.axis, "sources": list(source_names(cfg)), "d_in": cfg.d_in} | sites
    if cfg.assumptions:
        facts["saereg_assumptions"] = [note.model_dump() for note in cfg.assumptions]
    if cfg.architecture == "batchtopk" and cfg.k is not None:
        facts.setdefault("training_architecture_details", {"k": cfg.k})
    return SaelensMetadata.of(facts)


def source_names(cfg: CrosscoderConfig) -> tuple[str, ...]:
    """Return what the sources are called, in their order."""
    if cfg.sources.axis == "snapshot":
        return tuple(f"{cfg.sources.site} at step {step}" for step in cfg.sources.steps)
    return tuple(cfg.sources.sites)


def readme(cfg: SaelensConfig) -> str | None:
    """Return what people must know who use an SAE that was a crosscoder; None for any other."""
    facts = (cfg.metadata.model_extra or {}).get(KEY)
    if not isinstance(facts, dict) or not isinstance(facts.get("sources"), list):
        return None
    names, width = [str(name) for name in facts["sources"]], facts.get("d_in")
    listed = "\n".join(f"{index}. {name}" for index, name in enumerate(names, start=1))
    return (
        f"# A crosscoder of {len(names)} sources, as one wide SAE\n\n"
        f"This SAE reads {len(names)} vectors of width {width} side by side: concatenate the sources in this order on "
        f"the last axis, as they are, without any normalization.\n\n{listed}\n\n"
        "```python\n"
        "x = torch.cat(sources, dim=-1)  # (..., "
        f"{cfg.d_in})\nx_hat = sae(x).unflatten(-1, ({len(names)}, {width}))\n```\n\n"
        f"The axis is `{facts.get('axis')}`. The reconstruction is that of all sources, in the same order. A part of "
        "the input alone, or another order, gives other latents.\n"
    )
