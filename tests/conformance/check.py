"""Checks a running server with Python's own gRPC client: check.py CHECK HOST:PORT MODEL_PATH"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflected import DEADLINE, Server

MODELS = "hangar.v1.ModelService"
INFERENCE = "hangar.v1.InferenceService"
TRANSITION = "CHANGE_KIND_TRANSITION"


def equal(actual, expected):
    """Ends the check unless both are the same."""
    if actual != expected:
        sys.exit(f"expected {expected!r}, got {actual!r}")


def states_to(watch, last):
    """The states that a watch tells up to the last one, which is included."""
    states = []
    while not states or states[-1] != last:
        changed = next(watch)["changed"]
        if changed["kind"] == TRANSITION:
            states.append(changed["status"]["state"].removeprefix("MODEL_STATE_"))
            equal(changed["revision"], str(len(states)))
    return states


def rpcs(server, path):
    """Each method of the API works, with a model at `path` that has a token for each byte."""
    watch = server.call(f"{MODELS}/WatchStatus", {})
    equal(next(watch)["snapshot"], {"complete": True})
    load = {"model_id": "m", "spec": {"source": {"path": path}}, "wait": True}
    loads = server.call(f"{MODELS}/LoadModel", load)["loads"]
    equal(loads[0]["status"]["state"], "MODEL_STATE_READY")
    states = states_to(watch, "READY")
    equal(states, ["PENDING", "STARTING", "LOADING", "WARMING", "READY"])
    watch.cancel()

    info = server.call(f"{MODELS}/GetInfo", {"model_id": "m", "include_metrics": True})
    equal(info["models"][0]["metadata"]["architecture"], "LlamaForCausalLM")

    prompt = {"model_id": "m", "prompt": "hello", "max_tokens": 5, "sampling": {"temperature": 0.0}}
    *chunks, last = server.call(f"{INFERENCE}/Generate", prompt)
    equal("".join(chunk["chunk"].get("text", "") for chunk in chunks) != "", True)
    equal(last["done"]["finish_reason"], "FINISH_REASON_LENGTH")
    equal(last["done"]["usage"], {"prompt_tokens": 5, "completion_tokens": 5})

    tokens = server.call(f"{INFERENCE}/Tokenize", {"model_id": "m", "text": "hello"})["token_ids"]
    equal(len(tokens), 5)
    text = server.call(f"{INFERENCE}/Detokenize", {"model_id": "m", "token_ids": tokens})["text"]
    equal(text, "hello")

    unload = server.call(f"{MODELS}/UnloadModel", {"model_id": "m"})["unloads"][0]
    equal(unload["was_loaded"], True)
    equal(unload["verification"], "UNLOAD_VERIFICATION_REAPED")
    equal(int(unload["host_bytes_freed"]) > 0, True)


def methods(server, _path):
    """Reflection lists every service, and describes each of their methods."""
    expected = {
        "grpc.health.v1.Health": ["Check", "Watch"],
        "grpc.reflection.v1.ServerReflection": ["ServerReflectionInfo"],
        "grpc.reflection.v1alpha.ServerReflection": ["ServerReflectionInfo"],
        "hangar.v1.CatalogService": ["CreateModel", "DeleteModel", "GetModel", "ListModels", "UpdateModel"],
        INFERENCE: ["Detokenize", "Embed", "Generate", "Tokenize"],
        MODELS: ["GetInfo", "LoadModel", "SwitchModel", "UnloadModel", "WatchStatus"],
        "hangar.v1.SessionService": ["CloseSession", "CreateSession", "GetSession", "KeepAlive"],
        "inference.GRPCInferenceService": [
            "ModelConfig",
            "ModelInfer",
            "ModelMetadata",
            "ModelReady",
            "ModelStatistics",
            "ModelStreamInfer",
            "RepositoryIndex",
            "RepositoryModelLoad",
            "RepositoryModelUnload",
            "ServerLive",
            "ServerMetadata",
            "ServerReady",
        ],
    }
    equal(server.services(), sorted(expected))
    described = [f"{service}/{name}" for service, names in expected.items() for name in names]
    equal(server.methods(), sorted(described))


def refused(server, method, request, code, reason, *types):
    """A call ends with this code and reason, and with details of these types. Gives the details."""
    try:
        answer = server.call(method, request)
        for _ in answer if hasattr(answer, "cancel") else ():
            pass
    except grpc.RpcError as error:
        details = server.details(error)
        equal((method, error.code()), (method, code))
        info = details["google.rpc.ErrorInfo"]
        equal((info["reason"], info["domain"]), (reason, "hangar.v1"))
        equal(sorted(details), sorted(["google.rpc.ErrorInfo", *types]))
        return details
    sys.exit(f"{method} succeeded")


def errors(server, path):
    """Errors tell what is wrong in words. The worker of the model at `path` dies at a token."""
    code = grpc.StatusCode
    load = {"model_id": "m", "spec": {"source": {"path": path}}, "wait": True}
    load["spec"]["restart_policy"] = {"mode": "RESTART_MODE_NEVER"}
    server.call(f"{MODELS}/LoadModel", load)

    request = {"model_id": "nope"}
    details = refused(
        server, f"{MODELS}/GetInfo", request, code.NOT_FOUND, "MODEL_NOT_FOUND", "google.rpc.ResourceInfo"
    )
    equal(details["google.rpc.ErrorInfo"]["metadata"], {"model_id": "nope", "known_model_ids": "m"})
    equal(details["google.rpc.ResourceInfo"]["resource_name"], "nope")

    request = {"model_id": "../x", "timeout": "-1s"}
    details = refused(
        server, f"{MODELS}/LoadModel", request, code.INVALID_ARGUMENT, "INVALID_FIELD", "google.rpc.BadRequest"
    )
    fields = [v["field"] for v in details["google.rpc.BadRequest"]["field_violations"]]
    equal(sorted(fields), ["model_id", "timeout"])

    request = {"model_id": "m", "spec": {"source": {"path": path}, "display_name": "another"}}
    details = refused(
        server,
        f"{MODELS}/LoadModel",
        request,
        code.FAILED_PRECONDITION,
        "SPEC_CONFLICT",
        "google.rpc.PreconditionFailure",
    )
    equal(details["google.rpc.PreconditionFailure"]["violations"][0]["subject"], "m")

    request = {"resume_token": "x"}
    refused(server, f"{MODELS}/WatchStatus", request, code.INVALID_ARGUMENT, "TOKEN_INVALID")
    request = {"model_id": "m", "inputs": ["x"]}
    refused(server, f"{INFERENCE}/Embed", request, code.FAILED_PRECONDITION, "UNSUPPORTED_BY_MODEL")
    request = {"model_id": "later", "spec": {"source": {"path": path}, "kind": "MODEL_KIND_IMAGE"}}
    refused(server, f"{MODELS}/LoadModel", request, code.UNIMPLEMENTED, "NOT_IMPLEMENTED")

    request = {"model_id": "m", "prompt": "x"}
    details = refused(
        server, f"{INFERENCE}/Generate", request, code.UNAVAILABLE, "WORKER_DIED", "google.rpc.RetryInfo"
    )
    equal("retry_delay" in details["google.rpc.RetryInfo"], True)
    # The model is FAILED now, and stays so.
    refused(server, f"{INFERENCE}/Generate", request, code.FAILED_PRECONDITION, "MODEL_NOT_LOADED")


def words(server, path):
    """A template that refuses with the caller's words gives an error that this client takes."""
    template = "{% if effort is defined %}{{ raise_exception('unknown effort: ' ~ effort) }}{% endif %}assistant:"
    load = {"model_id": "m", "spec": {"source": {"path": path}, "chat_template": template}, "wait": True}
    pid = server.call(f"{MODELS}/LoadModel", load)["loads"][0]["status"]["worker_pid"]
    for effort in ["x" * 4_000, "x" * 5_000, "\u00f6" * 5_000, "\U0001f600" * 15_000]:
        request = {"model_id": "m", "messages": [{"role": "user", "content": "Hi"}]}
        request["chat_template_options"] = {"effort": effort}
        code = grpc.StatusCode.INVALID_ARGUMENT
        refused(server, f"{INFERENCE}/Generate", request, code, "INVALID_FIELD", "google.rpc.BadRequest")
    model = server.call(f"{MODELS}/GetInfo", {"model_id": "m"})["models"][0]
    equal((model["status"]["state"], model["status"]["worker_pid"]), ("MODEL_STATE_READY", pid))


def health(server, path):
    """Health checks and watches tell how services and models are."""
    stub = health_pb2_grpc.HealthStub(server.channel)
    status = health_pb2.HealthCheckResponse.ServingStatus

    def ask(service):
        return health_pb2.HealthCheckRequest(service=service)

    for service in ["", "liveness", "readiness", "startup", MODELS, INFERENCE]:
        equal(stub.Check(ask(service), timeout=DEADLINE).status, status.Value("SERVING"))
    try:
        stub.Check(ask("model/m"), timeout=DEADLINE)
        sys.exit("an unknown service is known")
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.NOT_FOUND)
        equal(sorted(server.details(error)), ["google.rpc.ErrorInfo", "google.rpc.ResourceInfo"])

    watch = stub.Watch(ask("model/m"), timeout=DEADLINE)
    equal(next(watch).status, status.Value("SERVICE_UNKNOWN"))
    load = {"model_id": "m", "spec": {"source": {"path": path}}}
    server.call(f"{MODELS}/LoadModel", load)
    equal(next(watch).status, status.Value("NOT_SERVING"))
    equal(next(watch).status, status.Value("SERVING"))
    server.call(f"{MODELS}/UnloadModel", {"model_id": "m"})
    equal(next(watch).status, status.Value("NOT_SERVING"))
    watch.cancel()


CHECKS = {check.__name__: check for check in (rpcs, methods, errors, words, health)}


if __name__ == "__main__":
    name, address, path = sys.argv[1:]
    CHECKS[name](Server(address), path)
    print("ok")
