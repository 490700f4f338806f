#!/bin/sh
# A parameter-trajectory release from nothing: run.sh [OUT]. What is finished already is not done again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-trajectory-out}"
cd "${1:-trajectory-out}"

# One thread: the matrices are small, and on a machine that does other things too a second one mostly waits.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# A model, kept at 32 of Pythia's steps: model/step0, model/step1, model/step2, model/step4 …
python "$here/pretrain.py" --out model

# Two matrices of it at every step, out of the checkpoints: parameters/W_U, parameters/W_E
steps=0,1,2,4,8,16,32,64,128,256,512$(seq -f ,%g 1000 1000 21000 | tr -d '\n')
for parameter in W_U W_E; do
    saereg train snapshots --model model --parameter $parameter --schedule "$steps" --out parameters/$parameter \
        --model-name tiny-neox --model-license mit
done

# 56 dictionaries in seven files; the release is built once, at the end
for config in W_U-cross-snapshot-32 W_U-cross-snapshot-16 W_U-lambda-sweep W_U-architecture-comparison \
    W_U-per-snapshot-saes W_U-final-snapshot-saes W_E-cross-snapshot-32; do
    saereg train sweep "$here/configs/$config.yaml" --release release --name tiny-neox-trajectory --license mit \
        --no-build
done

# What the author has to say, then the evidence: EV and L0 out of the weights, on the rows of the checkpoints
python "$here/annotate.py" release
saereg build release --model tiny-neox=model
saereg validate release --level data --model tiny-neox=model
saereg ls release --columns id,n_sources,d_sae,l1_coefficient,k,seed,ev,l0,l0_per_source_mean,dead_fraction,canonical
