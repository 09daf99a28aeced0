# The four planar data sets of Benning et al. (J. Comput. Dyn. 6(2), 2019), and initial parameters.
#
# Each number is specified in `shared_fixtures/FORMAT.md`; the same file on the Python side is
# `python/twingrad/data/planar.py`, and both give the same arrays bit for bit.

"""
    PlanarData(sample, noise)

A data set: `sample(draw, n)` gives points (2, n) before noise and labels (n,); `draw(use)` is the stream for a use.
"""
struct PlanarData
    sample::Function
    noise::Float64
end

donut_radius(draw, label) = 0.1 .* normal(draw("radius"), length(label)) .+ ifelse.(label .== 1.0, 0.0, 0.5)

function donut1d(draw, n)
    label = Float64.((0:(n-1)) .% 3 .== 0)
    side = ifelse.(uniform(draw("side"), n) .< 0.5, -1.0, 1.0)
    return permutedims([side .* donut_radius(draw, label) zeros(n)]), label
end

function donut2d(draw, n)
    label = Float64.((0:(n-1)) .% 2 .== 0)
    return on_circle(donut_radius(draw, label), uniform(draw("angle"), n)), label
end

function squares2d(draw, n)
    points = reshape(1.4 .* uniform(draw("position"), 2n) .- 0.7, 2, n)
    return points, Float64.(points[1, :] .* points[2, :] .> 0.0)
end

function spiral2d(draw, n)
    label = Float64.((0:(n-1)) .% 2 .== 0)
    position = uniform(draw("position"), n)
    radius = 0.1 .+ 0.9 .* position
    return on_circle(ifelse.(label .== 1.0, radius, .-radius), position), label  # the second arm, turned by π
end

function on_circle(radius, turns)
    circle = portable_circle.(turns)
    return permutedims([radius .* first.(circle) radius .* last.(circle)])
end

const DATASETS = Dict(
    "donut1d" => PlanarData(donut1d, 0.1),
    "donut2d" => PlanarData(donut2d, 0.1),
    "squares2d" => PlanarData(squares2d, 0.1),
    "spiral2d" => PlanarData(spiral2d, 0.05),
)

"""
    planar(dataset, split, samples, seed, d=2)

Points (d, samples) and labels (samples,) of a data set; `split` is "train" or "test", which draw from separate streams.
Coordinates past the second are 0. A smaller draw is a prefix of a larger one.
"""
function planar(dataset, split, samples, seed, d=2)
    haskey(DATASETS, dataset) ||
        throw(InputError("dataset"; expected=one_of(sort!(collect(keys(DATASETS)))), found=repr(dataset)))
    d >= 2 || throw(InputError("d"; expected="at least 2, the dimension of the data", found=string(d)))
    draw(use) = Stream(seed, "$dataset/$split/$use")
    source = DATASETS[dataset]
    points, label = source.sample(draw, samples)
    noisy = points .+ source.noise .* reshape(normal(draw("noise"), 2samples), 2, samples)
    return [noisy; zeros(d - 2, samples)], label
end

"""
    normal_params(sizes, seed)

Standard normal arrays by name, each from the stream `init/<name>`; sizes and axes as HDF5.jl gives the file's arrays.
"""
function normal_params(sizes, seed)
    return Dict(
        name => reshape(normal(Stream(seed, "init/$name"), prod(size)), size) for (name, size) in sizes
    )
end
