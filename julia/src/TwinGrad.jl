"""
    TwinGrad

The Flux.jl half of TwinGrad: the same networks as the Python package `twingrad`, loading the same weights and data.
`TwinGrad.main(["--help"])` lists what the command can do; the files mirror those under `python/twingrad/`.
"""
module TwinGrad

using ChainRulesCore: ChainRulesCore, NoTangent, unthunk
using JSON: JSON

include("errors.jl")
include("lock.jl")
include("files.jl")
include("specs/arrays.jl")
include("specs/control_net.jl")
include("specs/gpt.jl")
include("specs/mlp.jl")
include("specs/resnet.jl")
include("specs/table.jl")
include("axes.jl")
include("paths.jl")

include("data/philox.jl")
include("data/planar.jl")
include("data/text.jl")
include("data/batches.jl")
include("data/images.jl")
include("data/image_batches.jl")

include("operations/advance.jl")
include("operations/attention.jl")
include("operations/batch_norm.jl")
include("operations/cross_entropy.jl")
include("operations/gelu.jl")
include("operations/layer_norm.jl")
include("operations/move.jl")
include("operations/rectify.jl")
include("operations/velocity.jl")
include("operations/widen.jl")

include("control/runge_kutta.jl")
include("models/control_net.jl")
include("models/gpt.jl")
include("models/mlp.jl")
include("models/resnet.jl")
include("evaluation.jl")
include("schedule.jl")
include("kernels/workspace.jl")
include("optimizers.jl")
include("kernels/powers_of_two.jl")
include("kernels/exponential.jl")
include("kernels/layer_norm.jl")
include("kernels/attention.jl")
include("kernels/gelu.jl")
include("kernels/cross_entropy.jl")
include("kernels/gpt.jl")
include("kernels/mlp.jl")
include("kernels/optimizers.jl")
include("kernels/tanh.jl")
include("kernels/control_net.jl")
include("control/costate.jl")
include("control/simplex.jl")
include("control/descent.jl")
include("kernels/images.jl")
include("kernels/convolution.jl")
include("kernels/batch_norm.jl")
include("kernels/pooling.jl")
include("kernels/resnet.jl")
include("engine.jl")

include("format/hdf5.jl")
include("format/case.jl")
include("format/result.jl")
include("format/training.jl")
include("format/checkpoint.jl")

include("sides/table.jl")
include("comparator/compare.jl")
include("training/settings.jl")
include("training/control.jl")
include("training/run.jl")
include("training/gpt.jl")
include("training/classifier.jl")
include("generation.jl")
include("adversarial.jl")
include("experiments/convergence.jl")
include("experiments/residual_stream.jl")
include("bench/calls.jl")
include("bench/layers.jl")
include("bench/peers.jl")
include("bench/measure.jl")
include("harness.jl")
include("reading.jl")
include("worker.jl")
include("cli.jl")
include("precompile.jl")

export ControlNet, ControlNetConfig, Fast, GPT, GPTConfig, InputError, Reference
export automatic_gradient, evaluate, loss, read_case, states

end
