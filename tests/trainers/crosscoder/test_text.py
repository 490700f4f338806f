"""What rows of a crosscoder are, as text that goes into the release: tokens of activations, entries of a vocabulary."""

from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.texts import TextFile, text_path
from saereg.trainers.crosscoder.sources import open_sources
from saereg.trainers.crosscoder.standing import ending_of
from saereg.trainers.crosscoder.writing import write_evaluation


def test_rows_of_a_parameter_take_the_vocabulary_along(on_steps, tmp_path):
    """Once for all dictionaries of it, by the name of its site; a run that goes on finds it missing."""
    configs = [on_steps("topk")]
    stack = open_sources(configs[0])
    write_evaluation(stack, tmp_path)
    path = text_path(stack.evaluation[1])
    assert path == "evaluation/tiny-trajectory-W_U.text.safetensors"
    file = TextFile(tmp_path / path)
    assert file.is_vocabulary
    assert file.pieces[:4] == [b"[UNK]", b"<eos>", b" word0", b" word1"]
    before = sha256_of(tmp_path / path)
    write_evaluation(stack, tmp_path)
    assert sha256_of(tmp_path / path) == before
    assert path in ending_of(configs, stack, tmp_path).files


def test_held_out_rows_of_several_sources_have_one_text(on_layers, tmp_path):
    """Row by row the same tokens at every source: 200 rows, each once, of the file that they are in."""
    stack = open_sources(on_layers("topk"))
    write_evaluation(stack, tmp_path)
    file = TextFile(tmp_path / text_path(stack.evaluation[1]))
    assert file.data_sha256 == sha256_of(tmp_path / stack.evaluation[1].path)
    (part,) = file.parts()
    assert sorted(row for row in part.rows.tolist() if row >= 0) == list(range(200))
