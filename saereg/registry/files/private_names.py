"""Names of files that belong to a machine or an account, and never into a release."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

FILES = {
    ".env": "settings of a machine",
    ".env.*": "settings of a machine",
    "*.env": "settings of a machine",
    ".envrc": "settings of a machine",
    ".netrc": "credentials",
    "_netrc": "credentials",
    ".git-credentials": "credentials",
    ".npmrc": "credentials",
    ".pypirc": "credentials",
    ".pgpass": "credentials",
    "kaggle.json": "credentials",
    "client_secret*.json": "credentials",
    "application_default_credentials.json": "credentials",
    "id_rsa*": "a private key",
    "id_dsa*": "a private key",
    "id_ecdsa*": "a private key",
    "id_ed25519*": "a private key",
    "*.pem": "a private key",
    "*.key": "a private key",
    "*.p12": "a private key",
    "*.pfx": "a private key",
    "*.ppk": "a private key",
    ".bash_history": "the history of a shell",
    ".zsh_history": "the history of a shell",
    ".python_history": "the history of a shell",
    "*.wandb": "a Weights & Biases run",
}
"""Pattern of a file's name, in small letters → what it is."""

FOLDERS = {
    ".aws": "credentials",
    ".azure": "credentials",
    ".gcloud": "credentials",
    ".kaggle": "credentials",
    ".kube": "credentials",
    ".docker": "credentials",
    ".ssh": "private keys",
    ".gnupg": "private keys",
    ".huggingface": "settings of the Hub client",
    ".streamlit": "settings of a machine",
    ".wandb": "Weights & Biases runs",
}
"""Name of a folder, in small letters → what it holds."""

HARMLESS = (".env.example", ".env.sample", ".env.template", "*.pub", "*pub*.pem", "*pub*.key", "*cert*.pem")
"""What looks like one of them and is meant to be given away: templates, public keys, certificates."""

_RUN = re.compile(
    r"(?P<folder>(?:^|/)wandb)/(?:(?:offline-)?run-|latest-run(?:/|$)|sweep-|debug[\w-]*\.log$|settings$)"
)
"""What Weights & Biases writes below the folder in which it is started."""


@dataclass(frozen=True)
class PrivateFile:
    """A file, or the folder that it lies in, that must not be published.

    Attributes:
        path: the file or folder, relative to the release.
        what: what it is, or holds.
        is_folder: whether all of a folder is meant.
    """

    path: str
    what: str
    is_folder: bool = False


def private_file(path: str) -> PrivateFile | None:
    """Return what of a path belongs to a machine or an account, or None."""
    folders, _, name = path.lower().rpartition("/")
    parts = folders.split("/") if folders else []
    for depth, part in enumerate(parts):
        if part in FOLDERS:
            return PrivateFile("/".join(path.split("/")[: depth + 1]), FOLDERS[part], is_folder=True)
    if match := _RUN.search(path.lower()):
        folder = path[: match.start() + len(match["folder"])]
        return PrivateFile(folder, "Weights & Biases runs", is_folder=True)
    if not _NAMED.match(name) or any(fnmatchcase(name, pattern) for pattern in HARMLESS):
        return None
    return next((PrivateFile(path, what) for pattern, what in FILES.items() if fnmatchcase(name, pattern)), None)


_NAMED = re.compile(r"\.|_netrc$|kaggle|client_secret|application_default|id_|.*\.(?:env|pem|key|p12|pfx|ppk|wandb)$")
"""What every name of FILES begins or ends with: most files are told apart by one look."""
