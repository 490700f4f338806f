"""What an MLP reads is collected beside what it gives, row by row."""

import torch
from transformers import AutoModel

from saereg.trainers.collecting.collect import collect
from tests.trainers.collecting.test_collect import rows_of


def test_the_mlp_makes_the_rows_of_its_output_from_those_of_its_input(neox, collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", sites=("mlp_in:1", "mlp:1"), rows=200))
    site = found.sites["mlp_in-1"].site
    assert (site.stream, site.io, site.module, site.layer) == ("mlp", "input", "gpt_neox.layers.1.mlp", 1)
    assert (site.hook_name, site.hidden_states_index) == (None, None)
    assert site.reason == "TransformerLens has no hook for what the MLP reads"
    mlp = AutoModel.from_pretrained(neox).eval().layers[1].mlp
    with torch.no_grad():
        made = mlp(rows_of(tmp_path / "c", "mlp_in-1"))
    torch.testing.assert_close(made, rows_of(tmp_path / "c", "mlp-1"), rtol=1e-5, atol=1e-6)


def test_of_a_model_like_bert_it_is_what_the_first_half_of_the_mlp_reads(bert, collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", model=str(bert), sites=("mlp_in:1", "mlp:1"), rows=200))
    assert found.sites["mlp_in-1"].site.module.endswith("layer.1.intermediate")
    layer = AutoModel.from_pretrained(bert).eval().encoder.layer[1]
    with torch.no_grad():
        made = layer.output.dense(layer.intermediate(rows_of(tmp_path / "c", "mlp_in-1")))
    torch.testing.assert_close(made, rows_of(tmp_path / "c", "mlp-1"), rtol=1e-5, atol=1e-6)
