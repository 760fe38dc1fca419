"""`mien` and `python` for tests: forks of one process that has imported what they need.

Most of what a short command costs is importing PyTorch, OpenCV and ONNX Runtime. Here that is paid once: ``serve``
imports them and waits; ``mien`` and ``python``, small programs, hand it arguments, folder, environment and their
standard streams; a fork of it runs `mien.cli.main`, or the code behind ``-c``, and answers with the exit status.
"""

import importlib
import json
import os
import signal
import socket
import sys
import traceback
import types
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

IMPORTED = (
    "cv2", "faiss", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "onnx", "onnxruntime",
    "rich.progress", "scipy.optimize", "torch", "torch._dynamo", "torch.utils.tensorboard", "mien.analyzer",
    "mien.cli.main", "mien.evaluation.audit", "mien.evaluation.generation", "mien.gallery", "mien.networks.tracing",
    "mien.training.classifier", "mien.training.expression", "mien.training.gan", "mien.training.vae",
)  # fmt: skip
CLIENT = """#!{python} -SE
import json, os, socket, sys
argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    status = server.recv(1)
sys.exit(status[0] if status else 1)
"""


@contextmanager
def commands_by_fork(folder):
    """Yield a folder whose `mien` and `python` run in forks of a server, which ends with the block."""
    address = str(folder / "server")
    for name in ("mien", "python"):
        client = folder / name
        client.write_text(CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
    # Numerical libraries that have started threads do not survive a fork.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with Popen([sys.executable, __file__, address], stdout=PIPE, env=environment) as server:
        try:
            assert server.stdout.readline() == b"ready\n", "the server of commands has not come up"
            yield folder
        finally:
            server.kill()


def serve(address):
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks that have ended leave nothing behind
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                answer(client)
            client.close()


def answer(client):
    """Run one command and end the process."""
    size, streams, _, _ = socket.recv_fds(client, 4, 3)
    call, missing = b"", int.from_bytes(size, "big")
    while missing > len(call):
        call += client.recv(missing - len(call))
    arguments, folder, environment = json.loads(call)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    try:
        status = run(*arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(bytes([status or 0]))
    os._exit(0)


def run(program, *arguments):
    """Run `mien` with arguments, or `python -c CODE` with some."""
    if program == "mien":
        from mien.cli.main import main

        sys.argv = ["mien", *arguments]
        return main()
    flag, code, *arguments = arguments
    assert flag == "-c", "python runs code here"
    sys.argv = ["-c", *arguments]
    module = types.ModuleType("__main__")  # where dataclasses look for what names mean
    sys.modules["__main__"] = module
    exec(code, module.__dict__)
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]).as_posix())
