"""The layouts that saereg reads and writes. Importing this does not import torch."""

from saereg.registry.formats import (
    circuit_tracer,
    circuit_tracer_clt,
    deepseek_r1,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    hook_z,
    llama_scope,
    llama_scope_r1,
    llamascopium,
    mlsae,
    model_diff,
    native,
    olmo_builder,
    openai,
    parameter_trajectory,
    qwen_scope,
    saelens,
    saelens_legacy,
    sof_crosscoder,
    sparsify,
    state_dict,
    temporal_sae,
)
from saereg.registry.readings.format import Format

FORMATS: dict[str, Format] = {
    layout.name: layout
    for layout in (
        saelens.FORMAT,
        saelens_legacy.FORMAT,
        qwen_scope.FORMAT,
        hook_z.FORMAT,
        goodfire.FORMAT,
        deepseek_r1.FORMAT,
        native.FORMAT,
        llamascopium.FORMAT,
        model_diff.FORMAT,
        dictionary_learning.FORMAT,
        mlsae.FORMAT,
        openai.FORMAT,
        olmo_builder.FORMAT,
        temporal_sae.FORMAT,
        parameter_trajectory.FORMAT,
        sof_crosscoder.FORMAT,
        sparsify.FORMAT,
        state_dict.FORMAT,
        circuit_tracer.FORMAT,
        circuit_tracer_clt.FORMAT,
        gemma_scope.FORMAT,
        gemma_scope_2.FORMAT,
        llama_scope.FORMAT,
        llama_scope_r1.FORMAT,
    )
}
"""Name → layout."""
