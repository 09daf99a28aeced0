# Which tokens of a text make a batch: samples drawn for training, windows in order for evaluation.
#
# Specified in `shared_fixtures/FORMAT.md`, "Text"; the same file on the Python side is
# `python/twingrad/data/batches.py`. Places in a text count from 0 here as they do there; token ids get one added as
# they are read, so that they count from 1 and index the embedding.

"""
    training_starts(n, context, seed, first, count)

Where samples first, ..., first + count - 1 of a training start in n tokens, counted from 0. Sample k of all is the one at
place k mod batch of iteration k ÷ batch, both counted from 0. An InputError where n < context + 1.
"""
function training_starts(n, context, seed, first, count)
    check_length(n, context)
    drawn = words(Stream(seed, "batch/train"), count; first)
    return Int.(drawn .% UInt64(n - context))
end

"""
    training_batch(tokens, context, seed, first, count)

Inputs and targets (context, count), Int that count from 1, of samples first, ..., first + count - 1 of a training.
"""
training_batch(tokens, context, seed, first, count) =
    window_batch(tokens, context, training_starts(length(tokens), context, seed, first, count))

"""
    windows(n, context, count)

Where the windows of an evaluation start in n tokens, counted from 0 and spread evenly; their inputs do not overlap.
There are `count` of them, or as many as there is room for where that is fewer or `count` is 0. An InputError where
n < context + 1.
"""
function windows(n, context, count)
    check_length(n, context)
    room = div(n - 1, context)
    used = count > 0 ? min(count, room) : room
    return [context * div(j * room, used) for j in 0:(used-1)]
end

"""
    window_batch(tokens, context, starts)

Inputs and targets (context, length(starts)), Int that count from 1, of the samples that start at `starts`, from 0.
"""
function window_batch(tokens, context, starts)
    inputs = [Int(tokens[start+i]) + 1 for i in 1:context, start in starts]
    targets = [Int(tokens[start+i+1]) + 1 for i in 1:context, start in starts]
    return inputs, targets
end

function check_length(n, context)
    n >= context + 1 ||
        throw(InputError("tokens"; expected="at least context + 1 = $(context + 1)", found="$n"))
end
