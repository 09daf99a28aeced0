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
        "generate"
        help = "continue a text by a trained GPT"
        action = :command
        "evaluate"
        help = "the loss of a trained GPT on the last tenth of a text"
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
        "gpt"
        help = "train a mini-GPT on text"
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
        add_option!(settings["train"]["control"], name, typeof(default), default)
    end
    @add_arg_table! settings["train"]["gpt"] begin
        "--text"
        help = "the text file"
        required = true
        "--out"
        help = "folder for flux/last.h5, flux/best.h5 and the tokens"
        required = true
        "--side"
        help = "flux"
        default = "flux"
        "--preset"
        help = "cpu or gpu: what the options below start from"
        default = "cpu"
        "--until"
        help = "stop after this many steps; go on later"
        arg_type = Int
        "--device"
        help = "cpu or cuda"
        default = "cpu"
    end
    presets = [name => preset("gpt", name) for name in ("cpu", "gpu")]
    for name in sort!(first.(GPT_SETTINGS))
        if haskey(GPT_DEFAULTS, name)
            known = GPT_DEFAULTS[name]
            help = "default: $known"
        else
            known = last(first(presets))[name]
            help = join(("$preset: $(values[name])" for (preset, values) in presets), ", ")
        end
        add_option!(settings["train"]["gpt"], name, typeof(known), nothing; help)
    end
    for verb in ("generate", "evaluate")
        @add_arg_table! settings[verb] begin
            "--checkpoint"
            help = "a checkpoint, or a folder of 'train gpt'"
            required = true
            "--side"
            help = "flux"
            default = "flux"
            "--last"
            help = "take last.h5 instead of best.h5"
            action = :store_true
            "--dtype"
            help = "float32 or float64"
            default = "float32"
            "--device"
            help = "cpu or cuda"
            default = "cpu"
        end
    end
    @add_arg_table! settings["evaluate"] begin
        "--text"
        help = "the text file"
        required = true
    end
    @add_arg_table! settings["generate"] begin
        "--prompt"
        help = "the text to continue"
        default = "\n"
        "--tokens"
        help = "how many tokens to add"
        arg_type = Int
        default = 500
        "--temperature"
        help = "0: always the likeliest token"
        arg_type = Float64
        default = 0.8
        "--top-k"
        help = "draw among the k likeliest tokens; 0: among all"
        arg_type = Int
        default = 0
        "--seed"
        help = "chooses the draws"
        arg_type = Int
        default = 1
    end
    return settings
end

"An option for the setting `name` of a training."
function add_option!(settings, name, type, default; help="a setting of the training")
    option = Dict{Symbol,Any}(:arg_type => type, :default => default, :help => help)
    ArgParse.add_arg_table!(settings, "--" * replace(name, "_" => "-"), option)
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
        verb == "generate" && return main_generate(options["generate"])
        verb == "evaluate" && return main_evaluate(options["evaluate"])
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
    model = ""
    for case in unique(check.case for check in checks)
        name, rest = (split(case, '-'; limit=2)..., "")
        name == model || println(name)
        model = name
        errors = map(kinds) do kind
            found = filter(check -> check.case == case && check.kind == kind, checks)
            isempty(found) ? lpad("-", 9) : lpad(@sprintf("%.1e", maximum(check.error for check in found)), 9)
        end
        println(rpad("  " * (isempty(rest) ? name : rest), 42), join(errors))
    end
    println("\nworst errors, their bounds, and where they are")
    for kind in kinds
        found = filter(check -> check.kind == kind, checks)
        isempty(found) && continue
        worst = found[argmax([check.error for check in found])]
        println(@sprintf("  float64 %-7s %.1e of %.0e  %s", kind, worst.error, worst.bound, worst.array))
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
    model = options["%COMMAND%"]
    model == "control" && return main_train_control(options["control"])
    model == "gpt" && return main_train_gpt(options["gpt"])
    throw(InputError("train"; expected="one of control, gpt", found="nothing"))
end

function main_train_control(given)
    only_flux(given)
    values = Dict{String,Any}(name => given[replace(name, "_" => "-")] for name in keys(DEFAULT_SETTINGS))
    values["freeze"] = String[name for name in split(values["freeze"], ','; keepempty=false)]
    settings, iterations = control_settings(values), given["iterations"]
    make_folder(given["out"])
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

function main_train_gpt(given)
    only_flux(given)
    chosen = Dict{String,Any}()
    for (name, _) in GPT_SETTINGS
        value = given[replace(name, "_" => "-")]
        value === nothing || (chosen[name] = value)
    end
    settings = gpt_settings(merge(preset("gpt", given["preset"]), chosen))
    last = something(given["until"], settings["iterations"])
    bar = Progress(last; desc="flux ", output=stderr, enabled=isa(stderr, Base.TTY))
    function show_state(state)
        values = [(Symbol(replace(name, "_" => " ")), state[name]) for name in sort!(collect(keys(state)))]
        update!(bar, state["iteration"]; showvalues=values)
    end
    place = (given["text"], given["out"])
    device = given["device"]
    trained = train_gpt(settings, place...; versions=versions(), progress=show_state, until=last, device)
    finish!(bar)
    history = group(trained, "history")
    file = joinpath(given["out"], "flux", "last.h5")
    line = "$file: $(trained.status) after $(trained.iteration) iterations"
    if !isempty(history["seconds"])
        tokens = settings["batch"] * settings["accumulation"] * settings["context"]
        line *= @sprintf(", %.0f tokens/s", tokens / median(history["seconds"]))
    end
    if !isempty(history["evaluated"])
        losses = history["loss_validation"]
        line *= @sprintf(
            ", loss %.4f (validation %.4f; best %.4f at %d)",
            history["loss_train"][end], losses[end], minimum(losses), history["evaluated"][argmin(losses)]
        )
    end
    println(line)
    return AGREEMENT
end

checkpoint_file(given) = find_checkpoint(given["checkpoint"], "flux", given["last"] ? "last" : "best")

function main_generate(given)
    only_flux(given)
    file = checkpoint_file(given)
    saved = read_checkpoint(file)
    tokenizer, model =
        checkpoint_tokenizer(saved, file), load_gpt(saved, file, given["dtype"], given["device"])
    prompt, waiting = encode(tokenizer, given["prompt"]), Int[]
    print(given["prompt"])
    function show_token(token)
        text = decode(tokenizer, push!(waiting, token))
        endswith(text, '�') && return  # bytes of a character that is not whole yet
        print(text)
        flush(stdout)
        empty!(waiting)
    end
    temperature, top_k, seed = given["temperature"], given["top-k"], given["seed"]
    generate(model, prompt, given["tokens"]; temperature, top_k, seed, on_token=show_token)
    println(decode(tokenizer, waiting))
    return AGREEMENT
end

function main_evaluate(given)
    only_flux(given)
    file = checkpoint_file(given)
    mktempdir() do folder
        value = evaluate_checkpoint(file, given["text"], folder, given["dtype"], given["device"])
        println("$file: flux, validation loss $value")
    end
    return AGREEMENT
end
