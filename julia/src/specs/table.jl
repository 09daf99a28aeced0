# The table of models. The same file on the Python side is `python/twingrad/specs/table.py`.

const MODELS = Dict(spec.name => spec for spec in (CONTROL_NET, GPT_SPEC, MLP_SPEC, RESNET_SPEC))

"The model called `name`; an InputError names `where` if there is none."
function model_spec(name, where)
    haskey(MODELS, name) ||
        throw(InputError(where; expected=one_of(sort!(collect(keys(MODELS)))), found=repr(name)))
    return MODELS[name]
end

"""
    check_groups(spec, config, groups, prefix)

Check the arrays of "params", "inputs" and "targets" (axes as HDF5.jl gives them) and that they suit the settings. Returns the
sizes that the letters stand for.
"""
function check_groups(spec::ModelSpec, config, groups, prefix)
    sizes = Dict{String,Int}()
    for (group, specs) in ("params" => spec.params, "inputs" => spec.inputs, "targets" => spec.targets)
        check_arrays(specs(config), groups[group], "$prefix$group", sizes)
    end
    wrong = spec.contradiction(config, groups)
    wrong === nothing || throw(InputError("$prefix$(wrong[1])"; expected=wrong[2], found=wrong[3]))
    return sizes
end
