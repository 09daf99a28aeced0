# Results: what one side computed for one case. The same file on the Python side is `python/twingrad/format/result.py`.

using Dates: Dates

const RESULT_FORMAT, RECORDED_FORMAT = "twingrad-result", "twingrad-recorded"
const RESULT_COVERED =
    ("case", "case_digest", "side", "dtype", "device", "versions", "source_digest", "created")
const RECORDED_COVERED = ("side", "dtype", "device", "versions", "source_digest", "created")

"""
    Result

The arrays of a result by path ("loss", "outputs/prediction", "grads/K", ...), and where they come from.
"""
struct Result
    case::String
    case_digest::String
    side::String
    dtype::String
    device::String
    versions::Dict{String,Any}
    source_digest::String
    created::String
    arrays::Dict{String,Array}
end

"The present time in UTC, ISO 8601 to the second."
now_utc() = Dates.format(Dates.now(Dates.UTC), "yyyy-mm-ddTHH:MM:SSZ")

"Write a result file."
function write_result(file, result::Result)
    covered = map(RESULT_COVERED) do name
        value = getfield(result, Symbol(name))
        name => value isa String ? value : JSON.json(value)
    end
    write_sealed(file, RESULT_FORMAT, covered, result.arrays)
end

"""
    read_recorded(file)

The recorded results of one side by case name, checked; with the side's name, versions, `source_digest` and date.
"""
function read_recorded(file)
    contents = read_sealed(file, RECORDED_FORMAT, RECORDED_COVERED, ("cases",))
    side, dtype, device, _, source_digest, created = (attribute(contents, name) for name in RECORDED_COVERED)
    versions = json_object(contents, "versions")
    results = Dict(
        case => Result(
            case, case_digest, side, dtype, device, versions, source_digest, created,
            below(contents, "cases/$case"),
        ) for (case, case_digest) in case_digests(contents)
    )
    return (; side, versions, source_digest, created, results)
end
