"""SR0: secrets, private matters, files of a machine, and code that nobody mentions."""

from saereg.registry.validators.rules.text import RuleText


class SR008(RuleText):
    """A file holds what looks like a secret.

    Cards, JSON, YAML, logs, code, notebooks with their outputs and every other text are looked into, the first 5 MB
    of each, and the `__metadata__` of every safetensors header. Looked for are exact forms alone: tokens of Hugging
    Face, GitHub, GitLab, PyPI and Slack, keys of OpenAI, Anthropic, Google, AWS and Weights & Biases, private keys,
    signed web tokens, passwords in URLs, and names such as `password=` or `api_key:` with a literal value. A digest
    is never taken for a key, nor are placeholders such as `hf_xxx`, `<token>`, `$HF_TOKEN` or
    `os.environ["HF_TOKEN"]`. Strings are read with their escapes resolved.

    Files outside the folders of artifacts are looked into at level layout, those inside and all headers at level
    header. Left out are index.json, which a machine writes, and pickles, which must go anyway. Of a release on the
    Hub, logs, code and other texts beside cards, JSON, YAML and TOML are read only up to 256 kB. The finding names the
    file, the line and the kind; neither it nor any report holds a part of the secret.

    Why: A release is public and copied within minutes: programs watch the Hub and GitHub for new tokens, and whoever
    has yours writes to your repositories, or computes on your account. Deleting the file later does not help, since
    the history of the repository and every download keep it.

    Fix: Revoke the secret at its provider first, since it must count as known. Then take it out of the file, and read
    it from the environment where code needs it.

    Bad: README.md
        ```python
        login(token="hf_GkQ…")
        ```

    Good: README.md
        ```python
        login(token=os.environ["HF_TOKEN"])
        ```
    """

    severity = "error"
    level = "layout"
    shows_source = False


class SR014(RuleText):
    r"""A file holds private matters.

    Looked for in the same files as secrets are (SR008): paths of home folders (`/home/NAME`, `/Users/NAME`,
    `C:\Users\NAME`, `/scratch/NAME`, `/root/…`), prompts of machines (`name@host:~`), and, unless the file is written
    for readers, e-mail addresses and the entities, ids and links of Weights & Biases runs. Names that are those of
    nobody (`/home/user`) do not count, nor do the addresses of authors in manifest.json. A file has one finding of
    each kind, with the line of the first and how many there are.

    SAELens' training writes such a file: `runner_cfg.json` holds `checkpoint_path`, `output_path`, `dataset_path`
    and, in `logger`, `wandb_entity` and `wandb_id`. A log of a training run is the other.

    Why: It tells strangers the names of people, accounts and machines, and for double-blind review it names the
    author. A path of one machine is also of no use on any other: code that follows `dataset_path` fails for everybody
    else.

    Fix: Leave the file out if nobody needs it, as `runner_cfg.json`; otherwise write a name of the Hub or a relative
    path in its place, and run `saereg build`.

    Bad: runner_cfg.json
        {"dataset_path": "/home/jane/data/pile-10k", "logger": {"wandb_entity": "jane-lab", "wandb_id": "3fk2a9xq"}}

    Good: runner_cfg.json
        {"dataset_path": "NeelNanda/pile-10k", "logger": {"wandb_entity": null, "wandb_id": null}}
    """

    severity = "warning"
    level = "layout"
    shows_source = False


class SR015(RuleText):
    """A file of credentials or of a machine is in the release.

    Told by names alone: `.env` and `.env.*` (but `.env.example` may stay), `.netrc`, `.git-credentials`, `.npmrc`,
    `.pypirc`, `kaggle.json`, `id_rsa` and its kin, `*.pem` and `*.key` (but those with `pub` or `cert` in their names
    may stay), histories of shells, the folders `.aws/`, `.ssh/`, `.kube/`, `.huggingface/` and others like them, and
    what Weights & Biases writes into `wandb/`. `saereg build` takes none of them into the index.

    Why: Such files hold the keys to accounts, or say how a machine is set up. They get into a release by mistake,
    together with the folder that was uploaded, and a public repository keeps them in its history.

    Fix: Move the file out of the release folder. If it was ever published, revoke what is in it.

    Bad: example-saes/
        .env
        manifest.json
        wandb/run-20260114_101500-3fk2a9xq/files/config.yaml

    Good: example-saes/
        .env.example
        manifest.json
    """

    severity = "error"
    level = "layout"


class SR016(RuleText):
    """Code is in the release, and the card does not mention it.

    A release is data. Scripts and notebooks (`.py`, `.ipynb`, `.sh` and others) may be in it when README.md names the
    file, as an example that belongs to the release. Programs that cannot be read (`.so`, `.dll`, `.exe`, `.pyc`, `.whl`
    and others) are reported even when it does. Whether code is any good is not looked at; that it holds no secret is
    (SR008), the outputs of notebooks included.

    Why: Whoever downloads a release does not expect to run anything, and nobody reviews code that no page speaks of.
    Some libraries run a file of a repository when it is asked for with `trust_remote_code`, and scanners of companies
    refuse repositories with programs in them.

    Fix: Say in README.md what the file is for, or keep it in the repository of the training code and name that in
    `release.code` of the manifest.

    Bad: README.md
        (the release also holds scripts/load.py)
        # Sparse autoencoders of Pythia 410M

    Good: README.md
        # Sparse autoencoders of Pythia 410M
        [scripts/load.py](scripts/load.py) loads an artifact without saereg.
    """

    severity = "warning"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (SR008, SR014, SR015, SR016)
"""The rules of this file."""
