"""The PyTorch side's worker: `python -m twingrad.worker` answers requests on its standard input.

The protocol is described in `docs/protocol.md`; the same program on the Julia side is `julia julia/twingrad.jl serve`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import torch

from . import adversarial, generation
from .bench.machine import processor
from .engine import evaluate
from .errors import InputError
from .experiments import convergence, residual_stream
from .format import Result, read_case, read_checkpoint
from .format.result import now
from .progress import Progress
from .sides.table import side, source_digest
from .sides.worker_process import PROTOCOL, leave_with_harness
from .training import classifier, control, gpt
from .training.settings import classifier_settings, control_settings, gpt_settings


def versions() -> dict[str, Any]:
    """What computes here: language, framework, linear algebra, processor, threads."""
    return {
        "language": f"Python {platform.python_version()}",
        "framework": f"PyTorch {torch.__version__}",
        "hdf5": f"h5py {h5py.__version__}, library {h5py.version.hdf5_version}",
        "blas": "MKL" if "USE_MKL=ON" in torch.__config__.show() else "OpenBLAS or other",
        "processor": processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        "threads": torch.get_num_threads(),
    }


def run(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Evaluate the case in file `case`; write the result to `out`. Options: dtype, device, steps."""
    case = read_case(Path(arguments["case"]))
    options = {name: arguments[name] for name in ("dtype", "device", "steps") if name in arguments}
    dtype, device = options.get("dtype", "float64"), options.get("device", "cpu")
    result = Result(
        case=case.name,
        case_digest=case.digest,
        side="torch",
        dtype=dtype,
        device=device,
        versions=versions(),
        source_digest=source_digest(side("torch"), {case.name: case.digest}),
        created=now(),
        arrays=evaluate(case.model, case.config, case.groups, **options),
    )
    result.write(Path(arguments["out"]))
    return {"loss": float(result.arrays["loss"])}


def train_control(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train a control network with `settings` up to `iterations` steps; the file is `out`. Option: path."""
    settings = control_settings(arguments["settings"])
    out, path = Path(arguments["out"]), arguments.get("path", "fast")
    done = control.train_control(settings, arguments["iterations"], out, versions(), progress, path=path)
    return {"iteration": done.iteration, "status": done.status}


TRAINING_OPTIONS = ("until", "device", "compiled", "path")
"""What a training may be told beside its settings."""


def train_gpt(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train a GPT with `settings` on the file `text`; `out` is the folder. Options: until, device, compiled, path."""
    settings = gpt_settings(arguments["settings"])
    options = {name: arguments[name] for name in TRAINING_OPTIONS if name in arguments}
    place = Path(arguments["text"]), Path(arguments["out"])
    done = gpt.train_gpt(settings, *place, versions(), progress, **options)
    return {"iteration": done.iteration, "status": done.status}


def train_classifier(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train the classifier `model` with `settings` on the images in `data`, null for the digits; `out` is the folder.

    Options: until, device, compiled, path.
    """
    model = arguments["model"]
    settings = classifier_settings(model, arguments["settings"])
    options = {name: arguments[name] for name in TRAINING_OPTIONS if name in arguments}
    place = _place(arguments), Path(arguments["out"])
    done = classifier.train_classifier(model, settings, *place, versions(), progress, **options)
    return {"iteration": done.iteration, "status": done.status}


def classify(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Classify the test images in `data` with the model in file `checkpoint`; `folder` is for the images file."""
    files = Path(arguments["checkpoint"]), _place(arguments), Path(arguments["folder"])
    found = classifier.evaluate_classifier(*files, arguments["dtype"], arguments["device"])
    lists = {name: getattr(found, name).tolist() for name in ("labels", "predictions", "confidences")}
    return {"loss": found.loss, "accuracy": found.accuracy, **lists}


def _place(arguments: Mapping[str, Any]) -> Path | None:
    return None if arguments["data"] is None else Path(arguments["data"])


def evaluate_text(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The loss of the GPT in `checkpoint` on the last tenth of the file `text`; `folder` is for its tokens."""
    checkpoint, text, folder = (Path(arguments[name]) for name in ("checkpoint", "text", "folder"))
    return {"loss": gpt.evaluate_checkpoint(checkpoint, text, folder, arguments["dtype"], arguments["device"])}


def generate(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Continue the token ids `prompt` by `count` tokens of the GPT in file `checkpoint`; each new one is progress."""
    file = Path(arguments["checkpoint"])
    model = gpt.load_gpt(read_checkpoint(file), file, arguments["dtype"], arguments["device"])
    options = {name: arguments[name] for name in ("temperature", "top_k", "seed")}
    new = generation.generate(
        model, arguments["prompt"], arguments["count"], on_token=lambda token: progress({"token": token}), **options
    )
    return {"tokens": new}


def attack(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Attack the classifier in file `checkpoint` by FGSM with each of `epsilons`, on its test data (see `classify`).

    `count` is how many of them, 0 for all; `examples` are the samples whose gradients' signs are wanted.
    """
    files = Path(arguments["checkpoint"]), _place(arguments), Path(arguments["folder"])
    options = {name: arguments[name] for name in ("count", "dtype", "device", "examples")}
    found = adversarial.attack(*files, arguments["epsilons"], progress=progress, **options)
    names = ("labels", "predictions", "confidences", "correct", "accuracies", "signs")
    lists = {name: getattr(found, name).tolist() for name in names}
    return {"kind": found.kind, "vanished": found.vanished, **lists}


def measure_convergence(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Solve the `flow` with every method on grids of `steps` per layer; the errors are in the file `out`."""
    flow = convergence.flow_of(arguments["flow"])
    arrays = convergence.convergence(flow, arguments["steps"], progress)
    convergence.write_convergence(Path(arguments["out"]), arrays, versions())
    return {"reference_check": float(arrays["reference/state_check"])}


def solve_stream(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The residual stream of the GPT in `checkpoint` on `windows` windows of `text`, refined by `steps`, into `out`."""
    checkpoint, text, folder = (Path(arguments[name]) for name in ("checkpoint", "text", "folder"))
    how = arguments["windows"], arguments["steps"]
    arrays = residual_stream.stream_of(checkpoint, text, folder, *how, progress)
    residual_stream.write_stream(Path(arguments["out"]), arrays, versions())
    return {"loss": float(arrays["loss"])}


def bench(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Time the `workload` with the arrays in file `arrays`: `samples` samples or `seconds`, whichever comes first.

    With `first`, the first call and what a call allocates are told too.
    """
    from .bench.measure import visit

    return visit(arguments)


def read(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """A digest of what is in `file`, of the given `kind`; `folder` is for tokens and images."""
    from .reading import read_digest

    return {"digest": read_digest(arguments["kind"], Path(arguments["file"]), Path(arguments["folder"]))}


VERBS: dict[str, Callable[[Mapping[str, Any], Progress], dict[str, Any]]] = {
    "run": run,
    "train-control": train_control,
    "train-gpt": train_gpt,
    "train-classifier": train_classifier,
    "classify": classify,
    "evaluate": evaluate_text,
    "generate": generate,
    "attack": attack,
    "convergence": measure_convergence,
    "stream": solve_stream,
    "bench": bench,
    "read": read,
}


def answer(request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The reply to one request: {"result": ...} or {"error": ...}."""
    verb = request.get("verb")
    try:
        if verb not in VERBS:
            raise InputError("verb", expected=", ".join(VERBS), found=repr(verb))
        return {"result": VERBS[verb](request.get("arguments", {}), progress)}
    except InputError as error:
        fields = {name: getattr(error, name) for name in ("where", "expected", "found", "hint")}
        return {"error": {"kind": "input", **fields}}
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}".removesuffix(": ")
        return {"error": {"kind": "failure", "message": message}}


def main() -> None:
    """Serve until the input ends. Whatever a library prints goes to stderr, never into the protocol."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    leave_with_harness()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))

    def send(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    send({"hello": {"protocol": PROTOCOL, "side": "torch", "versions": versions()}})
    for line in sys.stdin:
        request = json.loads(line)
        number = {"id": request.get("id")}
        send(number | answer(request, partial(_send_progress, send, number)))


def _send_progress(send: Callable[[dict[str, Any]], None], number: dict[str, Any], state: Mapping[str, Any]) -> None:
    send(number | {"progress": state})


if __name__ == "__main__":
    main()
