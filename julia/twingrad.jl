# The Julia side's command: `julia --project=. julia/twingrad.jl VERB ...`; `serve` answers the harness.
using TwinGrad

exit(TwinGrad.main(ARGS))
