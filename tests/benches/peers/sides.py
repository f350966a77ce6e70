"""The two that are compared, each as something that loads a model, answers and ends."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
import reflected  # noqa: E402

# Of a call, in seconds. Nothing takes as long that is worth a measurement.
reflected.DEADLINE = 600


def memory(pid):
    """Resident memory of a process in MiB: all of it, and the anonymous part."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    mib = {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "RssShmem")}
    return mib["VmRSS"], mib["RssAnon"] + mib["RssShmem"]


def is_there(pid):
    """Whether a process lives or waits to be reaped."""
    return pathlib.Path(f"/proc/{pid}").exists()


class Hangar:
    """A server, which lives through all loads."""

    name = "Hangar"

    def __init__(self, programs, models, folder):
        command = [programs / "hangar", "serve", "--model-root", models, "--data-dir", folder / "data"]
        command += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--prepared-cache-size", "0"]
        self.log = (folder / "hangar.log").open("w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.server = reflected.Server(json.loads(self.process.stdout.readline())["listen"])
        # Asked now, so that no measurement has to wait for descriptions.
        self.server.methods()
        self.call("ModelService/GetInfo", {})

    def call(self, method, request):
        return self.server.call(f"hangar.v1.{method}", request)

    def load(self, path, dtype=None):
        spec = {"source": {"path": str(path)}} | ({"dtype": dtype} if dtype else {})
        # Registered before, as a model of a service is; the worker is what is loaded.
        self.call("ModelService/LoadModel", {"model_id": "m", "spec": spec, "wait": True})
        info = self.call("ModelService/GetInfo", {"model_id": "m"})
        self.pid = info["models"][0]["status"]["worker_pid"]

    def stream(self, prompt, tokens, reuse):
        request = {"model_id": "m", "prompt": prompt, "max_tokens": tokens, "sampling": {"temperature": 0}}
        for event in self.call("InferenceService/Generate", request):
            yield len(event.get("chunk", {}).get("token_ids", []))

    def unload(self):
        self.call("ModelService/UnloadModel", {"model_id": "m"})
        assert not is_there(self.pid), "the worker is there after its unload"
        self.call("CatalogService/DeleteModel", {"model_id": "m"})

    def unload_dead(self):
        """Ends a model whose worker was killed, and whose restart may be under way."""
        self.call("ModelService/UnloadModel", {"model_id": "m", "force": True})

    def kill_until_told(self):
        """Seconds from the death of the worker to the event that tells it."""
        watch = self.call("ModelService/WatchStatus", {"model_ids": ["m"]})
        while not next(watch).get("snapshot", {}).get("complete"):
            pass
        began = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        while "changed" not in next(watch):
            pass
        told = time.monotonic() - began
        watch.cancel()
        return told

    def kernels(self):
        return self.call("ModelService/GetInfo", {})["server"].get("engine_kernels", "unknown")

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class LlamaServer:
    """llama-server, which is started for each load."""

    name = "llama.cpp"

    def __init__(self, program, folder):
        self.program = program
        self.log = (folder / "llama-server.log").open("w")

    def load(self, path, dtype=None):
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [self.program, "--model", path, "--port", str(self.port), "--host", "127.0.0.1", "--ctx-size", "8192"]
        command += ["--parallel", "4", "--no-webui"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        while self.health() != 200:
            assert self.process.poll() is None, "llama-server has ended: see its log"
            time.sleep(0.005)

    def health(self):
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
                connection.request("GET", "/health")
                return connection.getresponse().status
        except OSError:
            return None

    def stream(self, prompt, tokens, reuse):
        request = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "stream": True, "ignore_eos": True}
        request |= {"cache_prompt": reuse}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("POST", "/completion", json.dumps(request), {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            for line in response:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    yield 0 if event.get("stop") else 1

    def unload(self):
        self.process.terminate()
        self.process.wait()

    def end(self):
        self.log.close()
