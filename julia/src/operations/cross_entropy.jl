# Cross-entropy of logits with its gradient.

using NNlib: logsoftmax, softmax

"""
    cross_entropy(logits, targets)

The mean of -log softmax(logits)[target], in nats; `logits` (V, ...), `targets` (...) classes counted from 1.
"""
function cross_entropy(logits, targets)
    places = class_places(logits, targets)
    return -sum(logsoftmax(logits; dims=1)[places]) / length(places)
end

"Where the targets' logits are, as linear indices: arrays on a GPU allow them, and no single ones."
function class_places(logits, targets)
    classes = size(logits, 1)
    return vec(targets) .+ classes .* (0:(length(targets)-1))
end

function ChainRulesCore.rrule(::typeof(cross_entropy), logits, targets)
    function cross_entropy_pullback(dloss)
        places, p = class_places(logits, targets), softmax(logits; dims=1)
        view(p, places) .-= one(eltype(p))
        return NoTangent(), p .* (unthunk(dloss) / eltype(p)(length(places))), NoTangent()
    end
    return cross_entropy(logits, targets), cross_entropy_pullback
end
