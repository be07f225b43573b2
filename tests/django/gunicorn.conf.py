import os
import signal
import threading
from pathlib import Path

bind = "127.0.0.1:0"
workers = 2
worker_class = os.environ["WORKER_CLASS"]
threads = 4 if worker_class == "gthread" else 1
keepalive = 30
timeout = 120
control_socket_disable = True


def when_ready(server):
    """Says which port it got, and ends the server with the process that holds its input."""
    port = server.LISTENERS[0].sock.getsockname()[1]
    partial = Path(os.environ["DATA"], "port.partial")
    partial.write_text(str(port))
    partial.rename(partial.with_name("port"))

    def end_with_parent():
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGQUIT)

    threading.Thread(target=end_with_parent, daemon=True).start()
