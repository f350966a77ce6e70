"""A client that is told nothing but a server's address: everything else it learns by reflection."""

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

DEADLINE = 60


class Server:
    """A server, as its reflection describes it. Messages are dicts with the names of the protos."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        # A pool of its own: nothing of what this machine's packages know gets into it.
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        """Names of the services."""
        return sorted(self.database.get_services())

    def methods(self):
        """Names of all methods, as in `package.Service/Method`."""
        services = (self.pool.FindServiceByName(name) for name in self.services())
        return sorted(f"{s.full_name}/{m.name}" for s in services for m in s.methods)

    def call(self, method, request):
        """Calls a method. Gives its response, or an iterator of responses that can be cancelled."""
        service, _, name = method.rpartition("/")
        described = self.pool.FindServiceByName(service).methods_by_name[name]
        message = message_factory.GetMessageClass(described.input_type)()
        json_format.ParseDict(request, message, descriptor_pool=self.pool)
        make = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        call = make(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        answer = call(message, timeout=DEADLINE)
        return Responses(self, answer) if described.server_streaming else self.read(answer)

    def read(self, message):
        """A message as a dict."""
        return json_format.MessageToDict(
            message, preserving_proto_field_name=True, descriptor_pool=self.pool
        )

    def details(self, error):
        """The details of an error by the names of their types, described by the server too."""
        status = rpc_status.from_call(error)
        details = {}
        for detail in status.details if status else ():
            name = detail.type_url.rpartition("/")[2]
            described = self.pool.FindMessageTypeByName(name)
            message = message_factory.GetMessageClass(described).FromString(detail.value)
            details[name] = self.read(message)
        return details


class Responses:
    """The responses of a stream."""

    def __init__(self, server, call):
        self.server = server
        self.call = call

    def __iter__(self):
        return self

    def __next__(self):
        return self.server.read(next(self.call))

    def cancel(self):
        """Ends the stream."""
        self.call.cancel()
