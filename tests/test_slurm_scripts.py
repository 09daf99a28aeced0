"""The scripts of docs/slurm: their shell runs here, with stand-ins for what Slurm and the training would do."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer

from twingrad.cli import app

SCRIPTS = sorted((Path(__file__).parents[1] / "docs/slurm").glob("*.sbatch"))
TASKS = {"one_gpu": 1, "one_node": 4, "several_nodes": 8}

# Starts the tasks that its options or the job ask for, hands USR1 to them, and ends with their highest status. What is
# done once on each machine is done in turn, for here the machines share one disk.
SRUN = """
tasks=$SLURM_NTASKS in_turn=()
while [[ $1 == --* ]]; do [[ $1 == --ntasks=* ]] && tasks=${1#*=} in_turn=(flock "$0"); shift; done
pids=()
trap 'kill -USR1 "${pids[@]}"' USR1
for ((rank = 0; rank < tasks; rank++)); do
  SLURM_PROCID=$rank SLURM_LOCALID=$((rank % 4)) SLURM_NTASKS=$tasks "${in_turn[@]}" "$@" &
  pids+=($!)
done
highest=0
for pid in "${pids[@]}"; do
  wait "$pid"; wait "$pid"; status=$?  # the first may end at the signal
  ((status > highest)) && highest=$status
done
exit $highest
"""
SCONTROL = """
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; else echo "$*" >> "$SAID/scontrol"; fi
"""
# Says how it was started; then ends with $STATUS, or waits for USR1 and ends as a training does that was saved.
TWINGRAD = """
variables="$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT"
trap 'exit 75' USR1
echo "$variables $*" > "$SAID/task$RANK.part"; mv "$SAID/task$RANK.part" "$SAID/task$RANK"
[[ $STATUS ]] && exit "$STATUS"
while :; do sleep 0.05; done
"""


@pytest.fixture
def job(tmp_path):
    """Starts a script as Slurm would: (process, folder of what was said)."""
    said, home = tmp_path / "said", tmp_path / "project"
    said.mkdir()
    for name, body in {"bin/srun": SRUN, "bin/scontrol": SCONTROL, "project/.venv/bin/twingrad": TWINGRAD}.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\n{body}")
        program.chmod(0o755)
    (tmp_path / "my text.txt").write_text("text")
    started = []

    def start(script, status=""):
        tasks = TASKS[script.stem]
        slurm = {"JOB_ID": "12345678", "JOB_NODELIST": "node[1-2]", "NTASKS": tasks, "CPUS_PER_TASK": 4}
        environment = {
            **{"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SAID": said, "STATUS": status, "HOME": tmp_path},
            **{f"SLURM_{name}": str(value) for name, value in slurm.items()},
            **{"SLURM_NNODES": "2" if tasks == 8 else "1", "SLURM_TMPDIR": tmp_path / "local disk"},
            **{"PROJECT": home, "TEXT": tmp_path / "my text.txt", "OUT": tmp_path / "out"},
        }
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(["bash", script], env=environment, stdout=log, stderr=log, start_new_session=True)
        started.append((process, log))
        return process, said

    yield start
    for process, log in started:
        log.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def task_lines(said, count, seconds=20.0):
    """What each task said about itself, once all have."""
    end = time.monotonic() + seconds
    while len(files := list(said.glob("task*[0-9]"))) < count:
        assert time.monotonic() < end, "the tasks did not start"
        time.sleep(0.02)
    return sorted(file.read_text().split(" ", 5) for file in files)


def test_there_is_a_script_for_each_size():
    assert [script.stem for script in SCRIPTS] == sorted(TASKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_bash_and_names_real_options(script, job):
    subprocess.run(["bash", "-n", script], check=True)
    process, said = job(script, status="0")
    assert process.wait(timeout=30) == 0
    lines = task_lines(said, TASKS[script.stem])
    ranks = range(TASKS[script.stem])
    address = "node1" if script.stem == "several_nodes" else "127.0.0.1"
    assert [line[:5] for line in lines] == [
        [str(rank), str(rank % 4), str(len(ranks)), address, "25678"] for rank in ranks
    ]
    train, gpt, *options = lines[0][5].replace("my text", "my_text").replace("local disk", "local_disk").split()
    assert (train, gpt) == ("train", "gpt")
    command = typer.main.get_command(app).commands["train"].commands["gpt"]
    chosen = command.make_context("gpt", options).params
    assert (chosen["side"], chosen["device"], chosen["threads"], chosen["text"].name) == (
        "torch",
        "cuda",
        4,
        "my_text.txt",
    )
    assert (chosen["batch"] or 64) % TASKS[script.stem] == 0
    assert "  # --compile #" in script.read_text()
    assert command.make_context("gpt", ["--out", "x", "--compile", "--parallel", "fsdp"]).params["compiled"]
    assert not (said / "scontrol").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_signal_reaches_all_tasks_and_the_job_goes_back_into_the_queue(script, job):
    process, said = job(script)
    task_lines(said, TASKS[script.stem])
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 75
    assert (said / "scontrol").read_text() == "requeue 12345678\n"


def test_a_job_that_fails_by_itself_does_not_start_again(job):
    process, said = job(SCRIPTS[0], status="2")
    assert process.wait(timeout=30) == 2
    assert not (said / "scontrol").exists()
