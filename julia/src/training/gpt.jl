# Training the mini-GPT on text, on the Flux side.
# The same file on the Python side is `python/twingrad/training/gpt.py`.

using Statistics: median

const GPT_CHECKPOINT_SECONDS = 30.0
const DIVERGED = "The checkpoints of earlier steps are whole. Try a smaller --learning-rate or a longer --warmup, in another --out."

"""
    initial_params(config::GPTConfig, seed)

Weights at the start (GPT-2's, as nanoGPT has them), as a file has them: normal with σ = 0.02, smaller where a branch ends.

The weights that lead back to the residual stream have σ = 0.02 / √(2 layers); biases are 0, layer norms 1 and 0.
"""
function initial_params(config::GPTConfig, seed)
    params = Dict{String,Array}()
    for (name, spec) in gpt_params(config)
        shape = reverse(spec.dims)
        if length(shape) == 1
            params[name] = fill(endswith(name, "weight") ? 1.0 : 0.0, shape)
        else
            sigma = endswith(name, "c_proj.weight") ? 0.02 / sqrt(2 * config.layers) : 0.02
            params[name] = reshape(sigma .* normal(Stream(seed, "init/$name"), prod(shape)), shape)
        end
    end
    return params
end

"One training: model, optimizer, history and files."
mutable struct GPTRun{M<:GPT,O<:AdamW,C<:Corpus,D}
    const settings::Dict{String,Any}
    const corpus::C
    const folder::String
    const versions::Dict{String,Any}
    const progress::Function  # any one: nothing is compiled anew for it
    const device::D
    const model::M
    const optimizer::O
    const history::Dict{String,Vector}
    iteration::Int
end

"""
    train_gpt(settings, text, out; versions, progress, until, device)

Train until `settings["iterations"]` steps are taken in all, going on from OUT/flux/last.h5 where it is there.

- `settings`: everything that determines the numbers, as [`gpt_settings`](@ref) gives them; `text`: the text file.
- `out`: the folder for flux/last.h5, flux/best.h5 and the tokens.
- `progress`: called now and then with a dictionary of iteration, loss, validation loss and tokens per second.
- `until`: stop after this many steps; the learning rate still falls as for all of them. `device`: "cpu" or "cuda".

Returns the last checkpoint. An InputError says what does not fit; a SideError that the loss is no longer finite, in which case
the earlier checkpoints stay as they are.
"""
function train_gpt(
    settings, text, out; versions, progress::Function=_ -> nothing, until=nothing, device="cpu",
)
    corpus = open_corpus(text, settings["tokenizer"], out)
    device == "cuda" || (versions = merge(versions, Dict("device" => "CPU")))
    run, resumed = prepare(settings, corpus, joinpath(out, "flux"), versions, progress, choose_device(device))
    last = until === nothing ? settings["iterations"] : min(until, settings["iterations"])
    resumed && run.iteration >= last && return checkpoint(run)
    train!(run, last)
    return checkpoint(run)
end

"The run as its last checkpoint left it, or a new one; and which of the two."
function prepare(settings, corpus, folder, versions, progress::Function, device)
    T = choose_dtype(settings["dtype"])
    config = model_config(settings, vocab(corpus.tokenizer))
    foreach(part -> split(corpus, part, config.context), ("train", "validation"))
    iteration, params = 0, initial_params(config, settings["seed"])
    history = Dict{String,Vector}(name => Float64[] for name in (PER_STEP..., PER_EVALUATION...))
    history["evaluated"] = Int64[]
    file = joinpath(folder, "last.h5")
    saved = isfile(file) ? read_checkpoint(file) : nothing
    if saved === nothing
        make_folder(folder)
    else
        saved.model == "gpt" || throw(
            InputError(
                "$file, attribute model";
                expected="'gpt'",
                found="'$(saved.model)'",
                hint=ANOTHER_OUT,
            ),
        )
        whole =
            !isempty(group(saved, "history")) &&
            (saved.iteration == 0 || !isempty(group(saved, "first_moment")))
        whole || throw(
            InputError(
                file;
                expected="the moments and the history of a training that goes on",
                found="the model alone",
                hint=ANOTHER_OUT,
            ),
        )
        resume_check(file, saved, settings, settings["iterations"])
        found = get(get(saved.data, "text", Dict()), "digest", nothing)
        found == corpus.digest || throw(
            InputError(
                "$file, attribute data";
                expected="the text of SHA-256 $(corpus.digest)",
                found=string(found),
                hint=ANOTHER_OUT,
            ),
        )
        iteration, params = saved.iteration, group(saved, "params")
        history = Dict{String,Vector}(group(saved, "history"))
    end
    model = device(build("gpt", config, params, T))
    optimizer = AdamW(named_arrays("gpt", config, model), optimizer_settings(settings); steps_taken=iteration)
    if saved !== nothing && iteration > 0
        specs = gpt_params(config)
        moments = map(("first_moment", "second_moment")) do name
            arrays = group(saved, name)
            [device(copy(from_file(spec, arrays[key]))) for (key, spec) in specs]
        end
        restore!(optimizer, moments...)
    end
    run = GPTRun(settings, corpus, folder, versions, progress, device, model, optimizer, history, iteration)
    return run, saved !== nothing
end

"Steps up to `last`."
function train!(run::GPTRun, last)
    settings, saved_at, shown_at = run.settings, time(), time()
    while run.iteration < last
        run.iteration % settings["evaluate_every"] == 0 && not_evaluated(run) && evaluate!(run)
        step!(run)
        if time() - shown_at > PROGRESS_SECONDS
            run.progress(report(run))
            shown_at = time()
        end
        if time() - saved_at > GPT_CHECKPOINT_SECONDS
            save(run, "last")
            saved_at = time()
        end
    end
    run.iteration == settings["iterations"] && not_evaluated(run) && evaluate!(run)
    save(run, "last")
    run.iteration > 0 && run.progress(report(run))
end

"One step on the joint batch of the present iteration."
function step!(run::GPTRun)
    start, settings, model = time_ns(), run.settings, run.model
    tokens = split(run.corpus, "train", settings["context"])
    parts, batch = settings["accumulation"], settings["batch"]
    total, grads = 0.0, nothing
    for part in 0:(parts-1)
        first = (run.iteration * parts + part) * batch
        x, c = run.device(training_batch(tokens, settings["context"], settings["seed"], first, batch))
        here = automatic_gradient(model, x, c)
        total += here.loss / parts
        scaled = [grad ./ eltype(grad)(parts) for (_, grad) in named_arrays("gpt", model.config, here.grads)]
        grads = grads === nothing ? scaled : grads .+ scaled
    end
    learning_rate, size = step!(run.optimizer, grads)
    isfinite(total) && isfinite(size) || throw(
        SideError(
            "training step $(run.iteration + 1): the loss is $total, the gradients' norm $size. $DIVERGED",
        ),
    )
    run.iteration += 1
    for (name, value) in zip(PER_STEP, (total, learning_rate, size, (time_ns() - start) / 1e9))
        push!(run.history[name], value)
    end
end

not_evaluated(run::GPTRun) =
    isempty(run.history["evaluated"]) || run.history["evaluated"][end] != run.iteration

"Losses on windows of both parts of the text; the best model so far is kept, the last one too."
function evaluate!(run::GPTRun)
    context, batch, count =
        (run.settings[name] for name in ("context", "batch", "evaluation_windows"))
    losses = map(("train", "validation")) do part
        mean_loss(run.model, split(run.corpus, part, context), context, batch, run.device; count)
    end
    all(isfinite, losses) || throw(
        SideError(
            "evaluation after step $(run.iteration): the losses are $(losses[1]) and $(losses[2]). $DIVERGED",
        ),
    )
    best = minimum(run.history["loss_validation"]; init=Inf)
    for (name, value) in zip(PER_EVALUATION, (run.iteration, losses...))
        push!(run.history[name], value)
    end
    run.iteration > 0 && losses[2] < best && save(run, "best")
    save(run, "last")
end

"The present state."
function checkpoint(run::GPTRun)
    config, arrays = run.model.config, Dict{String,Array}()
    for (name, param) in to_file_arrays("gpt", config, run.model)
        arrays["params/$name"] = copy(param)
    end
    if run.iteration > 0
        for (kind, moment) in zip(("first_moment", "second_moment"), moments(run.optimizer))
            for ((name, spec), array) in zip(gpt_params(config), moment)
                arrays["$kind/$name"] = to_file(spec, Array(array))
            end
        end
    end
    for (name, values) in run.history
        arrays["history/$name"] = copy(values)
    end
    tokenizer = Dict{String,Any}(tokenizer_json(run.corpus.tokenizer))
    data = Dict{String,Any}(
        "tokenizer" => tokenizer,
        "text" => Dict("name" => run.corpus.name, "digest" => run.corpus.digest),
    )
    status = run.iteration == run.settings["iterations"] ? "complete" : "running"
    return Checkpoint(
        "gpt", config, data, "flux", run.settings["dtype"], run.versions, run.settings, run.iteration, status,
        arrays,
    )
end

function save(run::GPTRun, name)
    state = checkpoint(run)
    write_checkpoint(joinpath(run.folder, "$name.h5"), name == "best" ? without_moments(state) : state)
end

function report(run::GPTRun)
    recent = last(run.history["seconds"], 20)
    tokens = run.settings["batch"] * run.settings["accumulation"] * run.settings["context"] * length(recent)
    return Dict(
        "iteration" => run.iteration,
        "loss" => run.history["loss"][end],
        "loss_validation" =>
            isempty(run.history["loss_validation"]) ? nothing : run.history["loss_validation"][end],
        "tokens_per_second" => tokens / sum(recent),
    )
end

"Mean cross-entropy (nats per token) over `count` evenly spread windows of `tokens` (0: all), `batch` at a time."
function mean_loss(model, tokens, context, batch, device=identity; count=0)
    starts, total = windows(length(tokens), context, count), 0.0
    for chosen in Iterators.partition(starts, batch)
        x, c = device(window_batch(tokens, context, chosen))
        total += length(chosen) * Float64(loss(model, model(x), c))
    end
    return total / length(starts)
end

"The loss of the checkpoint in `file` on the whole validation part of a text; nats per token."
function evaluate_checkpoint(file, text, folder, dtype="float32", device="cpu"; batch=12)
    saved = read_checkpoint(file)
    model = load_gpt(saved, file, dtype, device)
    tokenizer = checkpoint_tokenizer(saved, file)
    corpus = open_corpus(text, tokenizer isa CharTokenizer ? "char" : "byte", folder)
    corpus.tokenizer == tokenizer || throw(
        InputError(
            text;
            expected="a text of the $(vocab(tokenizer)) characters of $file",
            found="one of $(vocab(corpus.tokenizer)) characters",
        ),
    )
    context = model.config.context
    return mean_loss(model, split(corpus, "validation", context), context, batch, choose_device(device))
end

"The tokenizer of a checkpoint."
checkpoint_tokenizer(saved, file) =
    tokenizer_from_json(get(saved.data, "tokenizer", nothing), "$file, attribute data, tokenizer")

"The model of a checkpoint; an InputError where it is none of this architecture."
function load_gpt(saved, file, dtype, device)
    saved.model == "gpt" ||
        throw(InputError("$file, attribute model"; expected="\"gpt\"", found=repr(saved.model)))
    return choose_device(device)(build("gpt", saved.config, group(saved, "params"), choose_dtype(dtype)))
end
