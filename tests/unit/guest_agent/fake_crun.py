"""Plays crun for the tests: containers are plain processes of the host, without namespaces or cgroups.

A container is a session, and `delete` kills all of it. Kept is what the agent relies on: the same command line, init
waiting for `start`, the child left behind to the caller, pid files, console sockets, errors in the JSON log with
crun's words.
"""

import json
import os
import pty
import shutil
import signal
import socket
import sys


def options(arguments):
    known, rest = {}, []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word in ("--force", "--detach"):
            known[word] = "yes"
        elif word.startswith("--"):
            known[name] = value if equals else next(words)
        else:
            rest.append(word)
    return known, rest


def fail(log, message):
    with open(log, "a") as file:
        file.write(json.dumps({"msg": message, "level": "error", "time": "now"}) + "\n")
    sys.exit(1)


def find(process, log):
    name = process["args"][0]
    path = dict(entry.split("=", 1) for entry in process["env"]).get("PATH", "/bin")
    full = name if "/" in name else shutil.which(name, path=path)
    if not full or not os.path.exists(full):
        fail(log, f"executable file `{name}` not found in $PATH: No such file or directory")
    if os.path.isdir(full) or not os.access(full, os.X_OK):
        fail(log, "open executable: Permission denied")
    return full


def child(process, program, console, gate):
    slave = None
    if console:
        master, slave = pty.openpty()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(console)
            socket.send_fds(sock, [b"console"], [master])
        os.close(master)
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    if slave is not None:
        for fd in range(3):
            os.dup2(slave, fd)
    if gate:
        with open(gate) as file:
            file.read()
    return os.execve(program, process["args"], dict(entry.split("=", 1) for entry in process["env"]))


def main():
    known, (command, *rest) = options(sys.argv[1:])
    log, place = known["--log"], os.path.join(known["--root"], rest[-1])
    if command == "create":
        with open(os.path.join(known["--bundle"], "config.json")) as file:
            process = json.load(file)["process"]
        program = find(process, log)
        os.makedirs(place)
        os.mkfifo(f"{place}/gate")
        pid = child(process, program, known.get("--console-socket"), f"{place}/gate")
        with open(f"{place}/pid", "w") as file:
            file.write(str(pid))
    elif command == "start":
        with open(f"{place}/gate", "w"):
            pass
        return
    elif command == "exec":
        with open(known["--process"]) as file:
            process = json.load(file)
        pid = child(process, find(process, log), known.get("--console-socket"), None)
    elif command == "update":
        shutil.copy(known["--resources"], f"{place}/resources.json")
        return
    elif command == "delete":
        if os.path.exists(f"{place}/pid"):
            with open(f"{place}/pid") as file:
                try:
                    os.killpg(int(file.read()), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        shutil.rmtree(place, ignore_errors=True)
        return
    with open(known["--pid-file"], "w") as file:
        file.write(str(pid))


main()
