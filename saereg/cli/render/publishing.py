"""Plans and receipts of publishing, for people."""

from saereg.cli.render.text import plural, size
from saereg.schemas.plan import HubPlan, HubReceipt, Plan, Receipt

MARKS = {"add": "+", "change": "~", "remove": "-"}

MOST_SHOWN = 40
"""Most files that are listed."""

MODES = {
    "one_commit": "one commit",
    "staged": "staged on a pull request, then merged",
    "parts": "in parts on the branch, the inventory last",
}


def plan_text(plan: Plan) -> str:
    """Return a plan as lines."""
    kept = plan.release_files
    total, moved = sum(one.size for one in kept), sum(one.size for one in plan.moved)
    counted = ((plan.ignored, "ignored"), (plan.lowered, "graded down from error"))
    told = ", ".join(f"{count} {word}" for count, word in counted if count)
    ignored = f", {told} (saereg validate --verbose says which)" if told else ""
    files = f"{plural(len(kept), 'file')}, {size(total)} ({size(total - moved)} already there)"
    lines = [f"{plan.release}, validated at level {plan.validated_at_level}: 0 errors{ignored}"]
    lines += [f"to {plan.target}: {files}"]
    lines += _hub_lines(plan, plan.hub) if plan.hub is not None else []
    if plan.hub is not None and plan.hub.skips:
        return "\n".join(lines) + "\n"
    lines += [f"  {MARKS[one.action]} {one.path}  {size(one.size)}" for one in plan.changes[:MOST_SHOWN]]
    more = len(plan.changes) - MOST_SHOWN
    lines += [f"  … {plural(more, 'more file')}"] if more > 0 else []
    same = len(kept) - len(plan.moved)
    lines += [f"  = {plural(same, 'file')} unchanged"] if same else []
    alone = sum(one.action == "keep" for one in plan.operations)
    lines += [f"  . {plural(alone, 'file')} that only the target has: left there"] if alone else []
    return "\n".join(lines) + "\n"


def _hub_lines(plan: Plan, hub: HubPlan) -> list[str]:
    if hub.skips:
        return [hub.skips]
    lines = []
    if hub.creates == "repository":
        lines.append(f"the repository is made first, {'private' if hub.private else 'public'}")
    elif plan.base is not None:
        made = f" (the branch {hub.branch} is made)" if hub.creates == "branch" else ""
        lines.append(f"base {hub.branch}@{plan.base[:8]}{made}")
    if not plan.is_noop:
        how = MODES[hub.mode] + (f", {plural(hub.commits, 'commit')}" if hub.commits > 1 else "")
        lines.append(
            f"{how}, {size(hub.upload_bytes)} to send" + (", left as a pull request" if hub.pull_request else "")
        )
    if hub.tag:
        lines.append(f"tag {hub.tag}" + (f", which {hub.tagged[:8]} has" if hub.tagged else ""))
    return lines + [f"note: {lost}" for lost in hub.lost]


def receipt_text(receipt: Receipt, skips: str | None = None) -> str:
    """Return a receipt as lines.

    Args:
        receipt: the receipt.
        skips: why nothing was done, where that is not because there was nothing to do.
    """
    hub = receipt.hub
    if skips is not None:
        return "nothing was done: a published version stays as it is\n"
    if not receipt.changed:
        there = f" as {hub.branch}@{hub.commit[:8]}" if hub is not None else ""
        tag = f", tag {hub.tag}" if hub is not None and hub.tag else ""
        if hub is not None and hub.made:
            return f"the {hub.made} {hub.branch} was made{there}, which holds exactly this release{tag}\n"
        return f"nothing to do: the target holds exactly this release{there}{tag}\n"
    written = f"{size(receipt.bytes_written)} written"
    if hub is None:
        return f"published in {receipt.seconds:.1f} s, {written}, every file read back and equal\n"
    return _hub_text(receipt, hub, written)


def _hub_text(receipt: Receipt, hub: HubReceipt, written: str) -> str:
    if hub.waits:
        first = f"pull request {hub.pull_request} holds the release as {hub.commit[:8]}, {written}"
    else:
        first = f"published as {hub.branch}@{hub.commit[:8]}, {written}" + (f", tag {hub.tag}" if hub.tag else "")
    did = f"{plural(hub.commits, 'commit')}, {plural(hub.requests, 'request')}, {hub.retries} of them again"
    lost = f", {plural(hub.reconciled, 'lost reply')} settled by content" if hub.reconciled else ""
    lost = lost.replace("replys", "replies")
    lines = [first, f"every file of the tree compared; {receipt.seconds:.1f} s, {did}{lost}", hub.url]
    return "\n".join(lines) + "\n"
