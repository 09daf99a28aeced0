# The command: `julia --project=. julia/twingrad.jl VERB ...`, the same verbs and options as `twingrad`.

using ArgParse: ArgParse, @add_arg_table!, ArgParseSettings, parse_args
using ProgressMeter: Progress, finish!, update!

const AGREEMENT, DISAGREEMENT, BAD_INPUT = 0, 1, 2

function command_line()
    settings = ArgParseSettings(;
        prog="julia --project=. julia/twingrad.jl",
        description="The Flux.jl side of TwinGrad.",
        version="TwinGrad $(pkgversion(TwinGrad))",
        add_version=true,
        exc_handler=usage_error,
    )
    @add_arg_table! settings begin
        "run"
        help = "evaluate one case: loss, outputs, gradients"
        action = :command
        "compare"
        help = "hold this side against the oracle and the recorded results of the others"
        action = :command
        "train"
        help = "train a model"
        action = :command
        "doctor"
        help = "say what computes here"
        action = :command
        "serve"
        help = "answer requests of the harness on standard input"
        action = :command
    end
    @add_arg_table! settings["run"] begin
        "--case"
        help = "the case file"
        required = true
        "--out"
        help = "the result file to write"
        required = true
        "--side"
        help = "flux"
        default = "flux"
        "--dtype"
        help = "float64 or float32"
        default = "float64"
        "--device"
        help = "cpu or cuda"
        default = "cpu"
        "--steps"
        help = "training steps to take after the gradient"
        arg_type = Int
        default = 0
    end
    @add_arg_table! settings["compare"] begin
        "cases"
        help = "case files, or names of cases of the checkout; default: all"
        nargs = '*'
        "--steps"
        help = "training steps to compare"
        arg_type = Int
        default = 10
    end
    @add_arg_table! settings["train"] begin
        "control"
        help = "train a control network on planar data"
        action = :command
    end
    @add_arg_table! settings["train"]["control"] begin
        "--out"
        help = "folder for the training file"
        required = true
        "--side"
        help = "flux"
        default = "flux"
        "--iterations"
        help = "descent steps in all"
        arg_type = Int
        default = 3000
    end
    for name in sort!(collect(keys(DEFAULT_SETTINGS)))
        default = name == "freeze" ? "" : DEFAULT_SETTINGS[name]
        option = Dict(:arg_type => typeof(default), :default => default, :help => "a setting of the training")
        ArgParse.add_arg_table!(settings["train"]["control"], "--" * replace(name, "_" => "-"), option)
    end
    return settings
end

function usage_error(settings, error)
    println(stderr, ArgParse.usage_string(settings))
    println(stderr, "twingrad: ", error.text)
    exit(BAD_INPUT)
end

"""
    main(arguments)

Run the command; returns the exit status: 0, 1 where sides disagree, 2 for bad input (one line on stderr).
"""
function main(arguments)
    options = parse_args(arguments, command_line())
    options === nothing && return AGREEMENT
    verb = something(options["%COMMAND%"], "")
    try
        verb == "serve" && return serve()
        verb == "run" && return main_run(options["run"])
        verb == "compare" && return main_compare(options["compare"])
        verb == "doctor" && return main_doctor()
        verb == "train" && return main_train(options["train"])
        ArgParse.show_help(command_line(); exit_when_done=false)
        return BAD_INPUT
    catch error
        error isa Union{InputError,SideError} || rethrow()
        println(stderr, "twingrad: ", sprint(showerror, error))
        return BAD_INPUT
    end
end

only_flux(options) =
    options["side"] == "flux" ||
    throw(
        InputError(
            "side";
            expected="flux",
            found=repr(options["side"]),
            hint="Other sides run from the Python command.",
        ),
    )

function main_run(options)
    only_flux(options)
    case = read_case(options["case"])
    result = live_result(case; dtype=options["dtype"], device=options["device"], steps=options["steps"])
    write_result(options["out"], result)
    println("$(options["out"]): loss $(result.arrays["loss"][])")
    return AGREEMENT
end

function main_compare(options)
    known = Dict(stem(file) => file for file in case_files())
    names = isempty(options["cases"]) ? sort!(collect(keys(known))) : options["cases"]
    files = [get(known, name, name) for name in names]
    checks, recordings, problems = compare_with_recorded(files; steps=options["steps"])
    println("Flux.jl live ($(versions()["framework"]), $(versions()["language"]))")
    for recorded in recordings
        title = sides()[recorded.side]["title"]
        println(
            "$title RECORDED on $(first(recorded.created, 10)) ($(recorded.versions["framework"]), $(recorded.versions["language"]))",
        )
    end
    println()
    print_table(checks)
    failed = filter(!passed, checks)
    for check in first(failed, 20)
        println("✗ $(check.case), $(check.left) against $(check.right), $(check.array): $(check.message)")
    end
    foreach(problem -> println("✗ ", problem), problems)
    agrees = isempty(failed) && isempty(problems) && !isempty(checks)
    cases = length(unique(check.case for check in checks))
    println(
        agrees ? "AGREE: $(length(checks)) checks on $cases cases passed." :
        "DISAGREE: $(length(failed)) of $(length(checks)) checks failed, $(length(problems)) other failures.",
    )
    return agrees ? AGREEMENT : DISAGREEMENT
end

"A line per case with the worst error of each kind of check, then the worst of all; 80 columns."
function print_table(checks)
    kinds = ("sides", "oracle", "manual", "steps")
    println(rpad("case", 42), join(lpad.(kinds, 9)))
    for case in unique(check.case for check in checks)
        errors = map(kinds) do kind
            found = filter(check -> check.case == case && check.kind == kind, checks)
            isempty(found) ? lpad("-", 9) : lpad(@sprintf("%.1e", maximum(check.error for check in found)), 9)
        end
        println(rpad(last(split(case, '-'; limit=2)), 42), join(errors))
    end
    println()
    for kind in kinds
        found = filter(check -> check.kind == kind, checks)
        isempty(found) && continue
        worst = found[argmax([check.error for check in found])]
        println(
            @sprintf(
                "worst float64, %-7s %.1e, bound %.0e  (%s)",
                kind,
                worst.error,
                worst.bound,
                worst.array
            )
        )
    end
end

function main_doctor()
    found = versions()
    for name in ("language", "framework", "hdf5", "blas", "threads", "processor", "device")
        println(rpad(name, 10), " ", found[name])
    end
    return AGREEMENT
end

function main_train(options)
    options["%COMMAND%"] == "control" || throw(InputError("train"; expected="control", found="nothing"))
    given = options["control"]
    only_flux(given)
    values = Dict{String,Any}(name => given[replace(name, "_" => "-")] for name in keys(DEFAULT_SETTINGS))
    values["freeze"] = String[name for name in split(values["freeze"], ','; keepempty=false)]
    settings, iterations = control_settings(values), given["iterations"]
    mkpath(given["out"])
    bar = Progress(iterations; desc="flux ", output=stderr, enabled=isa(stderr, Base.TTY))
    show_state(state) = update!(
        bar,
        state["iteration"];
        showvalues=[(:objective, state["objective"]), (:accuracy, state["accuracy_test"])],
    )
    file = joinpath(given["out"], "flux.h5")
    trained = train_control(settings, iterations, file; versions=versions(), progress=show_state)
    finish!(bar)
    last_of(name) = trained.arrays["history/$name"][end]
    text = @sprintf(
        "objective %.4e (test %.4e), accuracy %.3f (test %.3f)",
        last_of("objective"), last_of("objective_test"), last_of("accuracy_train"),
        last_of("accuracy_test")
    )
    println("$file: $(trained.status) after $(trained.iteration) iterations, $text")
    return AGREEMENT
end
