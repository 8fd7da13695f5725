"""Holds the address of a server while it restarts, as systemd does: `held_socket.py BINARY serve … --listen HOST:PORT`.

SIGHUP restarts the server behind the socket, SIGTERM ends both.
"""

import os
import signal
import socket
import sys

SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD}
HELD = 3  # The first descriptor that a held socket has.

host, port = sys.argv[sys.argv.index("--listen") + 1].rsplit(":", 1)
held = socket.create_server((host, int(port)), backlog=512)
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def start():
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.dup2(held.fileno(), HELD)
        os.set_inheritable(HELD, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execv(sys.argv[1], sys.argv[1:])
    return child


def end(child):
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)


child = start()
while True:
    told = signal.sigwait(SIGNALS)
    if told == signal.SIGCHLD:
        # It may be one that was ended above. A server that ends by itself ends this too.
        if os.waitpid(child, os.WNOHANG)[0] == child:
            sys.exit(1)
        continue
    end(child)
    if told == signal.SIGTERM:
        sys.exit(0)
    child = start()
