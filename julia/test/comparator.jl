using Test
using TwinGrad
using TwinGrad: Result, case_files, compare_array, compare_arrays, compare_case, evaluate, passed,
    read_bounds, relative_error, stem

@test relative_error([3.0, 4.0, 1.0], [3.0, 4.0, 0.0]) ≈ 1 / 5
@test relative_error([0.0, -2.0], zeros(2)) == 2
@test relative_error([NaN], ones(1)) == Inf
wrong = ones(3, 2)
wrong[3, 2] = 1.5
@test compare_array(wrong, ones(3, 2), 1e-10)[2] ==
      "worst at index [1, 2]: 1.5 against 1.0, error 2.04e-01, bound 1e-10"
@test compare_array(ones(2), ones(2), 0.0) == (0.0, "")
@test occursin("shape (3,) against (2,)", compare_array(ones(3), ones(2), 1.0)[2])
@test occursin("dtype int64 against float64", compare_array([1], [1.0], 1.0)[2])

checks = compare_arrays(
    Dict("a" => ones(1)),
    Dict("b" => ones(1)),
    1.0;
    case="x",
    dtype="float64",
    kind="sides",
    names=("l", "r"),
)
@test [check.message for check in checks] == ["missing on the side of r", "missing on the side of l"]

case = read_case(first(case_files()))
arrays = evaluate(case.model, case.config, case.groups; steps=3)
result(side, arrays) = Result(case.name, case.digest, side, "float64", "cpu", Dict(), "", "", arrays)
bounds = read_bounds()
agreeing = compare_case(case, [result("flux", arrays), result("torch", arrays)], bounds)
@test all(passed, agreeing)
@test Set(check.kind for check in agreeing) == Set(["oracle", "manual", "fast", "sides", "steps"])
params_after = ["steps/descent/params_after/$name" for name in ("K", "b", "W", "mu", "dt")]
@test Set(check.array for check in agreeing if check.kind == "steps") ==
      Set(["steps/descent/losses"; params_after])

@testset "a change of any array is caught" begin
    for path in keys(arrays)
        changed = Dict(name => copy(array) for (name, array) in arrays)
        changed[path][end] += 1e-6 * sqrt(sum(abs2, changed[path]))
        @test !all(passed, compare_case(case, [result("flux", changed), result("torch", arrays)], bounds))
        delete!(changed, path)
        @test !all(passed, compare_case(case, [result("flux", changed), result("torch", arrays)], bounds))
    end
end

@testset "running statistics are held against the oracle and the other side" begin
    case = read_case(only(filter(file -> stem(file) == "resnet-20-train-small", case_files())))
    result(side, arrays) = Result(case.name, case.digest, side, "float64", "cpu", Dict(), "", "", arrays)
    changed, path = deepcopy(case.oracle), "statistics/layer2.1.bn2.running_var"
    @test all(passed, compare_case(case, [result("flux", changed), result("torch", case.oracle)], bounds))
    changed[path][2] *= 1 + 1e-9
    failed =
        filter(!passed, compare_case(case, [result("flux", changed), result("torch", case.oracle)], bounds))
    @test [(check.kind, check.array) for check in failed] == [("oracle", path), ("sides", path)]
end
