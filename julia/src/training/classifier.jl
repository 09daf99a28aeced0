# Training classifiers of images, on the Flux side.
# The same file on the Python side is `python/twingrad/training/classifier.py`.

const EVALUATION_BATCH = 250

"""
    initial_params(model, config, seed)

Weights at the start, as a file has them: normal with variance 2/n where relu follows (He et al., ICCV 2015), else 1/n.

n is how many numbers a unit of a linear map reads, and for a convolution how many units read one number of its input,
as torchvision has it. Biases and running means are 0, batch norms' weights and running variances 1.
"""
function initial_params(model, config, seed)
    linear_gain = config isa MLPConfig && config.activation == "relu" ? 2.0 : 1.0
    params = Dict{String,Array}()
    for (name, spec) in MODELS[model].params(config)
        shape = spec.dims
        if length(shape) == 1
            is_one = endswith(name, "weight") || endswith(name, "running_var")
            params[name] = fill(is_one ? 1.0 : 0.0, shape)
        else
            variance = length(shape) == 4 ? 2.0 / (shape[1] * shape[3] * shape[4]) : linear_gain / shape[2]
            drawn = normal(Stream(seed, "init/$name"), prod(shape))
            params[name] = reshape(sqrt(variance) .* drawn, reverse(shape))
        end
    end
    return params
end

"""
    train_classifier(model, settings, place, out; versions, progress, until, device, path)

Train until `settings["iterations"]` steps are taken in all, going on from OUT/flux/last.h5 where it is there.

- `model`: "mlp" or "resnet".
- `settings`: everything that determines the numbers, as [`classifier_settings`](@ref) gives them.
- `place`: the folder with the images; nothing for the digits that come with TwinGrad.
- `out`: the folder for flux/last.h5 and the images file.
- `versions`: what computes, for the files.
- `progress`: called now and then with a dictionary of iteration, loss, the last evaluation and images per second.
- `until`: stop after this many steps; the learning rate still falls as for all of them. `device`: "cpu" or "cuda".
- `path`: "fast" (kernels; on the CPU alone), or "reference" (automatic differentiation of the plain layers).

Returns the last checkpoint. An InputError says what does not fit; a SideError that the loss is no longer finite, in which
case the earlier checkpoints stay as they are.
"""
function train_classifier(
    model, settings, place, out; versions, progress::Function=_ -> nothing, until=nothing, device="cpu",
    path="fast",
)
    task = ImageTask(model, settings, open_images(place, out))
    return train_until!(Run(task, out, versions, device, path), until, progress)
end

"A classifier, and images to train it on."
struct ImageTask{C} <: TrainingTask
    model::String
    config::C
    settings::Dict{String,Any}
    data::Dict{String,Any}
    images::Images
    order::TrainingOrder
end

function ImageTask(model, settings, images)
    kind = images.kind
    config = CLASSIFIER_CONFIGS[model](settings, kind.shape, length(kind.classes))
    described = Dict{String,Any}(
        "name" => kind.name,
        "digest" => images.digest,
        "shape" => collect(reverse(kind.shape)),
        "mean" => kind.mean,
        "std" => kind.std,
        "classes" => kind.classes,
    )
    data = Dict{String,Any}("images" => described)
    return ImageTask(model, config, settings, data, images, TrainingOrder(images.train, settings["seed"]))
end

source(::ImageTask) = "images"
best(::ImageTask) = nothing
unit(::ImageTask) = "images"
units_per_step(task::ImageTask) = joint_batch(task.settings)
initial_params(task::ImageTask) = initial_params(task.model, task.config, task.settings["seed"])

"Pixels as the model reads them, and labels (count,)."
function training_batch(task::ImageTask, first, count)
    (; settings, images, order) = task
    pad, flip = settings["pad"], settings["flip"]
    pixels, labels = training_batch(images, order, first, count, choose_dtype(settings["dtype"]); pad, flip)
    return as_read(pixels, task.config), labels
end

"Loss and accuracy on the first images of both parts, by the running statistics."
function evaluate(task::ImageTask, model, device)
    m, T = in_mode(model, false), choose_dtype(task.settings["dtype"])
    numbers = Pair{String,Float64}[]
    for part in ("train", "test")
        found = classify(m, task.images, part, task.settings["evaluation_images"], T, device)
        push!(numbers, "loss_$part" => found.loss, "accuracy_$part" => accuracy(found))
    end
    return numbers
end

"""
    Classified

What a classifier makes of n images: mean loss, labels and predicted classes (n,) that count from 1, and the
predictions' probabilities (n,).
"""
struct Classified
    loss::Float64
    labels::Vector{Int}
    predictions::Vector{Int}
    confidences::Vector{Float64}
end

"The part of the predictions that are right."
accuracy(found::Classified) = count(found.predictions .== found.labels) / length(found.labels)

"""
    classify(model, images, part, count=0, T=Float32, device=identity)

Classify the first `count` images of a part, all where that is 0.

- `model`: a classifier, in evaluation mode; `device` moves arrays to where it is.
- `images`: what to classify; `part`: "train" or "test".
- `T`: the type of the pixels, Float32 or Float64.
"""
function classify(model, images, part, count=0, T=Float32, device=identity)
    n = length(last(split(images, part)))
    n, total = count > 0 ? min(count, n) : n, 0.0
    labels, predictions, confidences = Int[], Int[], Float64[]
    for first in 0:EVALUATION_BATCH:(n-1)
        pixels, c = evaluation_batch(images, part, first, min(EVALUATION_BATCH, n - first), T)
        x, c_there = device((as_read(pixels, model.config), c))
        scores = model(x)
        total += length(c) * Float64(loss(model, scores, c_there))
        classes, chances = likeliest(Array(scores))
        append!(labels, c)
        append!(predictions, classes)
        append!(confidences, chances)
    end
    return Classified(total / n, labels, predictions, confidences)
end

"The class with the largest score, and its probability by the softmax of the scores, of each sample."
function likeliest(scores)
    found = vec(findmax.(eachcol(softmax(Float64.(scores); dims=1))))
    return last.(found), first.(found)
end

"Pixels (W, H, C, n) in the shape that a model of these settings reads: for an MLP (W · H · C, n)."
as_read(pixels, ::ResNetConfig) = pixels
as_read(pixels, ::MLPConfig) = reshape(pixels, :, size(pixels, 4))

"Classify all test images in a folder with the model of the checkpoint in `file`; `folder` is for the images file."
function evaluate_classifier(file, place, folder, dtype="float32", device="cpu")
    saved = read_checkpoint(file)
    model = load_classifier(saved, file, dtype, device)
    images = images_for(saved, file, place, folder)
    return classify(model, images, "test", 0, choose_dtype(dtype), choose_device(device))
end

"The model of a checkpoint, in evaluation mode; an InputError where it is no classifier of images."
function load_classifier(saved, file, dtype, device)
    haskey(CLASSIFIER_SETTINGS, saved.model) && haskey(saved.data, "images") || throw(
        InputError(
            "$file, attribute model";
            expected="a classifier of images, \"mlp\" or \"resnet\"",
            found=repr(saved.model),
        ),
    )
    model = build(saved.model, saved.config, group(saved, "params"), choose_dtype(dtype))
    return in_mode(choose_device(device)(model), false)
end

"""
    images_for(saved, file, place, folder)

The images in `place`, the digits that come with TwinGrad where it is nothing; an InputError where the checkpoint's
model reads others.
"""
function images_for(saved, file, place, folder)
    images, read = open_images(place, folder), saved.data["images"]
    listed(values) = values === nothing ? "nothing" : "[" * join(values, ", ") * "]"
    for (name, found) in ("shape" => collect(reverse(images.kind.shape)), "classes" => images.kind.classes)
        wanted = get(read, name, nothing)
        wanted == found || throw(
            InputError(
                something(place, images.kind.name);
                expected="images of $name $(listed(wanted)), as $file was trained on",
                found="$name $(listed(found))",
            ),
        )
    end
    return images
end
