"""Hold the claims of a release against its weights, or against what its index records of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.claims.judge import judge
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_of
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.metrics import Claim, Verdict

if TYPE_CHECKING:
    from saereg.registry.claims.measuring import Measured


Heard = Callable[[int], None]
"""Number of rows → None."""


@dataclass(frozen=True)
class Compared:
    """The claims of one artifact and what came of them.

    Attributes:
        artifact: id of the artifact.
        claims: what its author states.
        verdicts: one per claim.
        problems: what is wrong with data that claims are about, and why the claims on them cannot be verified.
    """

    artifact: str
    claims: tuple[Claim, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[WeightsError, ...] = ()


def compared_with_index(artifact: ReleaseArtifact) -> Compared:
    """Hold claims against the measurements that the index records. Needs no torch."""
    recorded = artifact.evidence.metrics if artifact.evidence else ()
    return Compared(artifact.id, artifact.claim.claims, judge(artifact.claim.claims, recorded))


@dataclass(frozen=True)
class Comparison:
    """Recomputes what the claims of a release are about.

    Attributes:
        release: the release; files of one on the Hub are fetched when they are needed.
        models: key of a base model → folder or repository to take its weights from, for evaluations of tokens.
        device: torch device.
    """

    release: Release
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def of(self, artifact: ReleaseArtifact, heard: Heard | None = None) -> Compared:
        """Measure one artifact on every evaluation that its claims name, and judge them.

        Weights are loaded only where some claim can be recomputed at all.

        Args:
            artifact: one of the release.
            heard: called with the number of rows after each block of them that was measured.

        Raises:
            WeightsError: when weights are not what their documents say; of data the result says it.
            DocumentError: when its configuration does not fit.
            PublishError: when the Hub does not answer.
            OSError: when a file cannot be read.
            MissingExtraError: without the `torch` extra.
        """
        claims = artifact.claim.claims
        if not self.evaluations(artifact):
            return Compared(artifact.id, claims, judge(claims, ()))
        found = self._measured(artifact, heard)
        problems = (WeightsError(f"{artifact.id} on {name!r}", str(error)) for name, error in found.failed.items())
        return Compared(artifact.id, claims, found.diagnosed.verdicts, tuple(problems))

    def evaluations(self, artifact: ReleaseArtifact) -> dict[str, Evaluation]:
        """Return the evaluations on which claims of an artifact can be recomputed."""
        names = {claim.evaluation for claim in artifact.claim.claims if claim.kind == "recomputed"}
        return {name: e for name, e in self.release.manifest.evaluations.items() if name in names}

    def _measured(self, artifact: ReleaseArtifact, heard: Heard | None) -> "Measured":
        """Measure the artifact on each evaluation that can be had here, and judge its claims."""
        require_torch("recomputing metrics")
        from saereg.registry.claims.measuring import measured
        from saereg.registry.kernels.running import runner_of
        from saereg.registry.metrics.sources.opening import Surroundings
        from saereg.registry.semantics import row_shape

        dictionary = artifact.load(self.device, verify=False)
        shape, manifest = row_shape(dictionary.cfg), self.release.manifest

        def around(evaluation: Evaluation) -> Surroundings:
            root = self.release.fetched(evaluation)
            digests = self._digest(root, getattr(evaluation, "path", None))
            return Surroundings(root, manifest, shape, digests, self.models, self.device)

        claims, runner = artifact.claim.claims, runner_of(dictionary)
        predicts = artifact.claim.kind == "transcoder"
        return measured(runner, self.evaluations(artifact), around, claims, heard=heard, predicts=predicts)

    def _digest(self, root: Path, path: str | None) -> Mapping[str, str]:
        """Return the digest of the file of an evaluation, computed once for all artifacts."""
        if path is not None and path not in self._digests and (root / path).is_file():
            self._digests[path] = sha256_of(root / path)
        return self._digests
