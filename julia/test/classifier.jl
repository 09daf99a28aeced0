using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    EVALUATION_BATCH, ResNetConfig, Stream, TrainingOrder, accuracy, answer, augment, build,
    classifier_settings, classify, evaluate_classifier, evaluation_batch, group, images_for, in_mode,
    initial_params, load_classifier, main, mlp_config, normal, open_images, preset, read_checkpoint,
    resnet_config, resnet_params, train_classifier, training_places, write_checkpoint

draw = Xoshiro(1)
NOTHING = Dict{String,Any}()
# Of seed 1, what the Python side draws too: the first two numbers of conv1.weight, the last two of fc.weight.
PINNED_RESNET20 = [0.08050201657040422, 0.18145542738899903, 0.020601327928392855, -0.3001623061713155]

header(sizes...) = reinterpret(UInt8, hton.(UInt32[0x800+length(sizes), sizes...]))

"Files of MNIST's form with so many random images in each part."
function write_images(folder; train=20, test=6, from=Xoshiro(2))
    for (n, name) in ((train, "train"), (test, "t10k"))
        pixels, labels = rand(from, UInt8, 28^2 * n), rand(from, 0x00:0x09, n)
        write(joinpath(folder, "$name-images-idx3-ubyte"), [header(n, 28, 28); pixels])
        write(joinpath(folder, "$name-labels-idx1-ubyte"), [header(n); labels])
    end
    return folder
end

"A folder with images in `images`."
function with_images(action; options...)
    mktempdir() do folder
        action(folder, write_images(mkdir(joinpath(folder, "images")); options...))
    end
end

TINY = Dict(
    "mlp" => ("hidden" => [5], "batch" => 4, "pad" => 1, "flip" => true),
    "resnet" => ("width" => 1, "batch" => 3, "warmup" => 2),
)
image_settings(model; changes...) = classifier_settings(
    model,
    merge(
        preset(model, "cpu"),
        Dict{String,Any}(TINY[model]),
        Dict{String,Any}(
            "iterations" => 7,
            "evaluate_every" => 3,
            "evaluation_images" => 5,
            "dtype" => "float64",
        ),
        Dict{String,Any}(String(name) => value for (name, value) in changes),
    ),
)
train_small(model, settings, place, out; options...) =
    train_classifier(model, settings, place, out; versions=NOTHING, options...)
last_file(out) = joinpath(out, "flux", "last.h5")
same_arrays(a, b) =
    all(path -> path == "history/seconds" || a.arrays[path] == b.arrays[path], keys(a.arrays)) &&
    keys(a.arrays) == keys(b.arrays)

@testset "initial weights" begin
    mlp(activation) = mlp_config(
        Dict("sizes" => [784, 30, 10], "activation" => activation, "loss" => "mse"), "mlp",
    )
    drawn(name, count) = normal(Stream(3, "init/$name"), count)
    for (activation, variance) in ("sigmoid" => 1 / 784, "relu" => 2 / 784)
        params = initial_params("mlp", mlp(activation), 3)
        @test size(params["layers.0.weight"]) == (784, 30)
        @test params["layers.0.weight"][1:5] == sqrt(variance) .* drawn("layers.0.weight", 5)
        @test all(iszero, params["layers.1.bias"])
    end
    config = resnet_config(Dict("variant" => "resnet20", "in_channels" => 1), "resnet")
    params = initial_params("resnet", config, 3)
    @test sort!(collect(keys(params))) == sort!(first.(resnet_params(config)))
    @test size(params["layer2.0.conv1.weight"]) == (3, 3, 16, 32)
    name = "layer2.0.conv1.weight"
    @test params[name][1:5] == sqrt(2 / (32 * 9)) .* drawn(name, 5)
    @test params["fc.weight"][1:5] == sqrt(1 / 64) .* drawn("fc.weight", 5)
    for (name, value) in ("weight" => 1, "bias" => 0, "running_mean" => 0, "running_var" => 1)
        @test params["layer3.1.bn2.$name"] == fill(value, 64)
    end
    params = initial_params("resnet", config, 1)
    @test [params["conv1.weight"][1:2]; params["fc.weight"][(end-1):end]] == PINNED_RESNET20
end

AUGMENTATIONS = ((0, false), (2, true))
@testset "losses are those of FORMAT.md's images: pad $pad, flip $flip" for (pad, flip) in AUGMENTATIONS
    with_images() do folder, place
        changes = (; learning_rate=1e-30, pad, flip, accumulation=2, batch=3, seed=5, hidden=Int[])
        done = train_small("mlp", image_settings("mlp"; changes...), place, joinpath(folder, "out"))
        data = open_images(place, folder)
        W = initial_params("mlp", done.config, 5)["layers.0.weight"]
        function slow_mean(images, labels)
            scores = W' * ((reshape(images, 784, :) ./ 255 .- 0.1307) ./ 0.3081)
            chosen = [scores[label+1, i] for (i, label) in enumerate(labels)]
            return sum(log.(vec(sum(exp, scores; dims=1))) .- chosen) / length(labels)
        end
        part(places) = slow_mean(data.images[:, :, :, places], data.labels[places])
        places = 1 .+ training_places(TrainingOrder(20, 5), 0, 7 * 6)
        seen = augment(data.images[:, :, :, places], 5, 0, pad, flip)
        steps = [(6i+1):(6i+6) for i in 0:6]
        history = group(done, "history")
        @test history["loss"] ≈ [slow_mean(seen[:, :, :, i], data.labels[places[i]]) for i in steps] rtol =
            1e-12
        @test history["evaluated"] == [0, 3, 6, 7]
        @test history["loss_train"] ≈ fill(part(1:5), 4) rtol = 1e-12
        @test history["loss_test"] ≈ fill(part(21:25), 4) rtol = 1e-12
    end
end

@testset "one batch of four is two of two" begin
    with_images() do folder, place
        one = train_small("mlp", image_settings("mlp"; batch=4), place, joinpath(folder, "one"))
        two =
            train_small("mlp", image_settings("mlp"; batch=2, accumulation=2), place, joinpath(folder, "two"))
        @test group(one, "history")["loss"] ≈ group(two, "history")["loss"] rtol = 1e-12
        @test one.arrays["params/layers.0.weight"] ≈ two.arrays["params/layers.0.weight"] rtol = 1e-12
    end
end

OPTIMIZERS = (
    ("mlp", "gradient-descent", "float64", ()),
    ("mlp", "sgd", "float32", ("first_moment",)),
    ("mlp", "adam", "float32", ("first_moment", "second_moment")),
    ("mlp", "adamw", "float64", ("first_moment", "second_moment")),
    ("resnet", "sgd", "float64", ("first_moment",)),
    ("resnet", "adamw", "float64", ("first_moment", "second_moment")),
)

@testset "resumed equals uninterrupted: $model, $optimizer, $dtype" for (model, optimizer, dtype, kept) in
                                                                        OPTIMIZERS
    with_images() do folder, place
        settings = image_settings(model; optimizer, dtype, accumulation=2, weight_decay=0.1, clip=0.5)
        whole, out = train_small(model, settings, place, joinpath(folder, "whole")), joinpath(folder, "parts")
        for until in (0, 2, 3, 7)
            @test train_small(model, settings, place, out; until).iteration == until
        end
        parts = read_checkpoint(last_file(out))
        @test same_arrays(whole, parts) && parts.status == "complete"
        stamp = mtime(last_file(out))
        @test same_arrays(train_small(model, settings, place, out), whole)
        @test mtime(last_file(out)) == stamp
        @test readdir(joinpath(out, "flux")) == ["last.h5"]
        trained = filter(name -> !occursin("running", name), collect(keys(group(whole, "params"))))
        for name in ("first_moment", "second_moment")
            @test sort!(collect(keys(group(whole, name)))) == (name in kept ? sort(trained) : [])
        end
    end
end

@testset "a model in another mode is the same arrays: $variant" for variant in
                                                                    ("resnet20", "resnet18", "resnet50")
    config = ResNetConfig(; variant, in_channels=1, width=1)
    m = build("resnet", config, initial_params("resnet", config, 1), Float32)
    still = @inferred in_mode(m, false)
    @test typeof(still) == typeof(m)
    norms(m) = [m.bn1; [getfield(block, name) for block in m.layer2 for name in (:bn1, :bn2)]]
    @test all(norm -> norm.training, norms(m)) && !any(norm -> norm.training, norms(still))
    variant == "resnet20" || @test !still.layer2[1].downsample[2].training
    variant == "resnet50" && @test !still.layer2[1].bn3.training
    @test all(((a, b),) -> a.running_var === b.running_var, zip(norms(m), norms(still)))
    @test still.layer3[1].conv2.weight === m.layer3[1].conv2.weight && still.fc === m.fc
    @test in_mode(still, true).bn1.training
    images = randn(draw, Float32, 8, 8, 1, 2)
    before = copy(m.bn1.running_mean)
    still(images)
    @test m.bn1.running_mean == before
    m(images)
    @test m.bn1.running_mean != before
end

@testset "running statistics are saved, and evaluations use them" begin
    with_images(; train=9, test=4) do folder, place
        every, seldom = (
            train_small(
                "resnet",
                image_settings("resnet"; evaluate_every),
                place,
                joinpath(folder, "$evaluate_every"),
            ) for
            evaluate_every in (1, 7)
        )
        @test group(every, "params") == group(seldom, "params")
        params = group(every, "params")
        @test !all(iszero, params["bn1.running_mean"]) && !all(isone, params["layer3.2.bn2.running_var"])
        images = open_images(place, folder)
        function loss_and_accuracy(mode)
            config = ResNetConfig(; variant="resnet20", in_channels=1, width=1, mode)
            m = build("resnet", config, params, Float64)
            x, labels = evaluation_batch(images, "test", 0, 4, Float64)
            scores = m(x)
            return TwinGrad.loss(m, scores, labels), count(argmax.(eachcol(scores)) .== labels) / 4
        end
        history = group(every, "history")
        @test history["loss_test"][end] ≈ first(loss_and_accuracy("eval")) rtol = 1e-12
        @test history["accuracy_test"][end] == last(loss_and_accuracy("eval"))
        @test !isapprox(history["loss_test"][end], first(loss_and_accuracy("train")); rtol=1e-3)
        found = evaluate_classifier(last_file(joinpath(folder, "1")), place, folder, "float64")
        @test found.loss ≈ history["loss_test"][end] rtol = 1e-12
    end
end

@testset "classification of more images than a batch" begin
    n = EVALUATION_BATCH + 3
    with_images(; train=2, test=n) do folder, place
        config = mlp_config(
            Dict("sizes" => [784, 10], "activation" => "relu", "loss" => "cross-entropy"), "mlp",
        )
        W, b = randn(draw, 10, 784) ./ 28, randn(draw, 10)
        m = build("mlp", config, Dict("layers.0.weight" => permutedims(W), "layers.0.bias" => b), Float64)
        images = open_images(place, folder)
        p = exp.(W * ((reshape(images.images, 784, :) ./ 255 .- 0.1307) ./ 0.3081) .+ b)
        p ./= sum(p; dims=1)
        labels = Int.(images.labels) .+ 1
        for count in (0, 7, n - 1, n + 9)
            found, used =
                classify(m, images, "test", count, Float64), 2 .+ (1:(count == 0 ? n : min(count, n)))
            @test found.loss ≈ -sum(log(p[labels[i], i]) for i in used) / length(used)
            @test found.labels == labels[used] && found.predictions == [argmax(p[:, i]) for i in used]
            @test found.confidences ≈ [maximum(p[:, i]) for i in used]
            @test accuracy(found) == sum(found.predictions .== found.labels) / length(used)
        end
        @test classify(m, images, "train", 0, Float64).labels == labels[1:2]
        @test classify(m, images, "test", 9, Float32).confidences ≈ [maximum(p[:, i]) for i in 3:11] rtol =
            1e-5
    end
end

@testset "trainings that do not fit are refused, and earlier checkpoints stay" begin
    with_images() do folder, place
        out, settings = joinpath(folder, "out"), image_settings("mlp")
        train_small("mlp", settings, place, out; until=4)
        file = last_file(out)
        before = read(file)
        again(model, settings, place=place) = train_small(model, settings, place, out)
        @test_throws "attribute model: expected 'resnet', found 'mlp'. Choose another --out" again(
            "resnet", image_settings("resnet"),
        )
        @test_throws "setting seed: expected 2, found 1. Choose another" again(
            "mlp",
            image_settings("mlp"; seed=2),
        )
        @test_throws "setting hidden: expected [6], found" again("mlp", image_settings("mlp"; hidden=[6]))
        @test_throws "setting iterations: expected 8, found 7" again(
            "mlp",
            image_settings("mlp"; iterations=8),
        )
        others = write_images(mkdir(joinpath(folder, "others")); from=Xoshiro(3))
        @test_throws "attribute data: expected the images of SHA-256" again("mlp", settings, others)
        @test_throws "no such folder" again("mlp", settings, joinpath(folder, "nowhere"))
        @test read(file) == before

        wild = image_settings(
            "mlp";
            learning_rate=1e300,
            optimizer="gradient-descent",
            loss="mse",
            activation="relu",
        )
        @test_throws r"training step \d+: the loss is .* earlier steps are whole" train_small(
            "mlp", wild, place, joinpath(folder, "wild"),
        )
        @test read_checkpoint(last_file(joinpath(folder, "wild"))).iteration == 0
    end
end

@testset "checkpoints without what a training needs" begin
    with_images() do folder, place
        none = "expected the moments and the history of a training that goes on, found the model alone"
        for (optimizer, refused) in ("adam" => none, "sgd" => none, "gradient-descent" => "")
            out, settings = joinpath(folder, optimizer), image_settings("mlp"; optimizer)
            saved = train_small("mlp", settings, place, out; until=4)
            write_checkpoint(last_file(out), TwinGrad.without_moments(saved))
            if isempty(refused)
                @test train_small("mlp", settings, place, out).status == "complete"
            else
                @test_throws refused train_small("mlp", settings, place, out)
            end
            filter!(pair -> !startswith(first(pair), "history/"), saved.arrays)
            write_checkpoint(last_file(out), saved)
            @test_throws none train_small("mlp", settings, place, out)
        end
        out, settings = joinpath(folder, "part"), image_settings("mlp"; optimizer="adamw")
        saved = train_small("mlp", settings, place, out; until=4)
        filter!(pair -> !startswith(first(pair), "second_moment/"), saved.arrays)
        write_checkpoint(last_file(out), saved)
        @test_throws "/second_moment: expected the model's arrays, found nothing" read_checkpoint(
            last_file(out),
        )
        saved.settings["optimizer"] = "sgd"
        write_checkpoint(last_file(out), saved)
        @test read_checkpoint(last_file(out)).arrays == saved.arrays
        saved.arrays["history/loss_validation"] = pop!(saved.arrays, "history/loss_test")
        write_checkpoint(last_file(out), saved)
        @test_throws "/history: expected accuracy_test, accuracy_train, evaluated" read_checkpoint(
            last_file(out),
        )
    end
end

@testset "statistics of a checkpoint" begin
    with_images() do folder, place
        settings, out = image_settings("resnet"; optimizer="adamw"), joinpath(folder, "out")
        saved = train_small("resnet", settings, place, out; until=0)
        saved.arrays["params/bn1.running_var"][1] = -1
        write_checkpoint(last_file(out), saved)
        @test_throws "bn1.running_var: expected numbers >= 0, found -1.0" read_checkpoint(last_file(out))
        delete!(saved.arrays, "params/bn1.running_var")
        write_checkpoint(last_file(out), saved)
        @test_throws "bn1.running_var: expected float64 array (1,), found no such entry" read_checkpoint(
            last_file(out),
        )
    end
end

@testset "models and images that do not belong together" begin
    with_images() do folder, place
        saved = train_small("mlp", image_settings("mlp"), place, joinpath(folder, "out"); until=0)
        file = last_file(joinpath(folder, "out"))
        clothes = write_images(mkdir(joinpath(folder, "fashion")))
        @test_throws "fashion: expected images of classes [0, 1" images_for(saved, file, clothes, folder)
        colours = mkdir(joinpath(folder, "colours"))
        for name in [["data_batch_$i.bin" for i in 1:5]; "test_batch.bin"]
            write(joinpath(colours, name), zeros(UInt8, 3073))
        end
        @test_throws "colours: expected images of shape [1, 28, 28], as $file was trained on, found shape [3, 32, 32]" (
            images_for(saved, file, colours, folder)
        )
        @test images_for(saved, file, nothing, folder).kind.name == "digits"
        delete!(saved.data, "images")
        wanted = "attribute model: expected a classifier of images, \"mlp\" or \"resnet\", found \"mlp\""
        @test_throws wanted load_classifier(saved, file, "float32", "cpu")
    end
end

BAD_SETTINGS = (
    (
        "mlp",
        "optimizer: expected one of gradient-descent, sgd, adam, adamw, found \"rmsprop\"",
        "optimizer" => "rmsprop",
    ),
    ("mlp", "pad: expected an integer, 0 to 1000, found 1001", "pad" => 1001),
    ("mlp", "momentum: expected a number, at least 0 and below 1, found 1", "momentum" => 1),
    ("mlp", "flip: expected true or false, found 1", "flip" => 1),
    ("mlp", "hidden: expected integers, each at least 1, found [3, 0]", "hidden" => [3, 0]),
    ("mlp", "hidden: expected integers, each at least 1, found 3", "hidden" => 3),
    ("mlp", "activation: expected one of sigmoid, relu", "activation" => "tanh"),
    ("mlp", "loss: expected one of mse, cross-entropy", "loss" => "hinge"),
    ("mlp", "batch: expected an integer, at least 1, found 0", "batch" => 0),
    ("mlp", "learning_rate: expected a number above 0, found 0", "learning_rate" => 0),
    ("mlp", "train mlp, variant: expected only batch", "variant" => "resnet20"),
    ("mlp", "Flux has no bfloat16 on the CPU", "dtype" => "bfloat16"),
    ("resnet", "train resnet, hidden: expected only batch", "hidden" => [3]),
    ("resnet", "variant: expected one of resnet20", "variant" => "resnet21"),
    ("resnet", "width: expected an integer, at least 0, found -1", "width" => -1),
    ("resnet", "residual: expected true or false, found 0", "residual" => 0),
)

@testset "settings" begin
    for (model, words, change) in BAD_SETTINGS
        @test_throws words classifier_settings(model, merge(preset(model, "cpu"), Dict{String,Any}(change)))
    end
    @test_throws "model: expected one of mlp, resnet, found \"gpt\"" classifier_settings("gpt", NOTHING)
    @test_throws "variant: expected this entry" classifier_settings(
        "resnet", filter(pair -> first(pair) != "variant", preset("resnet", "cpu")),
    )
    @test_throws "preset: expected one of cpu" preset("mlp", "gpu")
    settings = classifier_settings("resnet", preset("resnet", "cpu"))
    @test (settings["accumulation"], settings["seed"], settings["dtype"]) == (1, 1, "float32")
end

"What the worker replies to a request: the result, or the error's expected and found."
function reply(verb, arguments)
    kind, fields = answer(Dict("verb" => verb, "arguments" => arguments), identity)
    return kind == "result" ? fields : (fields["expected"], fields["found"])
end

@testset "requests" begin
    mktempdir() do folder
        settings = image_settings("mlp"; iterations=2, evaluation_images=0)
        request = Dict("model" => "mlp", "settings" => settings, "data" => nothing, "out" => folder)
        @test reply("train-classifier", merge(request, Dict("until" => 1, "device" => "cpu"))) ==
              Dict("iteration" => 1, "status" => "running")
        @test reply("train-classifier", merge(request, Dict("until" => nothing, "compiled" => false))) ==
              Dict("iteration" => 2, "status" => "complete")
        @test reply("train-classifier", merge(request, Dict("compiled" => true))) ==
              ("side torch", "side flux, which Julia compiles anyway")
        place = Dict("checkpoint" => last_file(folder), "data" => nothing, "folder" => folder)
        found = reply("classify", merge(place, Dict("dtype" => "float64", "device" => "cpu")))
        images, history = open_images(nothing, folder), group(read_checkpoint(last_file(folder)), "history")
        @test found["labels"] == last(split(images, "test")) && extrema(found["labels"]) == (0, 9)
        @test extrema(found["predictions"]) ⊆ 0:9 && all(p -> 0.1 <= p <= 1, found["confidences"])
        @test found["accuracy"] == sum(found["predictions"] .== found["labels"]) / length(found["labels"])
        @test (found["loss"], found["accuracy"]) ==
              (history["loss_test"][end], history["accuracy_test"][end])
    end
end

"(exit status, stdout, stderr) of the command."
function run_command(arguments...)
    mktempdir() do folder
        out, err = joinpath(folder, "out"), joinpath(folder, "err")
        status = redirect_stdio(() -> main(collect(String, arguments)); stdout=out, stderr=err)
        return status, read(out, String), read(err, String)
    end
end

@testset "commands" begin
    with_images() do folder, place
        out = joinpath(folder, "out")
        short = ("--iterations", "3", "--dtype", "float64", "--evaluation-images", "4")
        options = ("--out", out, "--data", place, short..., "--hidden", "5-4", "--flip", "true", "--until")
        status, told, _ = run_command("train", "mlp", options..., "2")
        @test status == 0 && occursin("last.h5: running after 2 iterations, ", told) &&
              occursin("images/s", told)
        status, told, _ = run_command("train", "mlp", options..., "3")
        @test status == 0
        @test occursin(
            r"complete after 3 iterations, \d+ images/s, loss [\d.]+ \(test [\d.]+\), accuracy",
            told,
        )
        saved = read_checkpoint(last_file(out))
        @test saved.config.sizes == [784, 5, 4, 10] && saved.settings["flip"] && saved.settings["batch"] == 32

        status, told, _ = run_command("evaluate", "--checkpoint", out, "--data", place, "--dtype", "float64")
        loss = evaluate_classifier(last_file(out), place, folder, "float64").loss
        @test status == 0 && occursin("last.h5: flux, test loss $loss, accuracy 0.", told)
        @test endswith(told, " of 6 images\n")
        @test occursin("of 360 images", run_command("evaluate", "--checkpoint", out)[2])
        for (words, arguments) in (
            "--text: expected nothing: $(last_file(out)) holds a classifier, found \"x.txt\"" =>
                ("evaluate", "--checkpoint", out, "--text", "x.txt"),
            "--hidden: expected numbers with hyphens between, as 16-16, found \"5,4\"" =>
                ("train", "mlp", "--out", out, "--hidden", "5,4"),
            "side: expected flux" => ("train", "resnet", "--out", out, "--side", "torch"),
            "variant: expected one of" => ("train", "resnet", "--out", out, "--variant", "vgg"),
            "attribute model: expected \"gpt\", found \"mlp\"" => ("generate", "--checkpoint", out),
        )
            status, told, err = run_command(arguments...)
            @test status == 2 && isempty(told)
            @test occursin(words, err) && count('\n', err) == 1
        end
        @test isempty(TwinGrad.parse_hidden(""))
        @test_throws "--hidden" TwinGrad.parse_hidden("3--4")
    end
end
