"""Title and text of a pull request to SAELens: what is added, and what its numbers stand on."""

from collections.abc import Iterator

from saereg import __version__
from saereg.registry.emitting.emitted import Emitted
from saereg.registry.emitting.subject import Subject
from saereg.registry.flat_fields import headline
from saereg.registry.release import ReleaseArtifact
from saereg.schemas.metrics import Measurement

HEAD = "| release | id | architecture | hook | d_in | d_sae | l0 | variance_explained | measured on |"


def pull_request(subject: Subject, emitted: Emitted, checked: str | None) -> str:
    """Return the text: the title as its first line, then the body in Markdown.

    Args:
        subject: the release.
        emitted: its entries.
        checked: what a check by SAELens' own parser found; None where none was made.
    """
    info, names = subject.release.manifest.release, ", ".join(f"`{name}`" for name in emitted.rows)
    at = f" at `{subject.revision}`" if subject.revision else ""
    lines = [
        f"Add {info.name} {info.version} to the pretrained SAEs",
        "",
        f"Adds {names} to `pretrained_saes.yaml`: {_line(info.title)}.",
        "",
        f"- Weights: {subject.url}{at}, licence {info.license}.",
        "- Native layout: `conversion_func: null`, no `norm_scaling_factor`; any scale of inputs is in the weights.",
        f"- `l0` and `variance_explained` were recomputed from the weights by saereg {__version__}; where nothing was"
        " measured the key is absent.",
        *([f"- {checked}."] if checked else []),
        "",
        HEAD,
        "|" + " --- |" * (HEAD.count("|") - 1),
        *_rows(subject, emitted),
    ]
    if emitted.left_out:
        lines += ["", "Not in it:", "", *(f"- `{one.id}`: {_line(one.why)}" for one in emitted.left_out)]
    lines += ["", "```yaml", emitted.text.rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _rows(subject: Subject, emitted: Emitted) -> Iterator[str]:
    for name, entry in emitted.rows.items():
        for row in entry["saes"]:  # type: ignore[attr-defined]
            artifact = subject.release[row["id"]]
            fields = artifact.fields
            shown = [name, artifact.id, *(fields[key] for key in ("architecture", "hook_name", "d_in", "d_sae"))]
            shown += [row.get("l0"), row.get("variance_explained"), _measured_on(artifact)]
            yield "| " + " | ".join("–" if cell is None else str(cell).replace("|", r"\|") for cell in shown) + " |"


def _measured_on(artifact: ReleaseArtifact) -> str | None:
    found = headline(artifact.evidence.metrics) if artifact.evidence else {}
    used: list[Measurement] = [found[name] for name in ("l0", "explained_variance") if name in found]
    on = dict.fromkeys(f"{one.evaluation}, {one.rows} rows" for one in used if one.value is not None)
    return "; ".join(on) or None
