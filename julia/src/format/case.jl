# Cases: one evaluation of one model. The same file on the Python side is `python/twingrad/format/case.py`.

const CASE_FORMAT = "twingrad-case"
const CASE_GROUPS = ("params", "inputs", "targets")

"""
    Case

A checked case: `groups` holds the arrays of "params", "inputs" and "targets" by name, `oracle` those under `/oracle` by
their path in it, or nothing. `digest` is computed where the file has none.
"""
struct Case
    file::String
    name::String
    model::String
    config::Any
    groups::Dict{String,Dict{String,Array}}
    oracle::Union{Nothing,Dict{String,Array}}
    digest::String
end

"""
    read_case(file)

Read and check a case file; an InputError names file, entry, what was expected and what was found.
"""
function read_case(file)
    contents = read_file(file, CASE_FORMAT)
    check_names(
        contents;
        required=("format", "format_version", "name", "model", "config"),
        optional=("seed", "generator", "digest", "oracle_digest"),
        groups=(CASE_GROUPS..., "oracle"),
    )
    name, model, text = (attribute(contents, key) for key in ("name", "model", "config"))
    occursin(NAME, name) ||
        throw(InputError("$file, attribute name"; expected="a name of A-Z a-z 0-9 _ . -", found=repr(name)))
    haskey(contents.attributes, "seed") && attribute(contents, "seed", Integer)
    haskey(contents.attributes, "generator") && attribute(contents, "generator")
    spec = model_spec(model, "$file, attribute model")
    config = spec.config(parse_json(text, "$file, attribute config"), "$file, attribute config")
    groups = Dict(group => below(contents, group) for group in CASE_GROUPS)
    oracle = below(contents, "oracle")

    check_layers(config, groups["params"], file)
    sizes = check_groups(spec, config, groups, "$file, /")
    isempty(oracle) || check_arrays(oracle_specs(spec, config), oracle, "$file, /oracle", sizes)

    covered = [
        "format" => CASE_FORMAT,
        "format_version" => FORMAT_VERSION,
        "name" => name,
        "model" => model,
        "config" => text,
    ]
    arrays = Dict("$group/$key" => array for group in CASE_GROUPS for (key, array) in groups[group])
    computed = digest(covered, arrays)
    if haskey(contents.attributes, "digest")
        check_digest(contents, "digest", computed)
        isempty(oracle) ||
            check_digest(
                contents,
                "oracle_digest",
                digest((), Dict("oracle/$path" => array for (path, array) in oracle)),
            )
    end
    return Case(file, name, model, config, groups, isempty(oracle) ? nothing : oracle, computed)
end

"Refuse settings of more layers than there are arrays, before the arrays of every layer are listed."
function check_layers(config, params, where)
    layers = hasproperty(config, :layers) ? config.layers : 0
    layers <= length(params) || throw(
        InputError(
            "$where, attribute config";
            expected="layers for $(length(params)) arrays",
            found="$layers layers",
        ),
    )
end

"The entries of `/oracle`: loss, outputs, statistics, gradients by parameters and floating-point inputs."
function oracle_specs(spec, config)
    plain(array) = ArraySpec(Float64, array.dims)
    params, inputs = spec.params(config), spec.inputs(config)
    return [
        "loss" => ArraySpec(Float64, ())
        ["outputs/$name" => plain(array) for (name, array) in spec.outputs(config)]
        ["grads/$name" => plain(array) for (name, array) in params if array.trained]
        ["statistics/$name" => array for (name, array) in params if !array.trained]
        ["grads_inputs/$name" => plain(array) for (name, array) in inputs if array.type == Float64]
    ]
end
