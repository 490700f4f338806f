"""SR303 and SR304 where readers meet them: the hook of a configuration, and how the card says to capture."""

import ast
import operator
import re
import warnings
from collections import Counter
from collections.abc import Iterator

from saereg.registry.cards.card import CARD_FILE, Card
from saereg.registry.cards.snippets import snippets_of
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.manifest import CrosscoderArtifact, TranscoderArtifact
from saereg.schemas.report import Finding
from saereg.schemas.site import BaseModelRef, Site

_ANY_LAYER = re.compile(r"hidden_states\[\s*`?(?:layer|L|l|i)(?:_idx|_index)?\s*\+\s*1\s*`?\]")
_EXCEPTION = re.compile(r"\b(?:except|excluding|but|last|final)\b", re.IGNORECASE)

_LAYER_OF_HOOK = re.compile(r"(?:^|\.)(?:blocks|layers|h)\.(\d+)(?:\.|$)")

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub}


def hook_in_config(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR303: the hooks that a configuration names are in the layers of the artifact's sites."""
    config, manifest, claim = artifact.config, artifact.release.manifest, artifact.claim
    if config is None or manifest is None or isinstance(claim, CrosscoderArtifact):
        return
    stated = [("hook_name", config.metadata.hook_name, claim.site)]
    if isinstance(claim, TranscoderArtifact):
        stated.append(("hook_name_out", config.metadata.hook_name_out, claim.site_out))
    for key, name, site_key in stated:
        site, match = manifest.sites.get(site_key), _LAYER_OF_HOOK.search(name or "")
        if site is None or site.layer is None or match is None:
            continue
        # What `blocks.8` reads before it is what layer 7 wrote.
        fitting = {site.layer, site.layer + ("_pre" in (name or ""))}
        if int(match[1]) not in fitting:
            message = f"{key} is {name!r}, but the manifest says layer {site.layer}"
            expected = site.hook_name or f"blocks.{site.layer}.…"
            yield artifact.config_finding("SR303", message, f"/metadata/{key}", expected=expected, found=name)


def last_hidden_state_in_card(release: ReleaseSubject) -> Iterator[Finding]:
    """SR304: no recipe of the card takes hidden_states[n_layers] for the output of the last layer."""
    card, lasts = release.card, _last_layers(release)
    if card is None or not lasts or "hidden_states[" not in card.text:
        return
    depths = {site.layer + 1 for site, _ in lasts if site.layer is not None}
    site, model = lasts[0]
    meant = {"path": CARD_FILE, "expected": f"the {site.io} of {site.module or f'layer {site.layer}'}, by a hook"}
    for line, index in _indices(card):
        if index == -1 or index in depths:
            what = f"the code reads hidden_states[{index}] of {model.id}, which is after the final norm"
            yield finding("SR304", what, line=line, found=f"transformers hidden_states[{index}]", **meant)
    for line, text in _sentences(card):
        what = f"{text} is said of every layer, but of layer {site.layer}, the last, it is after the final norm"
        yield finding("SR304", what, line=line, found=text, **meant).model_copy(update={"severity": "warning"})


def _last_layers(release: ReleaseSubject) -> list[tuple[Site, BaseModelRef]]:
    """Return the sites at the output of a last layer, of models with a norm behind it."""
    manifest = release.manifest
    pairs = [(site, manifest.base_models.get(site.model)) for site in manifest.sites.values()] if manifest else []
    return [
        (site, model)
        for site, model in pairs
        if model is not None
        and model.final_norm
        and (site.stream, site.io, site.post_final_norm) == ("residual", "output", False)
        and site.layer is not None
        and site.layer + 1 == model.n_layers
    ]


def _indices(card: Card) -> Iterator[tuple[int, int]]:
    """Yield (line of the card, index) of every `hidden_states[…]` of its Python blocks whose index is known."""
    for snippet in snippets_of(card):
        if snippet.problem is not None or "hidden_states" not in snippet.code:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(snippet.code)
        names = _constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and _is_hidden_states(node.value):
                index = _number(node.slice, names)
                if index is not None:
                    yield snippet.line + node.lineno, index


def _is_hidden_states(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)) == "hidden_states"


def _constants(tree: ast.Module) -> dict[str, int]:
    """Return the names that are a whole number all through a block."""
    stored = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    found: dict[str, int] = {}
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        value = _number(statement.value, {}) if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Name) and value is not None and stored[target.id] == 1:
            found[target.id] = value
    return found


def _number(node: ast.expr, names: dict[str, int]) -> int | None:
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand, names)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _number(node.left, names), _number(node.right, names)
        return None if left is None or right is None else _ARITHMETIC[type(node.op)](left, right)
    return None


def _sentences(card: Card) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of `hidden_states[L + 1]` outside code, where no exception stands beside it."""
    for block in card.blocks:
        if block.kind in ("fence", "code"):
            continue
        for i, line in enumerate(block.lines):
            match = _ANY_LAYER.search(line.text)
            beside = " ".join(other.text for other in block.lines[max(i - 1, 0) : i + 2])
            if match and not _EXCEPTION.search(beside):
                yield line.number, match[0].replace("`", "")
