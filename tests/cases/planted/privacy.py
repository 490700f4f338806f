"""Cases of the rules in `rules/privacy.py`. The secrets in them were never anybody's."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.cases.tools import JUMP, TOPK, Case, header, raw_weights, reindex

HF_TOKEN = "hf_" + "GkQwErTz7Yu8iOpLmNbVcXs2dF4hJkL9aP"
"""Of the form of a token, as all keys here: in parts, so that no scanner of repositories takes this file for one."""

WANDB_KEY = "4f1c9d" + "0b7a3e82d65c1f90ab4e7d3c28b5a6f0" + "9c"
AWS_KEY = "AKIA" + "QX7ZP2LM5WVT3HRD"

RUNNER_CONFIG = {
    "model_name": "tiny/model",
    "hook_name": "blocks.1.hook_resid_post",
    "dataset_path": "/home/jane/data/tiny-text",
    "checkpoint_path": "/home/jane/runs/checkpoints/3fk2a9xq",
    "output_path": "output",
    "logger": {
        "log_to_wandb": True,
        "wandb_project": "sae_lens_training",
        "wandb_id": "3fk2a9xq",
        "wandb_entity": None,
    },
}
"""What SAELens' training leaves in runner_cfg.json, in short."""


def _written(path: str, text: str, *also: str) -> Callable[[Path], None]:
    """Add a file that the index knows, and lines to the card."""

    def plant(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
        if also:
            (root / "README.md").write_text((root / "README.md").read_text() + "".join(also))
        index = json.loads((root / "index.json").read_text())
        artifact = next((a for a in index["artifacts"] if path.startswith(a["id"] + "/")), None)
        files = artifact["files"] if artifact else index["files"]
        if path not in [file["path"] for file in files]:
            role = "log" if path.endswith(".log") else "other"
            files.append({"path": path, "size": 1, "sha256": "0" * 64, "role": role})
            files.sort(key=lambda file: file["path"])
        (root / "index.json").write_text(json.dumps(index, indent=2) + "\n")
        reindex(root)

    return plant


def _card(text: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        (root / "README.md").write_text((root / "README.md").read_text() + text)
        reindex(root)

    return plant


def _unindexed(path: str, text: str = "x\n") -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    return plant


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" if c in "_k" else c for c in text)


_LOGGED_IN = (
    "\n```bash\nexport HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\nexport WANDB_API_KEY=$WANDB_API_KEY\n```\n"
)

CASES: dict[str, Case] = {
    "token_in_card": Case("SR008", _card(f"\n```bash\nhf auth login --token {HF_TOKEN}\n```\n"), level="layout"),
    "token_in_escapes": Case("SR008", _written("notes.json", f'{{"note": "{_escaped(HF_TOKEN)}"}}\n'), level="layout"),
    "keys_in_log": Case(
        "SR008",
        _written(f"{TOPK}/training.log", f"step 1\nWANDB_API_KEY={WANDB_KEY}\naws_access_key_id = {AWS_KEY}\n"),
    ),
    "token_in_header": Case(
        "SR008", raw_weights(JUMP, header(lambda h: h.update(__metadata__={"format": "pt", "made_with": HF_TOKEN})))
    ),
    "placeholders": Case("SR008", _card(_LOGGED_IN), level="layout", passes=True),
    "digests_beside_key_names": Case(
        "SR008",
        _written(f"{TOPK}/training.log", f"token: {'0a1b2c3d' * 8}\nwandb run at commit {'1234567890' * 4}\n"),
        passes=True,
    ),
    "runner_cfg": Case("SR014", _written(f"{TOPK}/runner_cfg.json", json.dumps(RUNNER_CONFIG, indent=2) + "\n")),
    "home_folder_in_card": Case("SR014", _card("\nTrained in `/home/jane/saes`, see gpu07.\n"), level="layout"),
    "paths_of_nobody": Case(
        "SR014", _card("\nUnpack it to `/home/user/saes`; ask jane@lab.example.org.\n"), passes=True
    ),
    "runner_cfg_cleaned": Case(
        "SR014",
        _written(
            f"{TOPK}/runner_cfg.json",
            json.dumps(
                {
                    "dataset_path": "tiny/text",
                    "output_path": "output",
                    "logger": {"wandb_id": None, "wandb_entity": None},
                }
            ),
        ),
        passes=True,
    ),
    "env_file": Case("SR015", _unindexed(".env"), level="layout"),
    "wandb_folder": Case("SR015", _unindexed("wandb/run-20260114_101500-3fk2a9xq/files/config.yaml"), level="layout"),
    "env_template": Case("SR015", _written(".env.example", "HF_TOKEN=<your token>\n"), passes=True),
    "script": Case("SR016", _written("scripts/load.py", "import saereg\n"), level="layout"),
    "library": Case("SR016", _written("fast.so", "\x7fELF\n", "\nfast.so is fast.\n"), level="layout"),
    "script_in_card": Case(
        "SR016",
        _written("scripts/load.py", "import saereg\n", "\n[scripts/load.py](scripts/load.py) loads an artifact.\n"),
        passes=True,
    ),
}
"""Name of the folder → what is planted, and the code that must be found, or must not."""
