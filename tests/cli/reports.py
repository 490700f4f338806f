"""Reports to render: an ordinary one, large ones, and one whose every text is hostile."""

from collections import Counter

from saereg.schemas.report import Finding, Report, Skipped, Summary

HOSTILE = "</script><script>alert('x')</script>|`*[a](http://evil)\r\n::error::\x1b[31m\x00\u202e % ]]> é🙂 {0} @all"
"""Everything that some format takes for more than text."""


def finding(code: str = "SR304", **fields: object) -> Finding:
    """Return a finding, with its fingerprint."""
    usual = {"severity": "error", "message": "the site is after the final norm"}
    return Finding(code=code, **(usual | fields)).with_fingerprint()


def report(*findings: Finding, **fields: object) -> Report:
    """Return a report whose summary counts what it lists."""
    counts = Counter("ignored" if found.ignored else found.severity for found in findings)
    summary = {"artifacts": 4, "checks": 90, "skipped": fields.pop("skipped", ())}
    summary["unused_ignores"] = fields.pop("unused_ignores", ())
    graded = {"errors": counts["error"], "warnings": counts["warning"], "notes": counts["note"]}
    return Report(
        **({"release": "tiny-saes 1.0.0", "level": "header"} | fields),
        findings=findings,
        summary=Summary(**summary, **graded, ignored=counts["ignored"]),
    )


ORDINARY = report(
    finding(
        path="a/cfg.json", line=3, column=5, artifact="a", pointer="/site", expected="x", found="y", hint="mend it"
    ),
    finding("SR003", path="notes.txt", severity="warning", message="notes.txt is not in the index"),
    finding("SR423", artifact="b", severity="note", message="no golden vectors"),
    finding("SR301", artifact="b", path="manifest.json", line=9, ignored="the fork is ours", severity="warning"),
    skipped=(Skipped(check="golden_replays", artifact="b", reason="cheaper checks found errors in this artifact"),),
    unused_ignores=("SR4 in logs/**",),
)
"""Every severity, one ignored finding, one that is of no file, one check that did not run."""


def hostile(text: str = HOSTILE) -> Report:
    """Return a report in which every free text is the same one."""
    texts = dict.fromkeys(("message", "path", "artifact", "pointer", "expected", "found", "hint", "url"), text)
    found = finding(**texts, line=2, column=3)
    ignored = finding(**texts, severity="note", ignored=text)
    skipped = Skipped(check=text, artifact=text, reason=text)
    return report(found, ignored, release=text, skipped=(skipped,), unused_ignores=(text,), profile=text)
