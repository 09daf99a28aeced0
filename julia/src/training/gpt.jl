# Training the mini-GPT on text, on the Flux side.
# The same file on the Python side is `python/twingrad/training/gpt.py`.

"""
    initial_params(config::GPTConfig, seed)

Weights at the start (GPT-2's, as nanoGPT has them), as a file has them: normal with σ = 0.02, smaller where a branch ends.

The weights that lead back to the residual stream have σ = 0.02 / √(2 layers); biases are 0, layer norms 1 and 0,
learned time steps the setting `dt`.
"""
function initial_params(config::GPTConfig, seed)
    params = Dict{String,Array}()
    for (name, spec) in gpt_params(config)
        shape = reverse(spec.dims)
        if name == "dt"
            params[name] = fill(config.dt, shape)
        elseif length(shape) == 1
            params[name] = fill(endswith(name, "weight") ? 1.0 : 0.0, shape)
        else
            sigma = endswith(name, "c_proj.weight") ? 0.02 / sqrt(2 * config.layers) : 0.02
            params[name] = reshape(sigma .* normal(Stream(seed, "init/$name"), prod(shape)), shape)
        end
    end
    return params
end

"""
    train_gpt(settings, text, out; versions, progress, until, device, path)

Train until `settings["iterations"]` steps are taken in all, going on from OUT/flux/last.h5 where it is there.

- `settings`: everything that determines the numbers, as [`gpt_settings`](@ref) gives them; `text`: the text file.
- `out`: the folder for flux/last.h5, flux/best.h5 and the tokens.
- `versions`: what computes, for the files.
- `progress`: called now and then with a dictionary of iteration, loss, validation loss and tokens per second.
- `until`: stop after this many steps; the learning rate still falls as for all of them. `device`: "cpu" or "cuda".
- `path`: "fast" (kernels; on the CPU alone), or "reference" (automatic differentiation of the plain layers).

Returns the last checkpoint. An InputError says what does not fit; a SideError that the loss is no longer finite, in which
case the earlier checkpoints stay as they are.
"""
function train_gpt(
    settings, text, out; versions, progress::Function=_ -> nothing, until=nothing, device="cpu",
    path="fast",
)
    task = TextTask(settings, open_corpus(text, settings["tokenizer"], out))
    return train_until!(Run(task, out, versions, device, path), until, progress)
end

"A GPT, and a text to train it on."
struct TextTask{V<:AbstractVector} <: TrainingTask
    model::String
    config::GPTConfig
    settings::Dict{String,Any}
    data::Dict{String,Any}
    train_tokens::V
    validation_tokens::V
end

function TextTask(settings, corpus)
    config = model_config(settings, vocab(corpus.tokenizer))
    parts = (split(corpus, part, config.context) for part in ("train", "validation"))
    data = Dict{String,Any}(
        "tokenizer" => Dict{String,Any}(tokenizer_json(corpus.tokenizer)),
        "text" => Dict("name" => corpus.name, "digest" => corpus.digest),
    )
    return TextTask("gpt", config, settings, data, parts...)
end

source(::TextTask) = "text"
best(::TextTask) = "loss_validation"
unit(::TextTask) = "tokens"
units_per_step(task::TextTask) = joint_batch(task.settings) * task.config.context
initial_params(task::TextTask) = initial_params(task.config, task.settings["seed"])

"Tokens and targets (context, count)."
training_batch(task::TextTask, first, count) =
    training_batch(task.train_tokens, task.config.context, task.settings["seed"], first, count)

"Losses on windows of both parts of the text."
function evaluate(task::TextTask, model, device)
    batch, count = task.settings["batch"], task.settings["evaluation_windows"]
    parts = ("loss_train" => task.train_tokens, "loss_validation" => task.validation_tokens)
    return [
        name => mean_loss(model, tokens, task.config.context, batch, device; count) for
        (name, tokens) in parts
    ]
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
    context = model.config.context
    tokens = split(checkpoint_corpus(saved, file, text, folder), "validation", context)
    return mean_loss(model, tokens, context, batch, choose_device(device))
end

"A text in the tokens of a checkpoint; an InputError where it is one of other characters."
function checkpoint_corpus(saved, file, text, folder)
    tokenizer = checkpoint_tokenizer(saved, file)
    corpus = open_corpus(text, tokenizer isa CharTokenizer ? "char" : "byte", folder)
    corpus.tokenizer == tokenizer && return corpus
    expected = "a text of the $(vocab(tokenizer)) characters of $file"
    throw(InputError(text; expected, found="one of $(vocab(corpus.tokenizer)) characters"))
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
