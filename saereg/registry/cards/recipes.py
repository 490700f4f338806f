"""How an artifact is loaded, as code that a reader copies: with saereg, with SAELens, with plain torch."""

import json
from dataclasses import dataclass
from glob import escape

from saereg.errors import UsageError
from saereg.registry.cards.recipes_torch import torch_code
from saereg.registry.files.names import GOLDEN_FILE
from saereg.registry.refs import parse_reference
from saereg.registry.semantics import FOLDED
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest

SCALER_FILE = "activation_scaler.json"
"""File of SAELens' trainer with a factor that saereg puts into the weights when it reads them."""


@dataclass(frozen=True)
class Recipe:
    """One way to load an artifact.

    Attributes:
        library: `saereg`, `SAELens` or `torch`.
        code: Python; it defines `x_hat` and `f` from `x`, or says in a comment how.
        note: a sentence that stands before it, or None.
    """

    library: str
    code: str
    note: str | None = None


def recipes(
    claim: Artifact, manifest: Manifest, evidence: IndexArtifact | None, place: str = "."
) -> tuple[Recipe, ...]:
    """Return every way in which an artifact can be loaded, each of which the tests run.

    The rows of each are those of the golden vectors where the artifact has some, so that the code runs as it is.

    Args:
        claim: its entry in the manifest.
        manifest: the claims.
        evidence: its entry in the index; without it there is none for plain torch, whose maths need the semantics.
        place: the release, as it stands in the code: a folder or `hf://org/repo`.
    """
    del manifest  # an artifact's own entry says all that loading needs
    where = _Where(claim, evidence, place)
    found = [Recipe("saereg", _saereg(where), _missing(claim, evidence))]
    if claim.format == "saelens" and claim.architecture in INFERENCE:
        found.append(Recipe("SAELens", _saelens(where)))
    maths = torch_code(claim, evidence) if evidence is not None and not _is_rescaled(evidence) else None
    if evidence is not None and maths is not None:
        body = _joined(*where.folder, *where.golden_or_random(maths.dtype), "", maths.code)
        used = [f"import {name}" for name in ("json", "torch") if f"{name}." in body]
        used += ["from pathlib import Path"] if "Path(" in body else []
        code = _joined(*where.imports(*used, "from safetensors.torch import load_file"), "", body)
        found.append(Recipe("torch", code, maths.note))
    return tuple(found)


@dataclass(frozen=True)
class _Where:
    """Where the files of an artifact are, as lines of code.

    Attributes:
        claim: its entry in the manifest.
        evidence: its entry in the index.
        place: a folder or `hf://org/repo`.
    """

    claim: Artifact
    evidence: IndexArtifact | None
    place: str

    @property
    def hub(self) -> tuple[str, str | None] | None:
        """Repository and revision, or None for a folder."""
        try:
            reference = parse_reference(self.place) if self.place.startswith("hf://") else None
        except UsageError:
            return None
        return (reference.repo, reference.revision) if reference is not None and reference.repo is not None else None

    def imports(self, *lines: str) -> list[str]:
        """Return import lines with that of the Hub where it is needed, in order."""
        more = ("from huggingface_hub import snapshot_download",) if self.hub else ()
        return sorted((*lines, *more), key=lambda line: (line.startswith("from"), line))

    @property
    def folder(self) -> tuple[str, ...]:
        """Lines that define `folder`; of a repository only its files are fetched."""
        path = self.claim.path
        if self.hub is None:
            prefix = "" if self.place == "." else self.place.rstrip("/") + "/"
            return (f"folder = {literal(prefix + path)}",)
        repo, revision = self.hub
        pinned = f", revision={literal(revision)}" if revision else ""
        only = f"{literal(repo)}{pinned}, allow_patterns={literal(escape(path) + '/*')}"
        return (f"folder = snapshot_download({only}) + {literal('/' + path)}",)

    @property
    def has_golden(self) -> bool:
        """Whether there are rows to try it on."""
        golden = self.evidence.golden if self.evidence else None
        return golden is not None and golden.path == f"{self.claim.path}/{GOLDEN_FILE}"

    def golden_or_random(self, dtype: str = "float32") -> tuple[str, ...]:
        """Return lines that define `x` in a type: rows of the golden vectors, or else random ones."""
        cast = "" if dtype == "float32" else f".to(torch.{dtype})"
        if not self.has_golden:
            return (self.random(cast),)
        rows = self.evidence.golden.rows if self.evidence and self.evidence.golden else 0
        shape = ", ".join(map(str, (rows, *self._row)))
        golden = f'load_file(f"{{folder}}/{GOLDEN_FILE}")["x"]{cast}'
        return (f"x = {golden}  # {'rows' if self._is_shaped else f'({shape})'} to try it on: put yours here",)

    def random(self, cast: str = "") -> str:
        """Return a line that defines `x` as random rows."""
        rows = (1, 7) if self.claim.architecture == "temporal" else (7,)
        shape = ", ".join(map(str, (*rows, *self._row)))
        return f"x = torch.randn({shape}){cast}  # put your rows here"

    @property
    def _is_shaped(self) -> bool:
        """Whether rows have axes that the manifest does not say."""
        heads = self.evidence is not None and self.evidence.semantics.reshape != "none"
        return heads or self.claim.architecture == "temporal"

    @property
    def _row(self) -> tuple[int, ...]:
        claim, tensors = self.claim, self.evidence.tensors if self.evidence else {}
        if isinstance(claim, CrosscoderArtifact):
            return (claim.sources.count, claim.d_in)
        if "W_enc.0" in tensors:
            return (sum(name.startswith("b_enc.") for name in tensors), claim.d_in)
        heads = self.evidence is not None and self.evidence.semantics.reshape != "none"
        return (1, claim.d_in) if heads else (claim.d_in,)


def _saereg(where: _Where) -> str:
    reference = literal(f"{where.place}:{where.claim.id}")
    local = where.hub is None and where.has_golden
    imports = ("import saereg", "from safetensors.torch import load_file" if local else "import torch")
    rows = (*where.folder, *where.golden_or_random()) if local else (where.random(),)
    return _joined(
        *sorted(imports, key=lambda line: (line.startswith("from"), line)),
        "",
        *rows,
        f"dictionary = saereg.load({reference})",
        "f = dictionary.encode(x)",
        "x_hat = dictionary(x)",
    )


def _saelens(where: _Where) -> str:
    lines = ["import torch", "from sae_lens import SAE"]
    lines += ["from safetensors.torch import load_file"] if where.has_golden else []
    return _joined(
        *where.imports(*lines),
        "",
        *where.folder,
        *where.golden_or_random(),
        "sae = SAE.load_from_disk(folder)",
        "with torch.no_grad():",
        "    f, x_hat = sae.encode(x), sae(x)",
    )


def _is_rescaled(evidence: IndexArtifact) -> bool:
    """Whether saereg puts a factor into the weights that stands in a file beside them."""
    beside = any(file.path.endswith(f"/{SCALER_FILE}") for file in evidence.files)
    return beside and evidence.semantics.normalization.kind in FOLDED


def _missing(claim: Artifact, evidence: IndexArtifact | None) -> str | None:
    """Return why there is no recipe with plain torch, or None where there is one."""
    if evidence is None:
        return None
    if claim.architecture == "temporal":
        return "There is no recipe with plain torch: its code predicts with attention over the positions before."
    if _is_rescaled(evidence):
        return f"There is no recipe with plain torch: {SCALER_FILE} has a factor that is still to go into the weights."
    return None


def literal(text: str) -> str:
    """Return a text as Python writes it, in double quotes; what cannot be seen is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in quoted)


def _joined(*lines: str) -> str:
    return "\n".join(lines)
