"""
    InputError(where; expected, found, hint="")

Something given to TwinGrad is not usable: a file, an option. `where` names it and the entry inside it.
"""
struct InputError <: Exception
    where::String
    expected::String
    found::String
    hint::String
end
InputError(where; expected, found, hint="") = InputError(where, expected, found, hint)

function Base.showerror(io::IO, e::InputError)
    print(io, e.where, ": expected ", e.expected, ", found ", e.found)
    isempty(e.hint) || print(io, ". ", e.hint)
end

"""
    one_of(names)

Text for "one of these names", in the order given.
"""
one_of(names) = "one of " * join(names, ", ")
