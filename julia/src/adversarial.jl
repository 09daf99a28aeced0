# Adversarial examples by the fast gradient sign method (FGSM), on the Flux side.
#
# A sample x becomes x + ε sign(∂L/∂x), L the model's own loss with the true label: of all perturbations whose coordinates
# are at most ε, the one that raises the linearised loss most. Source: Goodfellow, Shlens, Szegedy, "Explaining and
# harnessing adversarial examples", ICLR 2015, section 4.
#
# The same file on the Python side is `python/twingrad/adversarial.py`.

const ATTACK_BATCH = 100

"""
    Target

A trained classifier and the samples to attack it with. Supertype of one for each kind.

`model` is in evaluation mode, `labels` (n,) are the true classes, which count from 1. `coordinates(target)` are those of a
sample, all in one column, that an attack may change.
"""
abstract type Target end

"""
    ImageTarget(model, images, T, device)

A classifier of images and test images; ε is in units of pixels from 0 to 1, where the attack leaves them.

The gradient by the pixels before normalisation has the signs of that by what the model reads, for standard deviations are
positive.
"""
struct ImageTarget{M,P<:AbstractArray{UInt8,4},D} <: Target
    model::M
    pixels::P
    labels::Vector{Int}
    mean::Array{Float64,4}
    std::Array{Float64,4}
    T::DataType
    device::D
end

function ImageTarget(model, images, T, device)
    pixels, labels = split(images, "test")
    mean, std = by_channel(images.kind.mean), by_channel(images.kind.std)
    return ImageTarget(model, pixels, Int.(labels) .+ 1, mean, std, T, device)
end

kind(::ImageTarget) = "images"
coordinates(::ImageTarget) = Colon()

"Normalised pixels where these are changed by `shift` (coordinates, m); computed in Float64, then rounded."
function inputs(target::ImageTarget, places, shift=nothing)
    x = target.pixels[:, :, :, places] ./ 255.0
    shift === nothing || (x = clamp.(x .+ reshape(shift, size(x)), 0.0, 1.0))
    normalised = target.T.((x .- target.mean) ./ target.std)
    return target.device(as_read(normalised, target.model.config))
end

"Classes."
targets(target::ImageTarget, places) = target.device(target.labels[places])

"The class with the largest score, and its probability by the softmax of the scores."
likeliest(::ImageTarget, output) = likeliest(Array(output))

"""
    PlanarTarget(model, x, c, T, device)

A control network and the test data of its training; ε is in units of the plane, which has no border.

Where the state has more coordinates than the plane, they start at 0 and are left there.
"""
struct PlanarTarget{M,D} <: Target
    model::M
    x::Matrix{Float64}
    labels::Vector{Int}
    T::DataType
    device::D
end

PlanarTarget(model, x, c::Vector{Float64}, T, device) = PlanarTarget(model, x, Int.(c) .+ 1, T, device)

kind(::PlanarTarget) = "planar"
coordinates(::PlanarTarget) = 1:2

"States at the start where those of the plane are changed by `shift` (2, m)."
function inputs(target::PlanarTarget, places, shift=nothing)
    x = target.x[:, places]
    shift === nothing || (x[coordinates(target), :] .+= shift)
    return target.device(target.T.(x))
end

"Classes 0.0 and 1.0."
targets(target::PlanarTarget, places) = target.device(target.T.(target.labels[places] .- 1))

"The second class where the prediction, which is its probability, exceeds 1/2."
function likeliest(::PlanarTarget, output)
    prediction = Float64.(Array(output))
    classes = 1 .+ (prediction .> 0.5)
    return classes, ifelse.(classes .== 2, prediction, 1 .- prediction)
end

"""
    Attack

What a classifier makes of n samples that were attacked with each of k strengths.

- `kind`: "images" or "planar"; `epsilons`: the strengths.
- `labels` (n,): the true classes, which count from 1; `predictions` (n, k): those that the model says.
- `confidences` (n, k): its probabilities for these.
- `signs` (coordinates, samples asked for): the sign of the gradient at the clean sample.
- `vanished`: of how many samples the gradient is exactly zero, so that no ε moves them.
"""
struct Attack
    kind::String
    epsilons::Vector{Float64}
    labels::Vector{Int}
    predictions::Matrix{Int}
    confidences::Matrix{Float64}
    signs::Matrix{Int8}
    vanished::Int
end

"How many samples are classified rightly at each ε (k,)."
correct(found::Attack) = vec(sum(found.predictions .== found.labels; dims=1))

"The part of the samples that are classified rightly at each ε (k,)."
accuracies(found::Attack) = correct(found) ./ length(found.labels)

"""
    attack(file, place, folder, epsilons; count=0, dtype="float64", device="cpu", examples=[], progress)

Attack the classifier in a file on its test data.

- `file`: a checkpoint of a classifier of images, or the training file of a control network.
- `place`: the folder with the images; nothing for the digits that come with TwinGrad, and for a control network.
- `folder`: for the images file.
- `epsilons`: the strengths, each finite and from 0 on; `count`: how many of the first samples, all where that is 0.
- `dtype`: "float64" or "float32"; `device`: "cpu" or "cuda".
- `examples`: the samples, counted from 0, whose gradients' signs are wanted.
- `progress`: called after each batch with the number of samples done and of all.

Returns an [`Attack`](@ref). An InputError where a strength, a sample, the file or the images are not usable.
"""
attack(
    file, place, folder, epsilons;
    count=0, dtype="float64", device="cpu", examples=Int[], progress::Function=_ -> nothing,
) = fgsm(load_target(file, place, folder, dtype, device), epsilons, count, examples, progress)

"Attack the first `count` samples of a target, all where that is 0; see [`attack`](@ref)."
function fgsm(target::Target, epsilons, count=0, examples=Int[], progress::Function=_ -> nothing)
    for epsilon in epsilons
        isfinite(epsilon) && epsilon >= 0 ||
            throw(InputError("epsilon"; expected="finite numbers from 0 on", found=repr(epsilon)))
    end
    count >= 0 || throw(InputError("count"; expected="a number from 0 on", found=repr(count)))
    n = count > 0 ? min(count, length(target.labels)) : length(target.labels)
    outside = findfirst(place -> !(0 <= place < n), examples)
    outside === nothing || throw(
        InputError(
            "examples";
            expected="numbers of samples from 0 to $(n - 1)",
            found=repr(examples[outside]),
        ),
    )
    predictions, confidences = zeros(Int, n, length(epsilons)), zeros(n, length(epsilons))
    signs, vanished, path = Dict{Int,Vector{Int8}}(), 0, attack_path(target)
    for places in Iterators.partition(1:n, ATTACK_BATCH)
        batch = gradient_signs(target, places, path)
        vanished += sum(all(iszero, column) for column in eachcol(batch))
        for place in examples
            place + 1 in places && (signs[place] = batch[:, place+2-first(places)])
        end
        for (k, epsilon) in enumerate(epsilons)
            output = target.model(inputs(target, places, epsilon .* batch))
            predictions[places, k], confidences[places, k] = likeliest(target, output)
        end
        progress(Dict("samples" => last(places), "of" => n))
    end
    wanted = isempty(examples) ? zeros(Int8, 0, 0) : stack(signs[place] for place in examples)
    return Attack(kind(target), epsilons, target.labels[1:n], predictions, confidences, wanted, vanished)
end

"The path for the gradients of an attack: one workspace serves all batches."
attack_path(target::Target) = path_for("fast", inputs(target, 1:1))

"The sign of the loss' derivative by each coordinate that may change: (coordinates, m) of -1, 0, 1."
function gradient_signs(target::Target, places, path=attack_path(target))
    here = gradient(path, target.model, inputs(target, places), targets(target, places))
    rows = reshape(Int8.(sign.(Array(here.grads_input))), :, length(places))
    return rows[coordinates(target), :]
end

"The classifier in a file and its test data; an InputError where either is none. See [`attack`](@ref)."
function load_target(file, place, folder, dtype, device)
    T, on_device = choose_dtype(dtype), choose_device(device)
    is_training(file) && return control_target(file, place, T, on_device)
    checkpoint = read_checkpoint(file)
    model = load_classifier(checkpoint, file, dtype, device)
    return ImageTarget(model, images_for(checkpoint, file, place, folder), T, on_device)
end

"Whether a file is one of a control network's training; where it cannot be read, reading it as a checkpoint tells why."
function is_training(file)
    try
        return h5open(h5 -> HDF5.read_attribute(h5, "format") == TRAINING_FORMAT, file, "r")
    catch error
        error isa InterruptException && rethrow()
        return false
    end
end

function control_target(file, place, T, on_device)
    if place !== nothing
        expected = "no images: $file holds a control network, which is attacked on its own test data"
        throw(InputError("data"; expected, found=place))
    end
    training = read_training(file)
    settings = control_settings(training.settings)
    config = ControlNetConfig(settings["network"], settings["method"], "mean")
    prefix = "params/"
    params = Dict{String,Array}(
        chopprefix(path, prefix) => array for (path, array) in training.arrays if startswith(path, prefix)
    )
    sizes = Dict("N" => settings["layers"], "d" => settings["d"])
    check_arrays(MODELS["control_net"].params(config), params, "$file, /params", sizes)
    model = on_device(build("control_net", config, params, T))
    names = ("samples_test", "seed", "d")
    x, c = planar(settings["dataset"], "test", (settings[name] for name in names)...)
    return PlanarTarget(model, x, c, T, on_device)
end
