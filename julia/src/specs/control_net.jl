# Settings and arrays of `control_net`. The same file on the Python side is `python/twingrad/specs/control_net.py`.

const NETWORKS = ("net", "resnet", "odenet", "odenet-simplex")
const METHODS = ("euler", "improved-euler", "kutta3", "kutta4")
const SCALES = ("mean", "sum")

"""
    ControlNetConfig(network, method, scale)

Settings of `control_net`. Source: Benning et al., J. Comput. Dyn. 6(2), 2019.
"""
struct ControlNetConfig
    network::String
    method::String
    scale::String
end

"The factor of y_k in y_{k+1}: 0 for a plain network, 1 for a residual one."
alpha(config::ControlNetConfig) = config.network == "net" ? 0.0 : 1.0

"Whether training changes the time steps."
learns_dt(config::ControlNetConfig) = config.network in ("odenet", "odenet-simplex")

"Checked settings of a control network from a dictionary; `where` is named in errors."
function control_net_config(settings, where)
    known = ["network" => choice(NETWORKS), "method" => choice(METHODS), "scale" => choice(SCALES)]
    complete = check_settings(settings, known, where)
    network, method, scale = (String(complete[name]) for name in ("network", "method", "scale"))
    if network == "net" && method != "euler"
        found = "network 'net' is no time discretisation and takes method 'euler', not '$method'"
        throw(InputError(where; expected="settings that go together", found))
    end
    return ControlNetConfig(network, method, scale)
end

"What is wrong where the time steps contradict the network."
function contradiction(config::ControlNetConfig, groups)
    dt, tolerance = groups["params"]["dt"], 1e-12
    fixed = config.network == "net" ? 1.0 : config.network == "resnet" ? 1 / length(dt) : nothing
    if fixed !== nothing && maximum(abs, dt .- fixed) > tolerance
        return ("params/dt", "every time step $fixed (network '$(config.network)')", string(dt))
    elseif config.network == "odenet-simplex" && (minimum(dt) < -tolerance || abs(sum(dt) - 1) > tolerance)
        return (
            "params/dt",
            "time steps >= 0 with sum 1 (network 'odenet-simplex')",
            "smallest $(minimum(dt)), sum $(sum(dt))",
        )
    end
    return nothing
end

function zero_or_one(labels)
    wrong = findfirst(label -> label != 0 && label != 1, labels)
    return wrong === nothing ? nothing : ("labels 0 or 1", "$(labels[wrong]) at index $(wrong - 1)")
end

const CONTROL_NET = ModelSpec(;
    name="control_net",
    config=control_net_config,
    params=config -> [
        "K" => linear_weight("N", "d", "d"),
        "b" => numbers("N", "d"),
        "W" => linear_weight(1, "d"),
        "mu" => numbers(1),
        "dt" => numbers("N"),
    ],
    inputs=config -> ["x" => numbers("samples", "d")],
    targets=config -> ["c" => ArraySpec(Float64, ("samples",); check=zero_or_one)],
    outputs=config -> ["prediction" => numbers("samples")],
    contradiction,
    manual_gradient=true,
)
