"""The loaders that SAELens has a name for, read from its source: importing it takes seconds."""

import ast
from functools import cache
from pathlib import Path

from saereg.errors import MissingExtraError
from saereg.registry.federation.places import package

NATIVE = "sae_lens"
"""The loader of a release without `conversion_func`."""

KNOWN = frozenset(
    {
        NATIVE, "connor_rob_hook_z", "gemma_2", "gemma_3", "llama_scope", "llama_scope_r1_distill",
        "dictionary_learning_1", "deepseek_r1", "qwen_scope", "sparsify", "gemma_2_transcoder", "mwhanna_transcoder",
        "mntss_clt_layer_transcoder", "temporal", "goodfire",
    }
)  # fmt: skip
"""Those of SAELens 6.54.12, for where it is not installed."""

TABLE = "NAMED_PRETRAINED_SAE_LOADERS"
FILE = "loading/pretrained_sae_loaders.py"


def known_loaders() -> frozenset[str]:
    """Return the names of the loaders of the installed SAELens, or those that are known where it is not installed."""
    try:
        found = _read(package() / FILE)
    except (MissingExtraError, OSError, SyntaxError, ValueError):
        return KNOWN
    return found or KNOWN


@cache  # a source of 2,000 lines
def _read(path: Path) -> frozenset[str]:
    return _names(ast.parse(path.read_text(encoding="utf-8")))


def _names(tree: ast.Module) -> frozenset[str]:
    """Return the keys of the table, which is a literal at the top of the module."""
    for node in tree.body:
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        named = any(isinstance(target, ast.Name) and target.id == TABLE for target in targets)
        value = node.value if isinstance(node, ast.AnnAssign | ast.Assign) else None
        if named and isinstance(value, ast.Dict):
            keys = (key.value for key in value.keys if isinstance(key, ast.Constant))
            return frozenset(key for key in keys if isinstance(key, str))
    return frozenset()
