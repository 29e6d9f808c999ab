"""Export, serve and ask, through the command line and across processes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from commands import command, environment

from experiments.compose import configured, plain, without
from experiments.export import OWN
from experiments.serve import options_of
from offloading.runtime.artefact import folder_of, read_manifest
from offloading.runtime.client import Client
from offloading.runtime.errors import RequestFailed
from offloading.runtime.options import Options
from offloading.runtime.process import ServerProcess
from offloading.runtime.segments import load_stage
from splitbench.rng import stream

IMAGES = torch.rand(3, 1, 28, 28, generator=stream(5, "images"))


@pytest.fixture(scope="module")
def plan(splitbench, tmp_path_factory):
    """A plan as a user exports it, of a model that is trained for it."""
    root = tmp_path_factory.mktemp("export")
    words = ["debug=smoke", "cuts=[relu3]", "codec=float16", f"paths.runs={root}/runs"]
    done = splitbench("export", *words, f"out={root}/plan")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["plan"] == read_manifest(folder_of(root / "plan", 0)).deployed.id
    assert said["segments"] == [str(folder_of(root / "plan", k)) for k in range(2)]
    return root / "plan"


def test_what_is_served_answers_from_another_process_and_ends_on_ctrl_c(plan, tmp_path):
    address = f"unix:{tmp_path}/s"
    words = command("serve", str(folder_of(plan, 1)), f"address={address}")
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = json.loads(server.stdout.readline())
            assert ready == {
                "address": address,
                "plan": read_manifest(folder_of(plan, 1)).deployed.id,
                "segment": 1,
                "pid": server.pid,
            }
            with Client.open(folder_of(plan, 0), address) as client:
                answers = [client.request(image) for image in IMAGES]
        finally:
            server.send_signal(signal.SIGINT)
        try:
            assert server.wait(20) == 0
        finally:
            server.kill()
        assert server.stdout.read() == ""
    assert {answer.pid for answer in answers} == {server.pid} != {os.getpid()}
    stage, client = load_stage(folder_of(plan, 1)), client.head
    for image, answer in zip(IMAGES, answers, strict=True):
        sent = client.codec.decode(client.codec.encode([client.client(image[None])[0][0]]))
        assert torch.equal(answer.logits, stage.module((sent[0][None],)))


def test_a_server_that_is_killed_in_the_middle_of_a_request_fails_it(plan, tmp_path):
    with (
        ServerProcess(folder_of(plan, 1), f"unix:{tmp_path}/s") as server,
        Client.open(folder_of(plan, 0), server.address, timeout_s=60.0) as client,
    ):
        assert client.request(IMAGES[0]).pid == server.pid
        os.kill(server.pid, signal.SIGSTOP)  # it holds the request and does not answer
        outcome = []

        def ask():
            try:
                outcome.append(client.request(IMAGES[0]))
            except RequestFailed as error:
                outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(0.5)
        assert asking.is_alive(), "the request was over before the server was killed"
        server.kill()
        asking.join(60)
        assert isinstance(outcome[0], RequestFailed)
        assert outcome[0].status == "UNAVAILABLE"
        with pytest.raises(RequestFailed):
            client.request(IMAGES[0])


MISTAKES = {
    "no folder": (["export", "debug=smoke", "cuts=[relu1]"], "out=DIR"),
    "many cuts": (["export", "debug=smoke", "out=x"], "say where to cut"),
    "two ways to cut": (["export", "segments=[relu1]", "cuts=[relu1]", "out=x"], "leave cuts"),
    "another policy": (["export", "cuts=[relu1]", "on_failure=hope", "out=x"], "local_exit"),
    "no such cut": (["export", "cuts=[relu9]", "out=x"], "did you mean 'relu"),
    "an unknown key": (["export", "cutz=[relu9]", "out=x"], "cutz"),
    "an option of a run": (["export", "cuts=[relu1]", "--out", "x"], "--out"),
    "no list of modules": (["export", "cuts=[relu1]", "out=x", "trust=mine"], "trust=[my_package]"),
    "no artefact": (["serve", "nowhere"], r"cannot read"),
    "half a certificate": (["serve", "nowhere", "cert=c.pem"], "needs its key"),
    "no segment": (["serve", "port=50051"], "first name a segment"),
    "a dash": (["serve", "nowhere", "--token-file", "t"], "write token_file=VALUE"),
    "an unknown setting": (["serve", "nowhere", "prot=1"], "did you mean 'port'"),
    "no number": (["serve", "nowhere", "port=high"], "port='high': want a whole number"),
    "no computing": (["serve", "nowhere", "parallel=0"], "parallel=0: want a whole number"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, tmp_path, monkeypatch, capsys):
    from experiments.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLITBENCH_RUNS", str(tmp_path / "runs"))
    words, said = MISTAKES[mistake]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize("word", ["export", "serve", "explain"])
def test_a_command_says_what_it_does(word, capsys):
    from experiments.cli import main

    assert main([word, "--help"]) == 0
    assert f"usage: splitbench {word}" in capsys.readouterr().out


def test_settings_of_a_server_are_those_that_a_process_understands(tmp_path):
    said = options_of(tmp_path, plain(configured("serve", [])))
    assert said == Options.of([str(tmp_path)]) == Options(folder=tmp_path)
    words = ["port=5", "token_file=t", "next=a:1", "trust=[one,two]", "threads=2", "parallel=3"]
    flags = ["--port", "5", "--token-file", "t", "--next", "a:1", "--trust", "one", "--trust"]
    flags += ["two", "--threads", "2", "--parallel", "3"]
    said = options_of(tmp_path, plain(configured("serve", words)))
    assert said == Options.of([str(tmp_path), *flags])
    assert said.trust == ("one", "two")


def test_a_server_reads_the_settings_of_ones_own_folder(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text("# @package _global_\ncert: c.pem\nport: 7\n")
    own = f"--config-dir={tmp_path}"
    said = options_of(tmp_path, plain(configured("serve", [own])))
    assert (said.cert, said.port) == (Path("c.pem"), 7)
    assert options_of(tmp_path, plain(configured("serve", [own, "port=8"]))).port == 8


def test_an_export_is_a_run_with_settings_of_its_own():
    found = plain(configured("export", ["debug=smoke", "defense=quantization", "defense.bits=4"]))
    run = plain(configured("run", ["debug=smoke", "defense=quantization", "defense.bits=4"]))
    assert without(found, *OWN) == run


def test_a_process_that_serves_does_not_wait_for_hydra():
    code = "import offloading.runtime.options, sys; sys.exit('hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import offloading.runtime.serve_process, sys; sys.exit('hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
