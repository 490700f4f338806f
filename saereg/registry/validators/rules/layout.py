"""SR0: which files are there, and whether they are those that were indexed."""

from saereg.registry.validators.rules.text import RuleText


class SR001(RuleText):
    """The manifest lists no artifacts.

    The list `artifacts` of manifest.json is looked at. It is reported when it is empty; a folder without a manifest is
    no finding, there is then nothing to validate (exit code 5).

    Why: Every other check looks at artifacts one by one, so an empty release passes them all: a build step that lost
    its inputs would turn green, and readers would download a release from which nothing can be loaded. For that reason
    it may not be silenced.

    Fix: Add an artifact, for example with `saereg train sae` or `saereg init`. Where the manifest is made by a script,
    look at the pattern with which it searches for checkpoints: it probably matched none.

    Bad: manifest.json
        {
          "release": {"name": "example-saes", "version": "1.0.0"},
          "artifacts": []
        }

    Good: manifest.json
        {
          "release": {"name": "example-saes", "version": "1.0.0"},
          "artifacts": [{"id": "layer_6/topk_64", "path": "layer_6/topk_64", "kind": "sae"}]
        }
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR002(RuleText):
    """A file is missing.

    Every file that index.json names must be in the release, and so must cfg.json and the weight file of every artifact
    of the manifest, indexed or not. Only names are compared, so it is found at the cheapest level. Source checkpoints
    are no part of a release: they may be missing.

    Why: Someone asks for this file by the name that the release itself gives: `from_pretrained` ends in a 404 after
    the other gigabytes were fetched, and a query lists an artifact that cannot be loaded. What is not there cannot be
    checked either, which is why this may not be silenced.

    Fix: Restore the file. If it was removed on purpose, take its artifact out of the manifest and run `saereg build`.

    Bad: example-saes/
        manifest.json                   (names layer_6/topk_64)
        index.json
        layer_6/topk_64/cfg.json

    Good: example-saes/
        manifest.json                   (names layer_6/topk_64)
        index.json
        layer_6/topk_64/cfg.json
        layer_6/topk_64/sae_weights.safetensors
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR003(RuleText):
    """A file is not in the index.

    Every regular file of the folder is compared with the list of files in index.json. Files that belong to git, to
    continuous integration, to the Hub's cache or to the desktop (`.gitattributes`, `.github/`, `.cache/`, `.DS_Store`,
    saereg.toml, …) count as no part of the release. Files that have a rule of their own, such as pickles, are reported
    there alone. In a repository, `saereg verify` makes it a note: people add images and results there.

    Why: Only what the index names has a digest: this file is published unverified, or not at all, and nobody who
    downloads the release can tell whether it was there from the beginning. Often it is a leftover: a notebook, a log,
    the weights of a run that was given up.

    Fix: Run `saereg build` to take it in, or remove it.

    Bad: example-saes/
        index.json                      (does not name sweep_old.csv)
        manifest.json
        sweep_old.csv

    Good: example-saes/
        index.json                      (names results.csv)
        manifest.json
        results.csv
    """

    severity = "warning"
    level = "layout"
    also = ("note",)
    fixable = "safe"


class SR004(RuleText):
    r"""A path is not portable or leaves the release.

    The names of all files, and all paths in manifest.json and index.json. Refused are absolute paths and drive
    letters, `..`, empty or `.` segments, backslashes, control and invisible characters, names of more than 255 bytes,
    spaces and the characters `{}*?"<>|%#&:`, names that end in a dot or that Windows keeps for itself (`aux`,
    `nul.json`), and folders that are no part of a release (`.git`, `.cache`). Two names that differ by case alone, or
    by the way in which Unicode writes an accent, are reported too, also where one is a folder.

    Why: `../other` reads or overwrites files outside the release, `/data/alice/sae` exists on one machine,
    `seed{0..4}` was meant to be expanded by a shell and is now a name that no URL can carry, and `SAE.md` beside
    `sae.md` becomes one file on macOS and Windows, whichever comes last. A reader who follows such a path gets another
    file or none, so this may not be silenced.

    Fix: Rename it to a relative path of letters, digits, `.`, `_`, `-` and `/`. Then run `saereg build`.

    Bad: manifest.json
        {"id": "layer_6/topk_64", "path": "..\\runs\\layer_6\\topk_64"}

    Good: manifest.json
        {"id": "layer_6/topk_64", "path": "layer_6/topk_64"}
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR005(RuleText):
    """A pickle is in the release.

    The names of all files, and their first four bytes. Reported are the suffixes of formats that are or can hold
    pickles (`.pt`, `.pth`, `.pkl`, `.pickle`, `.ckpt`, `.joblib`, `.bin`, `.dill`, `.npy`, `.npz`), and under any
    other name what begins like a pickle of protocol 2 to 5 or like the zip archive that `torch.save` writes. Nothing
    is ever unpickled. A safetensors file may begin with the same bytes, by the length of its header, and is left
    alone.

    Why: To load a pickle is to run the code in it: whoever opens the file gives the author, or anybody who replaced
    the file, their account. The Hub marks such repositories, and careful users do not touch them. It may not be
    silenced: no check of the rest makes it safe to open.

    Fix: Convert it to safetensors with `saereg convert`, or keep it out of the release folder. Source checkpoints
    belong in a folder `checkpoints` beside the release, where they are read without being shipped.

    Bad: example-saes/
        manifest.json
        layer_6/topk_64/cfg.json
        layer_6/topk_64/ae.pt

    Good: example-saes/
        manifest.json
        layer_6/topk_64/cfg.json
        layer_6/topk_64/sae_weights.safetensors
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR006(RuleText):
    """Training state is in the release.

    The names of all files: those that begin with `trainer_state`, `optimizer`, `lr_scheduler`, `activation_scaler` or
    `activations_store_state`, whatever their suffix. Pickles among them are reported as pickles alone.

    Why: Adam keeps two more numbers for each weight, so the download is three times as large and two thirds of it are
    of no use for inference. `activation_scaler` is worse: it holds a scale that the training code multiplied the
    inputs by, and beside unfolded weights a reader who does not know it gets a wrong reconstruction.

    Fix: Export the inference weights only, with `saereg convert` or the `save_inference_model` of SAELens. Keep what
    is needed to go on training in another repository.

    Bad: layer_6/topk_64/
        cfg.json
        sae_weights.safetensors
        optimizer.safetensors
        activation_scaler.json

    Good: layer_6/topk_64/
        cfg.json
        sae_weights.safetensors
    """

    severity = "error"
    level = "layout"


class SR009(RuleText):
    """A file is not the one that was indexed.

    The size of every indexed file is compared with index.json at level layout; the sha256 of files up to 1 MiB at
    level header, and that of larger ones, which are mostly weights, at level weights.

    Why: All evidence in the index speaks of the bytes with the recorded digest: metrics, golden vectors, round trip.
    Of the file that is there now it says nothing. The usual causes are an upload that stopped half way, a Git LFS
    pointer in place of the file, or an edit after the build. Since nothing recorded can be relied on, it may not be
    silenced.

    Fix: Run `saereg build` if the change was meant, and look at what else changed; otherwise restore the file.

    Bad: index.json (README.md has 2201 bytes)
        {"path": "README.md", "size": 2143, "sha256": "5f70bf18a086…"}

    Good: index.json (README.md has 2201 bytes)
        {"path": "README.md", "size": 2201, "sha256": "9b74c9897bac…"}
    """

    severity = "error"
    level = "layout"
    fixable = "safe"
    silenceable = False


class SR010(RuleText):
    """A link leads out of the release.

    Every symbolic link of the folder. A link to a file inside the release is right and counts as that file; so does a
    link into the blob store of the Hub's local cache. Reported are links to anything else: files elsewhere, folders,
    and nothing at all.

    Why: A link is uploaded as what it points to at that moment: a file of your machine that was never meant to be
    public, or an error in the middle of the upload. On any other machine it leads nowhere. What stands behind it is
    not part of the release and cannot be checked, so this may not be silenced.

    Fix: Put the file itself into the release, in place of the link.

    Bad: layer_6/topk_64/
        cfg.json
        sae_weights.safetensors -> /scratch/alice/runs/17/sae_weights.safetensors

    Good: layer_6/topk_64/
        cfg.json
        sae_weights.safetensors
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR011(RuleText):
    """Index.json is missing.

    Whether index.json stands beside manifest.json.

    Why: The manifest is what the author claims, the index what was found: digests, tensors, golden replays, metrics.
    With no index a reader can tell neither whether a download is whole nor whether any number holds, and nothing can
    be queried without opening every artifact. There is then no evidence to check, so this may not be silenced.

    Fix: Run `saereg build`. Commit the index together with the manifest.

    Bad: example-saes/
        manifest.json
        layer_6/topk_64/cfg.json
        layer_6/topk_64/sae_weights.safetensors

    Good: example-saes/
        index.json
        manifest.json
        layer_6/topk_64/cfg.json
        layer_6/topk_64/sae_weights.safetensors
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR012(RuleText):
    """Index.json is out of date.

    `manifest_sha256` of index.json is compared with the sha256 of manifest.json as it is now, byte by byte: a space
    counts. Where that agrees, `provenance` of the index, if it has one, is worked out again from the manifest and the
    digests of the configurations.

    Why: The index records which claims were confirmed. After the manifest was edited, that record is about claims that
    nobody makes any more, and a new claim looks confirmed because an old one was. Nothing recorded can be relied on,
    so this may not be silenced.

    Fix: Run `saereg build` after every change of the manifest.

    Bad: index.json (manifest.json has sha256 d41d8c21…)
        {"manifest_sha256": "0f3a5b9c…"}

    Good: index.json (manifest.json has sha256 d41d8c21…)
        {"manifest_sha256": "d41d8c21…"}
    """

    severity = "error"
    level = "layout"
    fixable = "unsafe"
    silenceable = False


class SR013(RuleText):
    """An entry is not a regular file.

    Every entry of the folder that is no regular file, folder or link: named pipes, sockets and devices; and folders
    that cannot be listed. They are named and never opened. An empty file is a regular one.

    Why: They cannot be uploaded, and a program that opens a pipe waits for a writer that never comes: your own upload,
    or a reader's copy of the folder, hangs without a message. What is in a closed folder cannot be checked at all, so
    this may not be silenced.

    Fix: Remove it, or make the folder readable. Sockets and pipes are left behind by notebooks, debuggers and tracking
    tools: keep their working directories outside the release.

    Bad: example-saes/
        srw-rw-r--  wandb-service.sock
        -rw-rw-r--  manifest.json

    Good: example-saes/
        -rw-rw-r--  manifest.json
    """

    severity = "error"
    level = "layout"
    silenceable = False


class SR017(RuleText):
    """The signature is stale.

    model.sig, where a release has one. The digests that it lists are compared with manifest.json and index.json as they
    are, and with those in the index: every signed file must be there with its signed digest, and every file must be
    signed but cards, `.eval_results/`, what belongs to git, and model.sig itself. It is reported too when model.sig is
    no Sigstore bundle over the sha256 of whole files. No key is needed; whose it is, `saereg verify` says.

    Why: A reader who checks the signature is told that the release was tampered with, and cannot know that it was only
    changed after it was signed. One who does not check believes that the signer stands behind files that nobody signed.

    Fix: Run `saereg sign` again, as the last step before publishing: `saereg build` and `saereg yank` change the index.
    Or remove model.sig.

    Bad: model.sig (manifest.json has sha256 d41d8c21…)
        {"name": "manifest.json", "algorithm": "sha256", "digest": "0f3a5b9c…"}

    Good: model.sig (manifest.json has sha256 d41d8c21…)
        {"name": "manifest.json", "algorithm": "sha256", "digest": "d41d8c21…"}
    """

    severity = "error"
    level = "layout"


RULES: tuple[type[RuleText], ...] = (
    SR001,
    SR002,
    SR003,
    SR004,
    SR005,
    SR006,
    SR009,
    SR010,
    SR011,
    SR012,
    SR013,
    SR017,
)
"""The rules of this file."""
