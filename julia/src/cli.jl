# The command: `julia --project=. julia/twingrad.jl VERB ...`, the same verbs and options as `twingrad`.

using ArgParse: ArgParse, @add_arg_table!, ArgParseSettings, parse_args
using ProgressMeter: Progress, finish!, update!
using Statistics: median

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
        help = "the loss of a trained GPT on the last tenth of a text, or of a classifier on all test images"
        action = :command
        "attack"
        help = "what a trained classifier makes of adversarial examples (FGSM)"
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
        "mlp"
        help = "train a multilayer perceptron on images"
        action = :command
        "resnet"
        help = "train a residual network on images"
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
        "--path"
        help = PATH_HELP
        default = "fast"
    end
    for name in sort!(collect(keys(DEFAULT_SETTINGS)))
        default = name == "freeze" ? "" : DEFAULT_SETTINGS[name]
        add_option!(settings["train"]["control"], name, typeof(default), default)
    end
    add_training!(settings["train"]["gpt"], "gpt", GPT_SETTINGS, GPT_DEFAULTS)
    @add_arg_table! settings["train"]["gpt"] begin
        "--text"
        help = "the text file"
        required = true
    end
    for model in sort!(collect(keys(CLASSIFIER_SETTINGS)))
        add_training!(settings["train"][model], model, CLASSIFIER_SETTINGS[model], CLASSIFIER_DEFAULTS)
        @add_arg_table! settings["train"][model] begin
            "--data"
            help = "folder with files of MNIST, Fashion-MNIST or CIFAR-10; default: TwinGrad's own digits"
        end
    end
    for (verb, dtype) in ("generate" => "float32", "evaluate" => "float32", "attack" => "float64")
        @add_arg_table! settings[verb] begin
            "--checkpoint"
            help = "a checkpoint, or a folder of 'train'"
            required = true
            "--side"
            help = "flux"
            default = "flux"
            "--dtype"
            help = "float32 or float64"
            default = dtype
            "--device"
            help = "cpu or cuda"
            default = "cpu"
        end
    end
    for verb in ("generate", "evaluate")
        @add_arg_table! settings[verb] begin
            "--last"
            help = "take last.h5 instead of best.h5"
            action = :store_true
        end
    end
    @add_arg_table! settings["attack"] begin
        "--epsilon"
        help = "strengths of the attack, one or more, in units of pixels from 0 to 1, or of the plane"
        arg_type = Float64
        nargs = '+'
        default = [0.01, 0.02, 0.05, 0.1, 0.2]
        "--data"
        help = "folder with images for a classifier; default: TwinGrad's own digits"
        "--count"
        help = "how many of the test samples; 0: all"
        arg_type = Int
        default = 0
    end
    @add_arg_table! settings["evaluate"] begin
        "--text"
        help = "the text for a GPT; its last tenth counts"
        "--data"
        help = "folder with images for a classifier; default: TwinGrad's own digits"
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

const PATH_HELP = "fast (kernels) or reference (plain layers)"

"The options of `train MODEL`: those of all models, and one for each setting in `known`, which presets or `defaults` hold."
function add_training!(settings, model, known, defaults)
    @add_arg_table! settings begin
        "--out"
        help = "folder for flux/last.h5 and what is made of the data"
        required = true
        "--side"
        help = "flux"
        default = "flux"
        "--preset"
        help = "$(join(sort!(collect(keys(presets(model)))), " or ")): what the options below start from"
        default = "cpu"
        "--until"
        help = "stop after this many steps; go on later"
        arg_type = Int
        "--path"
        help = PATH_HELP
        default = "fast"
        "--device"
        help = "cpu or cuda"
        default = "cpu"
    end
    start = sort!(collect(presets(model)); by=first)
    for name in sort!(first.(known))
        value = get(defaults, name, get(last(first(start)), name, nothing))
        help =
            haskey(defaults, name) ? "default: $value" :
            join(("$preset: $(option_text(values[name]))" for (preset, values) in start), ", ")
        type = value isa AbstractVector ? String : typeof(value)
        add_option!(settings, name, type, nothing; help)
    end
end

"A setting as its option takes it: numbers of units with hyphens between."
option_text(value) = string(value)
option_text(sizes::AbstractVector) = join(sizes, "-")

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
        verb == "attack" && return main_attack(options["attack"])
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
    kinds = ("sides", "oracle", "manual", "fast", "steps")
    println(rpad("case", 40), join(lpad.(kinds, 8)))
    model = ""
    for case in unique(check.case for check in checks)
        name, rest = (split(case, '-'; limit=2)..., "")
        name == model || println(name)
        model = name
        errors = map(kinds) do kind
            found = filter(check -> check.case == case && check.kind == kind, checks)
            isempty(found) ? lpad("-", 8) : lpad(@sprintf("%.0e", maximum(check.error for check in found)), 8)
        end
        println(rpad("  " * (isempty(rest) ? name : rest), 40), join(errors))
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
    haskey(CLASSIFIER_SETTINGS, model) && return main_train_classifier(model, options[model])
    throw(InputError("train"; expected="one of control, gpt, mlp, resnet", found="nothing"))
end

function main_train_control(given)
    only_flux(given)
    values = Dict{String,Any}(name => given[replace(name, "_" => "-")] for name in keys(DEFAULT_SETTINGS))
    values["freeze"] = String[name for name in split(values["freeze"], ','; keepempty=false)]
    settings, iterations = control_settings(values), given["iterations"]
    bar = Progress(iterations; desc="flux ", output=stderr, enabled=isa(stderr, Base.TTY))
    show_state(state) = update!(
        bar,
        state["iteration"];
        showvalues=[(:objective, state["objective"]), (:accuracy, state["accuracy_test"])],
    )
    file = joinpath(given["out"], "flux.h5")
    trained = at_work_on(given["out"]) do
        train_control(
            settings, iterations, file; versions=versions(), progress=show_state, path=given["path"],
        )
    end
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
    settings = gpt_settings(chosen_settings("gpt", GPT_SETTINGS, given))
    tokens = joint_batch(settings) * settings["context"]
    trained, line = show_training(given, settings, "tokens" => tokens) do options
        train_gpt(settings, given["text"], given["out"]; options...)
    end
    history = group(trained, "history")
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

function main_train_classifier(model, given)
    only_flux(given)
    chosen = chosen_settings(model, CLASSIFIER_SETTINGS[model], given)
    get(chosen, "hidden", nothing) isa String && (chosen["hidden"] = parse_hidden(chosen["hidden"]))
    settings = classifier_settings(model, chosen)
    trained, line = show_training(given, settings, "images" => joint_batch(settings)) do options
        train_classifier(model, settings, given["data"], given["out"]; options...)
    end
    history = group(trained, "history")
    if !isempty(history["evaluated"])
        names = ("loss_train", "loss_test", "accuracy_train", "accuracy_test")
        line *= @sprintf(
            ", loss %.4f (test %.4f), accuracy %.4f (test %.4f)",
            (history[name][end] for name in names)...
        )
    end
    println(line)
    return AGREEMENT
end

"The command as it was typed."
typed_command() = Base.shell_escape("julia", "julia/twingrad.jl", ARGS...)

"Call `train()`, which trains this side in the folder `out`, made if need be, while no other command does."
function at_work_on(train, out)
    make_folder(out)
    return locked(train, joinpath(out, "flux"), typed_command())
end

"The settings that a preset and the given options make."
function chosen_settings(model, known, given)
    chosen = preset(model, given["preset"])
    for (name, _) in known
        value = given[replace(name, "_" => "-")]
        value === nothing || (chosen[name] = value)
    end
    return chosen
end

function parse_hidden(text)
    parts = isempty(text) ? String[] : split(text, '-')
    all(part -> occursin(r"^[0-9]{1,9}\z", part), parts) && return parse.(Int, parts)
    throw(InputError("--hidden"; expected="numbers with hyphens between, as 16-16", found=repr(text)))
end

"""
    show_training(train, given, settings, units)

Call `train` with the options that all trainings take, and show its progress; returns the last checkpoint and the start
of a line on it. `units` are what a step takes, name => number.
"""
function show_training(train, given, settings, units)
    steps = something(given["until"], settings["iterations"])
    bar = Progress(steps; desc="flux ", output=stderr, enabled=isa(stderr, Base.TTY))
    function show_state(state)
        values = [(Symbol(replace(name, "_" => " ")), state[name]) for name in sort!(collect(keys(state)))]
        update!(bar, state["iteration"]; showvalues=values)
    end
    told = (; until=steps, device=given["device"], path=given["path"])
    options = (; versions=versions(), progress=show_state, told...)
    trained = at_work_on(() -> train(options), given["out"])
    finish!(bar)
    file = joinpath(given["out"], "flux", "last.h5")
    line = "$file: $(trained.status) after $(trained.iteration) iterations"
    seconds = group(trained, "history")["seconds"]
    isempty(seconds) || (line *= @sprintf(", %.0f %s/s", last(units) / median(seconds), first(units)))
    return trained, line
end

checkpoint_file(given) = find_checkpoint(given["checkpoint"], "flux", given["last"] ? "last" : "best")

function main_generate(given)
    only_flux(given)
    file = checkpoint_file(given)
    saved = read_checkpoint(file)
    model, tokenizer =
        load_gpt(saved, file, given["dtype"], given["device"]), checkpoint_tokenizer(saved, file)
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
    is_gpt = read_checkpoint(file).model == "gpt"
    is_gpt &&
        given["text"] === nothing &&
        throw(InputError("--text"; expected="a text for the GPT in $file", found="none"))
    option, kind = is_gpt ? ("data", "a GPT") : ("text", "a classifier")
    given[option] === nothing ||
        throw(InputError("--$option"; expected="nothing: $file holds $kind", found=repr(given[option])))
    mktempdir() do folder
        println(
            "$file: flux, ",
            is_gpt ? evaluated_gpt(file, folder, given) : classified(file, folder, given),
        )
    end
    return AGREEMENT
end

evaluated_gpt(file, folder, given) =
    "validation loss $(evaluate_checkpoint(file, given["text"], folder, given["dtype"], given["device"]))"

function classified(file, folder, given)
    found = evaluate_classifier(file, given["data"], folder, given["dtype"], given["device"])
    rate = @sprintf("%.4f", accuracy(found))
    return "test loss $(found.loss), accuracy $rate of $(length(found.labels)) images"
end

function main_attack(given)
    only_flux(given)
    place = given["checkpoint"]
    training = joinpath(place, "flux.h5")
    file = isfile(training) ? training : find_checkpoint(place, "flux", "last")
    strengths = sort!(unique!([0.0; given["epsilon"]]))
    found = mktempdir() do folder
        attack(
            file,
            given["data"],
            folder,
            strengths;
            (Symbol(name) => given[name] for name in ("count", "dtype", "device"))...,
        )
    end
    println("      ε  accuracy")
    for (strength, part) in zip(strengths, accuracies(found))
        println(@sprintf("%7g  %.4f", strength, part))
    end
    println("FGSM in $(given["dtype"]): $(length(found.labels)) test samples of $file")
    found.vanished > 0 &&
        println("$(found.vanished) samples have a gradient of exactly zero; no ε moves them")
    return AGREEMENT
end
