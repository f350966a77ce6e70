"""Watches the built-in model while it is loaded, streams an answer, and reads an error: load_and_generate.py [HOST:PORT]"""

import sys
from pathlib import Path

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

sys.path.append(str(Path(__file__).parent / "gen"))

from hangar.v1.inference_service_pb2 import ChatMessage, FinishReason, GenerateRequest
from hangar.v1.inference_service_pb2_grpc import InferenceServiceStub
from hangar.v1.model_pb2 import DemoSource, ModelSource, ModelSpec, ModelState, Sampling
from hangar.v1.model_service_pb2 import ChangeKind, GetInfoRequest, LoadModelRequest, WatchStatusRequest
from hangar.v1.model_service_pb2_grpc import ModelServiceStub


def load(models):
    """Loads the model while a watch follows it, until the watch has told that it is READY."""
    watch = models.WatchStatus(WatchStatusRequest(model_ids=["demo"]))
    ready = False
    for response in watch:
        ready |= any(status.state == ModelState.MODEL_STATE_READY for status in response.snapshot.models)
        if response.snapshot.complete:
            print("snapshot complete")
            break

    spec = ModelSpec(source=ModelSource(demo=DemoSource()))
    loaded = models.LoadModel(LoadModelRequest(model_id="demo", spec=spec, wait=True)).loads[0]
    print("loaded", loaded.model_id)

    while not ready:
        changed = next(watch).changed
        if changed.kind == ChangeKind.CHANGE_KIND_TRANSITION:
            print("watched", ModelState.Name(changed.status.state))
            ready = changed.status.state == ModelState.MODEL_STATE_READY
    watch.cancel()


def generate(inference):
    """Prints an answer as it is made."""
    request = GenerateRequest(
        model_id="demo",
        messages=[ChatMessage(role="user", content="What is Hangar?")],
        sampling=Sampling(temperature=0),
        max_tokens=64,
    )
    for response in inference.Generate(request):
        if response.WhichOneof("event") == "chunk":
            print(response.chunk.text, end="", flush=True)
        else:
            print(f"\n{FinishReason.Name(response.done.finish_reason)}, {response.done.usage.completion_tokens} tokens")


def fail(models):
    """Asks for a model that is not there, and prints the ErrorInfo that every error of Hangar carries."""
    try:
        models.GetInfo(GetInfoRequest(model_id="nobody"))
    except grpc.RpcError as error:
        info = ErrorInfo()
        if not any(detail.Unpack(info) for detail in rpc_status.from_call(error).details):
            raise
        print(info.reason, info.domain)
        for key, value in sorted(info.metadata.items()):
            print(f"{key}={value}")


with grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051") as channel:
    load(ModelServiceStub(channel))
    generate(InferenceServiceStub(channel))
    fail(ModelServiceStub(channel))
