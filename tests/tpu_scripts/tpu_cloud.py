"""A Google Cloud of our own: what it is told to do, what it was asked, and a port for stand_in.sh."""

import re
import socketserver
import threading
from pathlib import Path


class Cloud:
    """Answers gcloud, and the sleep and cosample beside it. `calls` has argv of each call, the name first.

    What it does is told by `world`:

        create   one answer a request: 'ok', or the error; the last is repeated. So is `delete`
        slices   one for each that is created; the last is repeated:
            states   of the queued resource, one an answer; the last is repeated
            why      of one that FAILED
            workers  how many
            ssh      worker -> how many times it refuses before it answers (-1: always)
            setup    exit codes as text, of worker_setup.sh on worker 0; or a happening
            run      what worker_state.sh says on worker 0 once the command was launched; or a happening
        objects  what lies on gs:// at the start
        plan, plan_code   what `cosample plan` says and ends with

    A happening: 'SUSPENDED' or any other state becomes the queued resource's, 'node PREEMPTED' the slice's, and the
    worker does not answer; 'done': the run's DONE marker is there.
    """

    def __init__(self, world: dict):
        self.calls: list[list[str]] = []
        self._world, self._taken, self._lock = world, {}, threading.Lock()
        self._objects = list(world.get('objects', []))
        self._made, self._there = 0, False
        self._server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self):
        cloud = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                count = int(self._word()) + 1
                argv = [self._word() for _ in range(count)]
                with cloud._lock:
                    cloud.calls.append(argv)
                    code, text = cloud._answer(*argv)
                self.wfile.write(f'{code}\n{text}'.encode() + (b'\n' if text else b''))

            def _word(self) -> str:
                word = bytearray()
                while (byte := self.rfile.read(1)) != b'\0':
                    word += byte
                return word.decode()

        return Handler

    def _answer(self, name: str, *argv: str) -> tuple[int, str]:
        """Exit code and text; the text of a failure goes to stderr."""
        if name == 'sleep':
            return 0, ''
        if name == 'cosample':
            return self._world.get('plan_code', 0), self._world.get('plan', 'it fits')
        if argv[0] == 'storage':
            return self._storage(*argv[1:])
        if argv[1] == 'disks':
            return (1, 'ERROR: not found') if argv[2] == 'describe' and not self._world.get('disk') else (0, '')
        return self._tpus(' '.join(argv[2:4]), argv)

    def _take(self, name: str, answers: list):
        """The next of the answers; the last for ever."""
        index = self._taken.get(name, 0)
        self._taken[name] = index + 1
        return answers[min(index, len(answers) - 1)]

    def _tpus(self, verb: str, argv: tuple[str, ...]) -> tuple[int, str]:
        if verb == 'queued-resources create':
            answer = self._take('create', self._world.get('create', ['ok']))
            if answer != 'ok':
                return 1, f'ERROR: (gcloud.compute.tpus.queued-resources.create) {answer}'
            self._made, self._there = self._made + 1, True
            self._copied = self._launched = False
            self._forced, self._node = '', 'READY'
            return 0, ''
        if not self._there:
            return 1, f'ERROR: (gcloud.compute.tpus) NOT_FOUND: Resource {argv[4]} was not found'
        slices = self._world['slices']
        now = slices[min(self._made, len(slices)) - 1]
        if verb == 'queued-resources delete':
            error = self._take('delete', self._world.get('delete', ['ok']))
            self._there = error != 'ok'
            return (1, f'ERROR: {error}') if self._there else (0, '')
        if verb == 'queued-resources describe':
            if 'failedData' in ' '.join(argv):
                return 0, now['why']
            state = self._forced or self._take(f'{self._made} states', now.get('states', ['ACTIVE']))
            return (1, 'ERROR: could not reach the service') if state == 'UNKNOWN' else (0, state)
        if verb == 'tpu-vm describe':
            return 0, str(now.get('workers', 1)) if 'networkEndpoints' in ' '.join(argv) else self._node
        if verb == 'tpu-vm scp':
            self._copied = True
            empty = [word for word in argv[4:] if word.startswith('/') and not Path(word).stat().st_size]
            return (1, f'empty: {empty}') if empty else (0, '')
        assert verb == 'tpu-vm ssh', argv
        worker, command = (re.search(rf'--{flag}=(.*)', '\n'.join(argv))[1] for flag in ('worker', 'command'))
        return self._ssh(now, worker, command)

    def _ssh(self, now: dict, worker: str, command: str) -> tuple[int, str]:
        mine = f'{self._made} ssh {worker}'
        refuse = now.get('ssh', {}).get(worker, 0)
        if self._forced or self._node != 'READY' or refuse == -1 or self._taken.get(mine, 0) < refuse:
            self._take(mine, [''])
            return 255, 'ssh: connect to host 203.0.113.7 port 22: Connection timed out'
        script = command.removeprefix('bash ').split(' ')[0]
        if script.startswith('worker_') and not self._copied:
            return 127, f'bash: {script}: No such file or directory'
        if script == 'worker_setup.sh' and worker == '0':
            return self._happen(self._take(f'{self._made} setup', now.get('setup', ['0'])))
        if script == 'worker_launch.sh':
            self._launched = True
            return 0, 'started: cosample run'
        if script == 'worker_state.sh':
            if not self._launched:
                return 0, 'idle'
            return self._happen(self._take(f'{self._made} run', now.get('run', ['running'])))
        return 0, f'{worker}: a line of the log' if command.startswith('tail') else ''

    def _happen(self, what: str) -> tuple[int, str]:
        if what.isdecimal():
            return int(what), f'exit {what}'
        if what == 'done':
            self._objects.append('gs://bucket/run/done/report.json')
            return 0, 'ended with 0'
        if what.startswith('node ') or what.isupper():
            self._node, self._forced = (what[5:], '') if what.startswith('node ') else (self._node, what)
            return 255, 'ssh: connection closed'
        self._launched = what == 'running'
        return 0, f'{what}\nsample: 40% of 7,000 problems'

    def _storage(self, verb: str, *argv: str) -> tuple[int, str]:
        if verb == 'rsync':
            return 0, ''
        found = [name for name in self._objects if name.startswith(argv[0])]
        return (0, '\n'.join(found)) if found else (1, 'ERROR: One or more URLs matched no objects.')
