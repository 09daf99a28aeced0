using Test
using TwinGrad
using TwinGrad:
    ControlNetConfig,
    ImageTarget,
    MLPConfig,
    PlanarTarget,
    Stream,
    accuracies,
    attack,
    build,
    classifier_settings,
    classify,
    control_settings,
    correct,
    fgsm,
    gradient_signs,
    initial_params,
    inputs,
    load_classifier,
    normal,
    open_images,
    planar,
    preset,
    read_checkpoint,
    read_training,
    train_classifier,
    train_control,
    write_checkpoint

EPSILONS = [0.0, 0.03, 0.1, 0.4]

"A linear classifier with weights of that scale, and these weights."
function linear(outputs, inputs, scale, loss="cross-entropy")
    W = scale .* reshape(normal(Stream(3, "W"), inputs * outputs), inputs, outputs)  # as the file has it
    b = normal(Stream(3, "b"), outputs)
    params = Dict("layers.0.weight" => W, "layers.0.bias" => b)
    return build("mlp", MLPConfig([inputs, outputs], "relu", loss), params, Float64), permutedims(W), b
end

"The message of the InputError that `action` throws."
function message(@nospecialize(action))
    try
        action()
    catch error
        error isa InputError || rethrow()
        return sprint(showerror, error)
    end
    return "nothing was thrown"
end

mktempdir() do folder
    digits = open_images(nothing, folder)
    pixels, labels = split(digits, "test")

    @testset "a linear classifier of images against the formula: $loss" for loss in ("cross-entropy", "mse")
        # ∂L/∂x = Wᵀ (softmax(Wz + b) − y) / (n σ), or Wᵀ 2 (Wz + b − y) / (n σ), of z = (x − mean)/σ
        m, W, b = linear(10, 784, 0.05, loss)
        n, mean, std = 130, only(digits.kind.mean), only(digits.kind.std)
        x, classes = reshape(pixels[:, :, :, 1:n], :, n) ./ 255.0, Int.(labels[1:n]) .+ 1
        scores(x) = W * ((x .- mean) ./ std) .+ b
        softmax(s) = exp.(s .- maximum(s; dims=1)) ./ sum(exp.(s .- maximum(s; dims=1)); dims=1)
        slope = loss == "mse" ? 2 .* scores(x) : softmax(scores(x))
        for (k, class) in enumerate(classes)
            slope[class, k] -= loss == "mse" ? 2 : 1
        end
        signs = sign.(W' * slope)

        seen, examples = [], [129, 0, 100, 7]
        target = ImageTarget(m, digits, Float64, identity)
        found = fgsm(target, EPSILONS, n, examples, state -> push!(seen, state))
        @test (found.kind, found.epsilons, found.vanished) == ("images", EPSILONS, 0)
        @test seen == [Dict("samples" => 100, "of" => n), Dict("samples" => n, "of" => n)]
        @test found.labels == classes
        @test found.signs == signs[:, examples.+1]
        for (k, epsilon) in enumerate(EPSILONS)
            expected = softmax(scores(clamp.(x .+ epsilon .* signs, 0.0, 1.0)))
            chosen = last.(findmax.(eachcol(expected)))
            @test found.predictions[:, k] == chosen
            @test found.confidences[:, k] ≈ maximum.(eachcol(expected)) rtol = 1e-12
            @test correct(found)[k] == sum(chosen .== classes) == n * accuracies(found)[k]
        end
        @test correct(found)[1] > correct(found)[4]
    end

    @testset "images are clipped and else moved by epsilon" begin
        target, places = ImageTarget(first(linear(10, 784, 0.05)), digits, Float64, identity), 6:9
        x, signs = reshape(pixels[:, :, :, places], :, 4) ./ 255.0, gradient_signs(target, places)
        moved = inputs(target, places, 0.3 .* signs) .* only(digits.kind.std) .+ only(digits.kind.mean)
        @test moved ≈ clamp.(x .+ 0.3 .* signs, 0.0, 1.0)
        free = 0.0 .< x .+ 0.3 .* signs .< 1.0
        @test all(abs.(moved .- x)[free] .≈ 0.3)
        @test 0 < sum(free) < length(free)
    end

    @testset "a gradient that is zero moves nothing" begin
        params = Dict("layers.0.weight" => zeros(784, 10), "layers.0.bias" => collect(0.0:9.0))
        m = build("mlp", MLPConfig([784, 10], "relu", "mse"), params, Float64)
        found = fgsm(ImageTarget(m, digits, Float64, identity), [0.0, 1.0], 30, [2])
        @test found.vanished == 30
        @test all(iszero, found.signs)
        @test found.predictions[:, 1] == found.predictions[:, 2]
    end

    settings = classifier_settings(
        "mlp",
        merge(
            preset("mlp", "cpu"),
            Dict{String,Any}("hidden" => [16], "iterations" => 100, "dtype" => "float64"),
            Dict{String,Any}("evaluate_every" => 100, "evaluation_images" => 50, "learning_rate" => 0.5),
        ),
    )
    train_classifier("mlp", settings, nothing, folder; versions=Dict{String,Any}())
    file, control = joinpath(folder, "flux", "last.h5"), joinpath(folder, "control.h5")
    chosen = Dict("dataset" => "spiral2d", "network" => "resnet", "layers" => 3, "samples_test" => 40)
    train_control(control_settings(chosen), 40, control; versions=Dict{String,Any}())

    @testset "epsilon zero is no attack" begin
        clean = classify(
            load_classifier(read_checkpoint(file), file, "float64", "cpu"), digits, "test", 0, Float64,
        )
        found = attack(file, nothing, folder, [0.0, 0.1])
        @test found.predictions[:, 1] == clean.predictions
        @test found.confidences[:, 1] ≈ clean.confidences
        @test accuracies(found)[1] == TwinGrad.accuracy(clean) > 0.7 > accuracies(found)[2]
        found, arrays = attack(control, nothing, folder, [0.0]), read_training(control).arrays
        @test found.predictions[:, 1] .- 1 == (arrays["picture/prediction"] .> 0.5)
        @test found.labels .- 1 == arrays["picture/c"]
    end

    @testset "what is refused" begin
        for epsilon in (-0.1, NaN, Inf)
            @test message(() -> attack(file, nothing, folder, [0.1, epsilon])) ==
                  "epsilon: expected finite numbers from 0 on, found $epsilon"
        end
        for place in (-1, 7)
            @test message(() -> attack(file, nothing, folder, [0.1]; count=7, examples=[0, place])) ==
                  "examples: expected numbers of samples from 0 to 6, found $place"
        end
        @test startswith(
            message(() -> attack(control, folder, folder, [0.1])),
            "data: expected no images: $control holds a control network",
        )
        @test endswith(message(() -> attack(folder * "/no.h5", nothing, folder, [0.1])), "found no such file")
        other = joinpath(folder, "other.h5")
        write(other, read(control)[1:(end-50)])
        @test startswith(
            message(() -> attack(other, nothing, folder, [0.1])),
            "$other: expected a whole HDF5 file",
        )
        saved = read_checkpoint(file)
        saved.data["images"]["shape"] = [3, 32, 32]
        write_checkpoint(other, saved)
        @test occursin("images of shape [3, 32, 32]", message(() -> attack(other, nothing, folder, [0.1])))
        config = GPTConfig(; vocab=5, context=4, layers=1, heads=1, width=4)
        arrays = Dict{String,Array}("params/$name" => array for (name, array) in initial_params(config, 1))
        no_data = Dict{String,Any}()
        write_checkpoint(
            other,
            TwinGrad.Checkpoint(
                "gpt", config, no_data, "flux", "float64", no_data, no_data, 0, "imported", arrays,
            ),
        )
        @test startswith(
            message(() -> attack(other, nothing, folder, [0.1])),
            "$other, attribute model: expected a classifier of images",
        )
    end
end

@testset "a linear classifier of points against the formula" begin
    # With K = b = 0 the states stay where they are: ∂J/∂y = (p − c) p (1 − p) Wᵀ / n, p = σ(W y + μ)
    W, mu = [1.5, -0.4, 2.0], 0.3
    params = Dict("K" => zeros(3, 3, 2), "b" => zeros(3, 2), "W" => W[:, :], "mu" => [mu], "dt" => ones(2))
    m = build("control_net", ControlNetConfig("odenet", "kutta3", "mean"), params, Float64)
    x, c = planar("squares2d", "test", 50, 4, 3)
    found = fgsm(PlanarTarget(m, x, c, Float64, identity), [0.0, 0.2, 5.0], 0, 0:49)
    probability(x) = vec(1 ./ (1 .+ exp.(-(W' * x .+ mu))))
    signs = sign.(W[1:2] .* (probability(x) .- c)')
    @test found.kind == "planar"
    @test found.signs == signs
    @test found.labels .- 1 == c
    for (k, epsilon) in enumerate(found.epsilons)
        p = probability(x .+ epsilon .* [signs; zeros(1, 50)])
        @test found.predictions[:, k] .- 1 == (p .> 0.5)
        @test found.confidences[:, k] ≈ ifelse.(p .> 0.5, p, 1 .- p)
    end
    @test correct(found)[1] > correct(found)[2] > correct(found)[3] == 0
end
