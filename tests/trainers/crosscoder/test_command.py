"""`saereg train crosscoder`: flags and a file, and the command that comes next works as it is printed."""

import shlex

from saereg.cli import run


def test_flags_alone_train_on_snapshots_and_the_next_command_builds(trajectory, tmp_path, capsys):
    words = (
        f"--parameters {trajectory[1]} --steps 0,1000 --architecture topk --k 4 --d-sae 32 --preprocess center_scale"
    )
    words += f" --tokens 320 --batch-size 32 --lr 1e-2 --device cpu --id W_U/topk --release {tmp_path / 'r'}"
    assert run(["train", "crosscoder", *shlex.split(words), "--license", "mit"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("W_U/topk: 10 steps, explained_variance 0.")
    assert f"next: saereg build {tmp_path / 'r'} --model tiny-trajectory=FOLDER" in printed.err
    assert run(["build", str(tmp_path / "r"), "--model", f"tiny-trajectory={trajectory[0]}"]) == 0
    assert run(["validate", str(tmp_path / "r"), "--level", "weights"]) == 0


def test_a_file_is_read_flags_win_and_mistakes_are_one_line(layers, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(
        f"sources: {{axis: layer, collections: [{layers}], sites: [residual-0, residual-1]}}\n"
        "crosscoder: {architecture: batchtopk, d_sae: 32, k: 3}\n"
        "optimization: {tokens: 10K, batch_size: 32}\nevaluation: {rows: 100}\nartifact: {id: cross/a}\n"
    )
    words = ["train", "crosscoder", str(tmp_path / "run.yaml"), "--release", str(tmp_path / "r"), "--license", "mit"]
    assert run([*words, "--tokens", "160", "--k", "2"]) == 0
    assert "cross/a: 5 steps, " in capsys.readouterr().out
    for flags, line in (
        (["--k", "40"], "run.yaml#/crosscoder: `k` must be at most d_sae"),
        (["--steps", "1,x"], "#/sources"),
        (["--site", "residual-7"], "unknown site in "),
    ):
        assert run([*words, *flags]) == 2
        printed = capsys.readouterr().err
        assert line in printed
        assert printed.count("\n") == 1
