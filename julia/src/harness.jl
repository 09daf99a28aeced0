# Holding the live Flux side against the recorded results of the other sides, without Python.

"Training steps in the recorded results."
const RECORDED_STEPS = 10

"The live result of this side for a case."
function live_result(case::Case; dtype="float64", device="cpu", steps=0)
    arrays = evaluate(case.model, case.config, case.groups; dtype, device, steps)
    sources = source_digest("flux", Dict(case.name => case.digest))
    return Result(case.name, case.digest, "flux", dtype, device, versions(), sources, now_utc(), arrays)
end

"""
    compare_with_recorded(files; steps=10)

Checks of the live Flux side on case files against the oracle, the hand-derived gradient and every other side's recorded
results, in float64. Returns (checks, recordings used, problems); a stale recording is a problem.
"""
function compare_with_recorded(files; steps=10)
    steps in (0, RECORDED_STEPS) ||
        throw(InputError("steps"; expected="0 or $RECORDED_STEPS, as recorded", found=string(steps)))
    checks, bounds = Check[], read_bounds()
    recordings, problems = Any[], String[]
    digests = Dict(stem(file) => read_case(file).digest for file in case_files())
    for side in sort!(collect(keys(sides())))
        side == "flux" && continue
        recorded = read_recorded(recorded_file(side))
        recorded.source_digest == source_digest(side, digests) ||
            push!(
                problems,
                "$(recorded_file(side)): the recorded results are stale: made by other sources or cases",
            )
        push!(recordings, recorded)
    end
    for file in files
        case = read_case(file)
        results = [live_result(case; steps)]
        for recorded in recordings
            result = get(recorded.results, case.name, nothing)
            result !== nothing && result.case_digest == case.digest || continue
            push!(results, steps == 0 ? without_steps(result) : result)
        end
        append!(checks, compare_case(case, results, bounds))
    end
    return checks, recordings, problems
end

"The result without the arrays of training steps."
function without_steps(result::Result)
    arrays = filter(pair -> !occursin(IN_STEPS, first(pair)), result.arrays)
    fields = (getfield(result, name) for name in fieldnames(Result) if name != :arrays)
    return Result(fields..., arrays)
end
