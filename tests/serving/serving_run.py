"""What the tests of the server share besides their fixtures."""

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request

import uvicorn

MODEL = 'weak'
PROMPT_TOKENS = 200  # the few-shot prompts of the run, and shorter ones


@contextlib.contextmanager
def running(server):
    """The address at which `server` answers, in a thread, from a real socket."""
    place = socket.create_server(('127.0.0.1', 0))
    http = uvicorn.Server(uvicorn.Config(server.app, log_config=None, lifespan='off', ws='none'))
    thread = threading.Thread(target=http.run, kwargs={'sockets': [place]})
    thread.start()
    while not http.started:
        time.sleep(0.01)
    try:
        yield f'http://127.0.0.1:{place.getsockname()[1]}'
    finally:
        http.should_exit = True
        thread.join()


def http(url, body=None, **headers):
    """(status, headers, body) of a request; a POST where there is a `body`."""
    request = urllib.request.Request(url, body, {'Content-Type': 'application/json'} | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as told:
            return told.status, told.headers, told.read()
    except urllib.error.HTTPError as told:
        return told.code, told.headers, told.read()
