# The Flux side's worker with one mistake of `flux.toml` in it: `julia worker.jl MUTANT`; `none` for no mistake. The definition that
# the mistake is in is evaluated anew, changed; no file changes. The verb `plant` takes it out and puts another one in, since
# starting and compiling take longer than all else. Beside it: `worker.py`.

using TOML: TOML
using TwinGrad: TwinGrad

const SOURCES = dirname(pathof(TwinGrad))
const NO_MUTANT = "none"
const MUTANTS = TOML.parsefile(joinpath(@__DIR__, "flux.toml"))["mutant"]

"The mistake that is planted: its file and the definition as it was; nothing where there is none."
const PLANTED = Ref{Union{Nothing,Tuple{String,String}}}(nothing)

"The definitions of a source text: each as the range of its bytes with the expression."
function definitions(text)
    found, at = [], 1
    while at <= ncodeunits(text)
        expression, next = Meta.parse(text, at)
        expression === nothing || push!(found, at:(next-1) => expression)
        at = next
    end
    return found
end

"Whether an expression, with or without a docstring, defines a constant or a type, which cannot be defined anew."
is_fixed(expression) =
    expression isa Expr && (
        expression.head in (:const, :struct, :abstract) ||
        (expression.head == :macrocall && is_fixed(expression.args[end]))
    )

"The text of the definition in a file that the text `old` is in, once."
function definition(file, old)
    text = read(joinpath(SOURCES, file), String)
    places = findall(old, text)
    length(places) == 1 ||
        error("$file: expected the text to be replaced once, found it $(length(places)) times: $old")
    place = only(places)
    range, expression = only(entry for entry in definitions(text) if first(place) in first(entry))
    is_fixed(expression) &&
        error("$file: expected a function to be changed, found a constant or a type: $old")
    last(place) in range ||
        error("$file: expected a text within one definition, found one across several: $old")
    return text[first(range):thisind(text, last(range))]
end

define(file, text) = Core.eval(TwinGrad, Meta.parseall(text; filename=file))

"Take out the mistake that is planted and put in the one called `name`."
function plant(name)
    PLANTED[] === nothing || define(PLANTED[]...)
    PLANTED[] = nothing
    name == NO_MUTANT && return
    chosen = filter(mutant -> mutant["name"] == name, MUTANTS)
    length(chosen) == 1 || error("mutant: expected one of flux.toml, found $name")
    file, old, new = (only(chosen)[key] for key in ("file", "old", "new"))
    whole = definition(file, old)
    PLANTED[] = (file, whole)
    define(file, replace(whole, old => new))
end

function answer_plant(arguments, progress)
    plant(arguments["mutant"])
    return Dict{String,Any}()
end

function main(name)
    plant(name)
    TwinGrad.VERBS["plant"] = answer_plant
    TwinGrad.VERBS["run"] =
        (arguments, progress) -> Base.invokelatest(TwinGrad.answer_run, arguments, progress)
    return Base.invokelatest(TwinGrad.serve)
end

exit(main(only(ARGS)))
