# The shortcut without parameters with its gradient.

"""
    widen(x, stride, channels)

Every `stride`-th pixel of x (W, H, C, N), then channels of zeros up to `channels`: shortcut A of He et al. 2016.
"""
function widen(x, stride, channels)
    W, H, C, N = size(x)
    y = fill!(similar(x, cld(W, stride), cld(H, stride), channels, N), 0)
    y[:, :, 1:C, :] .= view(x, 1:stride:W, 1:stride:H, :, :)
    return y
end

function ChainRulesCore.rrule(::typeof(widen), x, stride, channels)
    W, H, C, _ = size(x)
    function widen_pullback(dy)
        dx = fill!(similar(x), 0)
        dx[1:stride:W, 1:stride:H, :, :] .= view(unthunk(dy), :, :, 1:C, :)
        return NoTangent(), dx, NoTangent(), NoTangent()
    end
    return widen(x, stride, channels), widen_pullback
end
