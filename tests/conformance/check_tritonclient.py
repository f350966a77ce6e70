"""Checks a running server with Triton's own client: check_tritonclient.py CHECK HOST:PORT ANSWERS DESCRIPTORS"""

import json
import queue
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

DEADLINE = 60


def equal(actual, expected):
    """Ends the check unless both are the same."""
    if actual != expected:
        sys.exit(f"expected {expected!r}, got {actual!r}")


def refused(code, word, call, *arguments, **options):
    """A call ends with this code and a message with this word."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        equal(error.status(), f"StatusCode.{code}")
        equal(word in error.message(), True)
        return
    sys.exit(f"{call.__name__} succeeded")


def text(name, value):
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value.encode()], dtype=np.object_))
    return tensor


def flag(name, value):
    tensor = triton.InferInput(name, [1], "BOOL")
    tensor.set_data_from_numpy(np.array([value], dtype=bool))
    return tensor


def asked(question):
    """A question as the demo model's chat template puts it."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def inputs(question, *more):
    sampling = json.dumps({"temperature": "0", "max_tokens": "128"})
    return [text("text_input", asked(question)), text("sampling_parameters", sampling), *more]


def life(client, _answers, _descriptors):
    """A model is found, loaded, described, counted and unloaded."""
    equal(client.is_server_live(), True)
    equal(client.is_server_ready(), True)
    equal(client.get_server_metadata().name, "hangar")
    equal("model_repository" in client.get_server_metadata().extensions, True)
    equal(client.is_model_ready("demo"), False)
    equal(list(client.get_model_repository_index().models), [])

    client.load_model("demo")
    equal(client.is_model_ready("demo"), True)
    equal(client.is_model_ready("demo", "1"), True)
    index = client.get_model_repository_index().models
    equal([(model.name, model.version, model.state) for model in index], [("demo", "1", "READY")])

    metadata = client.get_model_metadata("demo")
    equal([tensor.name for tensor in metadata.inputs][:2], ["text_input", "stream"])
    equal(metadata.outputs[0].datatype, "BYTES")
    config = client.get_model_config("demo").config
    equal(config.model_transaction_policy.decoupled, True)
    equal([tensor.name for tensor in config.input], [tensor.name for tensor in metadata.inputs])
    equal(config.input[0].data_type, triton.model_config_pb2.TYPE_STRING)

    client.infer("demo", inputs("Hello"))
    (statistics,) = client.get_inference_statistics("demo").model_stats
    equal(statistics.inference_count, 1)
    equal(statistics.inference_stats.success.count, 1)
    equal(len(client.get_inference_statistics().model_stats), 1)

    client.unload_model("demo")
    equal(client.is_model_ready("demo"), False)
    (model,) = client.get_model_repository_index().models
    equal((model.state, model.reason), ("UNAVAILABLE", "unloaded"))


def infer(client, answers, _descriptors):
    """The demo model says what it was taught, with counts and a reason."""
    client.load_model("demo")
    more = [
        flag("exclude_input_in_output", True),
        flag("return_finish_reason", True),
        flag("return_num_input_tokens", True),
        flag("return_num_output_tokens", True),
    ]
    for number, taught in enumerate(answers[:6]):
        result = client.infer("demo", inputs(taught["prompt"], *more), request_id=str(number))
        equal(result.as_numpy("text_output")[0].decode(), taught["answer"])
        equal(result.as_numpy("finish_reason")[0], b"stop")
        equal(result.as_numpy("num_input_tokens").dtype, np.uint32)
        equal(int(result.as_numpy("num_output_tokens")[0]) > 1, True)
        equal(result.get_response().id, str(number))
    wanted = [triton.InferRequestedOutput("finish_reason")]
    result = client.infer("demo", inputs("Hello"), outputs=wanted)
    equal(result.as_numpy("text_output"), None)
    equal(result.as_numpy("finish_reason")[0], b"stop")
    echoed = client.infer("demo", inputs("Hello")).as_numpy("text_output")[0].decode()
    equal(echoed, asked("Hello") + answers[0]["answer"])

    results = queue.Queue()
    client.async_infer("demo", inputs("Hello", more[0]), lambda result, error: results.put((result, error)))
    result, error = results.get(timeout=DEADLINE)
    equal(error, None)
    equal(result.as_numpy("text_output")[0].decode(), answers[0]["answer"])


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def stream(client, answers, _descriptors):
    """Requests of one stream are answered in pieces, side by side; one that fails does not end it."""
    client.load_model("demo")
    results = queue.Queue()
    client.start_stream(lambda result, error: results.put((result, error)), stream_timeout=DEADLINE)
    for number, taught in enumerate(answers[:6]):
        client.async_stream_infer(
            "demo",
            inputs(taught["prompt"], flag("stream", True)),
            request_id=str(number),
            enable_empty_final_response=number % 2 == 0,
        )
    texts = {str(number): "" for number in range(6)}
    pieces, ended, empty = 0, 0, 0
    while ended < len(texts):
        result, error = results.get(timeout=DEADLINE)
        equal(error, None)
        response = result.get_response()
        if response.outputs:
            texts[response.id] += result.as_numpy("text_output")[0].decode()
            pieces += 1
        else:
            equal(is_final(result), True)
            empty += 1
        ended += is_final(result)
    equal(list(texts.values()), [taught["answer"] for taught in answers[:6]])
    equal(empty, 3)
    equal(pieces > 30, True)

    client.async_stream_infer("nope", inputs("Hello"))
    result, error = results.get(timeout=DEADLINE)
    equal((result, "nope" in error.message()), (None, True))
    client.async_stream_infer("demo", inputs("Hello", flag("exclude_input_in_output", True)))
    result, error = results.get(timeout=DEADLINE)
    equal((error, is_final(result)), (None, True))
    equal(result.as_numpy("text_output")[0].decode(), answers[0]["answer"])
    client.stop_stream()


def errors(client, _answers, _descriptors):
    """Errors have the codes of the server's other services."""
    client.load_model("demo")
    refused("NOT_FOUND", "nope", client.infer, "nope", inputs("Hello"))
    refused("NOT_FOUND", "version 1", client.infer, "demo", inputs("Hello"), model_version="9")
    refused("NOT_FOUND", "nope", client.get_model_metadata, "nope")
    refused("NOT_FOUND", "nope", client.get_model_config, "nope")
    refused("NOT_FOUND", "nope", client.load_model, "nope")
    refused("NOT_FOUND", "nope", client.unload_model, "nope")
    refused("INVALID_ARGUMENT", "text_input", client.infer, "demo", [])
    refused("INVALID_ARGUMENT", "extra", client.infer, "demo", inputs("Hello", text("extra", "x")))
    wrong = triton.InferInput("text_input", [2], "BYTES")
    wrong.set_data_from_numpy(np.array([b"a", b"b"], dtype=np.object_))
    refused("INVALID_ARGUMENT", "shape", client.infer, "demo", [wrong])
    wrong = triton.InferInput("text_input", [1], "FP32")
    wrong.set_data_from_numpy(np.array([1.0], dtype=np.float32))
    refused("INVALID_ARGUMENT", "BYTES", client.infer, "demo", [wrong])
    sampling = [text("text_input", "x"), text("sampling_parameters", '{"best_of": 2}')]
    refused("INVALID_ARGUMENT", "best_of", client.infer, "demo", sampling)
    refused("INVALID_ARGUMENT", "ModelStreamInfer", client.infer, "demo", inputs("Hello", flag("stream", True)))
    refused("UNIMPLEMENTED", "config", client.load_model, "demo", config="{}")
    refused("UNIMPLEMENTED", "", client.get_system_shared_memory_status)
    refused("UNIMPLEMENTED", "", client.get_trace_settings)
    client.unload_model("demo")
    refused("FAILED_PRECONDITION", "not loaded", client.infer, "demo", inputs("Hello"))


def embed(client, _answers, _descriptors):
    """An embedding model gives a vector of length one for each text, whatever the shape of the input."""
    client.load_model("e")
    metadata = client.get_model_metadata("e")
    equal([(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs], [("text_input", "BYTES", [-1])])
    ((name, datatype, shape),) = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs]
    equal((name, datatype, shape), ("embedding", "FP32", [-1, 64]))
    config = client.get_model_config("e").config
    equal((config.model_transaction_policy.decoupled, list(config.output[0].dims)), (False, [-1, 64]))

    words = ["one", "two", "three"]
    results = {}
    for shape in ([3], [3, 1]):
        tensor = triton.InferInput("text_input", shape, "BYTES")
        tensor.set_data_from_numpy(np.array([word.encode() for word in words], dtype=np.object_).reshape(shape))
        result = client.infer("e", [tensor], request_id="7")
        vectors = result.as_numpy("embedding")
        equal((vectors.shape, vectors.dtype, result.get_response().id), ((3, 64), np.float32, "7"))
        equal(bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)), True)
        results[len(shape)] = vectors
    equal(bool((results[1] == results[2]).all()), True)
    (alone,) = client.infer("e", [text("text_input", "two")]).as_numpy("embedding")
    equal(bool((alone == results[1][1]).all()), True)
    (statistics,) = client.get_inference_statistics("e").model_stats
    equal(statistics.inference_count, 3)

    refused("INVALID_ARGUMENT", "stream", client.infer, "e", [text("text_input", "x"), flag("stream", True)])
    refused("INVALID_ARGUMENT", "text_output", client.infer, "e", [text("text_input", "x")],
            outputs=[triton.InferRequestedOutput("text_output")])
    refused("INVALID_ARGUMENT", "empty", client.infer, "e", [text("text_input", "")])
    client.unload_model("e")


def shape_of(field):
    """What decides how a field is written on the wire, and how code names it."""
    return (field.name, field.number, field.type, field.is_repeated, bool(field.containing_oneof))


def descriptors(_client, _answers, path):
    """Every message and method of the server is as Triton's client has it."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as file:
        files.ParseFromString(file.read())
    from google.protobuf import descriptor_pool

    ours = descriptor_pool.DescriptorPool()
    for file in files.file:
        ours.Add(file)
    theirs = service_pb2.DESCRIPTOR.pool
    compared = 0

    def compare(name):
        nonlocal compared
        own, other = ours.FindMessageTypeByName(name), theirs.FindMessageTypeByName(name)
        for field in own.fields:
            known = other.fields_by_number[field.number]
            equal((name, shape_of(field)), (name, shape_of(known)))
            equal(field.message_type and field.message_type.full_name, known.message_type and known.message_type.full_name)
            if field.enum_type:
                values = {value.name: value.number for value in known.enum_type.values}
                equal({value.name: value.number for value in field.enum_type.values}, values)
            compared += 1
        for nested in own.nested_types:
            compare(nested.full_name)

    for file in files.file:
        for message in file.message_type:
            compare(f"inference.{message.name}")
    service = ours.FindServiceByName("inference.GRPCInferenceService")
    known = theirs.FindServiceByName("inference.GRPCInferenceService").methods_by_name
    for method in service.methods:
        other = known[method.name]
        equal(method.input_type.full_name, other.input_type.full_name)
        equal(method.output_type.full_name, other.output_type.full_name)
        equal(
            (method.client_streaming, method.server_streaming), (other.client_streaming, other.server_streaming)
        )
    equal((compared > 100, len(service.methods)), (True, 12))


CHECKS = {check.__name__: check for check in (life, infer, stream, embed, errors, descriptors)}


if __name__ == "__main__":
    name, address, answers, path = sys.argv[1:]
    with open(answers) as file:
        taught = json.load(file)
    with triton.InferenceServerClient(address) as client:
        try:
            CHECKS[name](client, taught, path)
        except grpc.RpcError as error:
            sys.exit(f"{error.code()}: {error.details()}")
    print("ok")
